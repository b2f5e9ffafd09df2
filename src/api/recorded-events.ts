/** Events that were recorded as JSON lines, read back. */
import { accessSync, constants, createReadStream, statSync } from 'node:fs';
import { open as openFile } from 'node:fs/promises';
import type { VfioEvent } from '../abi/event.ts';
import { withoutCompression } from '../base/compressed-name.ts';
import { text } from '../base/declared.ts';
import { VfioError } from '../base/errno.ts';
import { formatOfName } from '../events/printers/format-files.ts';
import { JsonLinesReader } from '../events/printers/json-lines-reader.ts';
import type { StreamAbout } from '../events/printers/printer.ts';
import { compressionOf } from '../sys/compression.ts';
import { fromNode } from '../sys/system-error.ts';

/** Between two looks at a file that is followed. */
const LOOK_MS = 100;
const CHUNK = 65_536;

/** How a recording is read. */
export interface RecordedOptions {
  /**
   * At the end of the file wait for more, until this is aborted. A file that another program
   * replaces or empties is not read anew.
   */
  readonly follow?: AbortSignal;
}

/**
 * The events of a recording, in order. It is read as the loop asks for them: its size does not
 * matter.
 */
export class RecordedEvents implements AsyncIterable<VfioEvent> {
  readonly #name: string;
  readonly #open: () => AsyncIterable<Uint8Array>;
  readonly #reader = new JsonLinesReader();

  /** `readEvents` makes it. */
  constructor(name: string, open: () => AsyncIterable<Uint8Array>) {
    this.#name = name;
    this.#open = open;
  }

  /** The program that wrote it, and when. Known with the first event; null before it. */
  get about(): StreamAbout | null {
    return this.#reader.about;
  }

  /**
   * The last event breaks off, as a killed program leaves it, and is left out. Known at the end.
   */
  get cut(): boolean {
    return this.#reader.cut;
  }

  /** Events and fields of a later version, which are left out. */
  get skipped(): { readonly events: number; readonly fields: number } {
    return this.#reader.skipped;
  }

  /** @throws VfioError EINVAL where it is no recording, with file and line; EIO */
  async *[Symbol.asyncIterator](): AsyncGenerator<VfioEvent, void, void> {
    try {
      let empty = true;
      for await (const chunk of this.#open()) {
        empty &&= chunk.length === 0;
        yield* this.#reader.read(chunk);
      }
      if (empty) throw new VfioError('EINVAL', 'it is empty', { fix: 'Give a file that was recorded as JSON lines (.jsonl).' });
      yield* this.#reader.end();
      if (this.about === null) throw new VfioError('EINVAL', 'it breaks off in its first line, before any event');
    } catch (cause) {
      throw this.#named(cause);
    }
  }

  #named(cause: unknown): unknown {
    if (cause instanceof VfioError)
      return new VfioError(cause.code, `${this.#name}: ${cause.message}`, { ...(cause.fix === undefined ? {} : { fix: cause.fix }) });
    if ((cause as { code?: string }).code?.match(/^Z(STD)?_/) != null) {
      return new VfioError('EINVAL', `${this.#name} is no file that was compressed as its name says`, { cause });
    }
    return fromNode(cause, `${this.#name} cannot be read`);
  }
}

/**
 * Read a recording of events: JSON lines, also compressed (`.gz`, `.zst`).
 *
 * @param path a file, a named pipe, or `-` for standard input
 * @throws VfioError ENOENT, EACCES, EISDIR; EINVAL for a format that cannot be read back;
 *   EOPNOTSUPP for `.zst` before Node 22.15. Errors in the recording come with its events.
 */
export function readEvents(path: string, { follow }: RecordedOptions = {}): RecordedEvents {
  text(path, 'the path of readEvents');
  const compression = compressionOf(path);
  refuseOtherFormats(withoutCompression(path), path);
  if (follow !== undefined && compression !== null) {
    throw new VfioError('EINVAL', `${path} is compressed and cannot be followed`, { fix: 'Record it as .jsonl.' });
  }
  if (path === '-') return new RecordedEvents('standard input', () => process.stdin);
  const isFile = checkReadable(path);
  if (follow !== undefined && isFile) return new RecordedEvents(path, () => following(path, follow));
  const decompress = compression?.decompressor() ?? ((file: AsyncIterable<Uint8Array>) => file);
  return new RecordedEvents(path, () => decompress(createReadStream(path, { highWaterMark: CHUNK })));
}

function refuseOtherFormats(plain: string, path: string): void {
  const format = formatOfName(plain);
  if (format === null || format === 'jsonl') return;
  throw new VfioError('EINVAL', `${path} cannot be read back: its format, ${format}, is for other programs`, {
    fix: 'Record as .jsonl, which converts to all formats.',
  });
}

/** @returns whether it is a file, and no pipe */
function checkReadable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    const stat = statSync(path);
    if (stat.isDirectory()) throw new VfioError('EISDIR', `${path} is a directory`);
    return stat.isFile();
  } catch (cause) {
    throw fromNode(cause, `${path} cannot be read`);
  }
}

/** The bytes of a file that grows. */
async function* following(path: string, signal: AbortSignal): AsyncGenerator<Uint8Array, void, void> {
  await using file = await openFile(path);
  const bytes = new Uint8Array(CHUNK);
  while (true) {
    const { bytesRead } = await file.read(bytes);
    if (bytesRead > 0) yield bytes.subarray(0, bytesRead);
    else if (signal.aborted) return;
    else await look(signal);
  }
}

function look(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, LOOK_MS);
    signal.addEventListener('abort', done);
  });
}
