/** Files and pipes at the other end of a copy. */
import { constants, fstatSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { Readable, Writable } from 'node:stream';
import { VfioError } from '../../base/errno.ts';
import { fromNode } from '../../sys/system-error.ts';
import type { Sink, Source } from './copy.ts';

/** A source, and how much it has where that is known. */
export interface OpenedSource extends Source, AsyncDisposable {
  readonly name: string;
  /** Bytes; null for a pipe. */
  readonly size: number | null;
}

export interface OpenedSink extends Sink, AsyncDisposable {
  readonly name: string;
}

/**
 * `path`, or standard input for `-`.
 *
 * @throws VfioError EINVAL when that is a terminal; ENOENT, EACCES …
 */
export async function openSource(path: string): Promise<OpenedSource> {
  if (path !== '-') return await FileSource.open(path);
  if (process.stdin.isTTY === true) {
    throw new VfioError('EINVAL', 'standard input is a terminal', { fix: 'Give --input FILE, or redirect: … < disk.img' });
  }
  const stat = fstatSync(0);
  return new StreamSource('standard input', process.stdin, stat.isFile() ? stat.size : null);
}

/**
 * `path`, made anew, or standard output for `-`.
 *
 * @throws VfioError EINVAL when that is a terminal; EACCES …
 */
export async function openSink(path: string): Promise<OpenedSink> {
  refuseTerminal(path);
  if (path !== '-') return await FileSink.open(path);
  return new StreamSink('standard output', process.stdout);
}

/**
 * @param data that would be written
 * @throws VfioError EINVAL when `path` is `-`, and that is a terminal
 */
export function refuseTerminal(path: string, data = 'blocks of a disk'): void {
  if (path !== '-' || process.stdout.isTTY !== true) return;
  throw new VfioError('EINVAL', `standard output is a terminal, which ${data} would upset`, {
    fix: 'Give --output FILE, or redirect: … > FILE',
  });
}

class FileSource implements OpenedSource {
  readonly name: string;
  readonly size: number | null;
  readonly #file: FileHandle;
  #at = 0;

  private constructor(name: string, file: FileHandle, size: number | null) {
    this.name = name;
    this.#file = file;
    this.size = size;
  }

  static async open(path: string): Promise<FileSource> {
    const file = await opened(path, 'r');
    const stat = await file.stat();
    if (!stat.isDirectory()) return new FileSource(path, file, stat.isFile() ? stat.size : null);
    await file.close();
    throw new VfioError('EINVAL', `${path} is a directory`);
  }

  async read(into: Uint8Array): Promise<number> {
    let done = 0;
    while (done < into.length) {
      // By position where the file has one: two reads of one file may then be under way.
      const { bytesRead } = await this.#file.read(into, done, into.length - done, this.size === null ? null : this.#at);
      if (bytesRead === 0) break;
      done += bytesRead;
      this.#at += bytesRead;
    }
    return done;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}

export class StreamSource implements OpenedSource {
  readonly name: string;
  readonly size: number | null;
  readonly #stream: Readable;
  readonly #chunks: AsyncIterator<Uint8Array>;
  #rest: Uint8Array = new Uint8Array(0);

  constructor(name: string, stream: Readable, size: number | null) {
    this.name = name;
    this.size = size;
    this.#stream = stream;
    this.#chunks = stream[Symbol.asyncIterator]();
  }

  async read(into: Uint8Array): Promise<number> {
    let done = 0;
    while (done < into.length) {
      if (this.#rest.length === 0) {
        const next = await this.#chunks.next();
        if (next.done === true) break;
        this.#rest = next.value;
      }
      const part = this.#rest.subarray(0, into.length - done);
      into.set(part, done);
      done += part.length;
      this.#rest = this.#rest.subarray(part.length);
    }
    return done;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stream.destroy();
  }
}

/** Where the file has holes anyway, zeroes are one more: an image of a disk is mostly empty. */
class FileSink implements OpenedSink {
  readonly name: string;
  readonly #file: FileHandle;
  readonly #isRegular: boolean;
  #at = 0;

  private constructor(name: string, file: FileHandle, isRegular: boolean) {
    this.name = name;
    this.#file = file;
    this.#isRegular = isRegular;
  }

  static async open(path: string): Promise<FileSink> {
    const file = await opened(path, constants.O_WRONLY | constants.O_CREAT);
    try {
      const stat = await file.stat();
      // Blocks of a disk are for its owner. A pipe or a block device stays as it is.
      if (stat.isFile() && (stat.mode & 0o077) !== 0) await file.chmod(0o600);
      if (stat.isFile()) await file.truncate(0);
      return new FileSink(path, file, stat.isFile());
    } catch (cause) {
      await file.close();
      throw fromNode(cause, `${path} cannot be closed to other users`);
    }
  }

  async write(bytes: Uint8Array): Promise<void> {
    const done = this.#isRegular && isZero(bytes) ? bytes.length : 0;
    this.#at += done;
    for (let at = done; at < bytes.length; ) {
      const { bytesWritten } = await this.#tried(this.#file.write(bytes, at, bytes.length - at, this.#isRegular ? this.#at : null));
      at += bytesWritten;
      this.#at += bytesWritten;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      if (this.#isRegular) await this.#tried(this.#file.truncate(this.#at));
    } finally {
      await this.#file.close();
    }
  }

  async #tried<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (cause) {
      throw fromNode(cause, `${this.name} cannot be written`);
    }
  }
}

const zeroes = new Uint8Array(0x1_0000);

function isZero(bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.length; at += zeroes.length) {
    const part = bytes.subarray(at, at + zeroes.length);
    if (Buffer.compare(part, zeroes.subarray(0, part.length)) !== 0) return false;
  }
  return true;
}

export class StreamSink implements OpenedSink {
  readonly name: string;
  readonly #stream: Writable;

  constructor(name: string, stream: Writable) {
    this.name = name;
    this.#stream = stream;
    // `write` rejects with the error; without a listener the error would end the process as well.
    stream.on('error', () => {});
  }

  write(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      const failed = (error: unknown) => reject(fromNode(error, `${this.name} cannot be written`));
      try {
        this.#stream.write(bytes, (error) => (error == null ? resolve() : failed(error)));
      } catch (error) {
        // Standard output that is a file is written at once: some versions of Node throw there.
        failed(error);
      }
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

async function opened(path: string, flags: string | number): Promise<FileHandle> {
  try {
    return await open(path, flags, 0o600);
  } catch (cause) {
    throw fromNode(cause, `${path} cannot be opened`);
  }
}
