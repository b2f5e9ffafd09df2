/**
 * A recording of a computer in a file: an archive, or text. Compressed ones are decompressed by
 * zlib or by the program of their format.
 */
import { spawn } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { VfioError } from '../base/errno.ts';
import type { FileEntry } from './memory-files.ts';
import { fromNode } from './system-error.ts';
import { TarReader } from './tar.ts';

/** Bytes of a text that are read at most. */
const MAX_TEXT = 64 * 2 ** 20;
/** Bytes that an archive may have when it is decompressed: a bound for archives that are a trap. */
const MAX_DECOMPRESSED = 32 * 2 ** 30;

export type Recording = { readonly text: string } | { readonly entries: ReadonlyMap<string, FileEntry> };

interface Format {
  readonly name: string;
  readonly magic: readonly number[];
  /** Null: zlib has it. */
  readonly program: string | null;
}

const formats: readonly Format[] = [
  { name: 'gzip', magic: [0x1f, 0x8b], program: null },
  { name: 'xz', magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], program: 'xz' },
  { name: 'bzip2', magic: [0x42, 0x5a, 0x68], program: 'bzip2' },
  { name: 'zstd', magic: [0x28, 0xb5, 0x2f, 0xfd], program: 'zstd' },
];

/**
 * The content of a file, of standard input for `-`.
 *
 * @param wanted of an archive, the paths that are kept
 * @throws VfioError ENOENT, EACCES and other errors of reading; EINVAL for an archive that is none;
 * EFBIG for one that is too large; ENOENT with the name of the program that decompresses it
 */
export async function readRecording(path: string, wanted: (path: string) => boolean): Promise<Recording> {
  const name = path === '-' ? 'standard input' : path;
  try {
    const file = peeked(path === '-' ? process.stdin : createReadStream(path));
    const first = await file.first();
    const format = formats.find(({ magic }) => magic.every((byte, i) => first[i] === byte));
    if (format === undefined) return await contentOf(name, file.all(), wanted);
    const plain = format.program === null ? file.stream().pipe(createGunzip()) : throughProgram(format.program, file.stream(), name);
    return await contentOf(name, plain, wanted);
  } catch (error) {
    if (error instanceof VfioError) throw error;
    if (error instanceof Error && 'code' in error && String(error.code).startsWith('Z_')) {
      throw new VfioError('EINVAL', `${name} is damaged: ${error.message}`, { cause: error });
    }
    throw fromNode(error, `the recording ${name} cannot be read`);
  }
}

/** A stream whose first bytes can be seen before it is read. */
function peeked(stream: Readable) {
  const iterator = (stream as AsyncIterable<Uint8Array>)[Symbol.asyncIterator]();
  const seen: Uint8Array[] = [];
  async function* all(): AsyncGenerator<Uint8Array, void, void> {
    yield* seen;
    for (;;) {
      const next = await iterator.next();
      if (next.done === true) return;
      yield next.value;
    }
  }
  return {
    async first(): Promise<Uint8Array> {
      const next = await iterator.next();
      if (next.done !== true) seen.push(next.value);
      return seen[0] ?? new Uint8Array(0);
    },
    all,
    stream: () => Readable.from(all()),
  };
}

async function* throughProgram(program: string, input: Readable, name: string): AsyncGenerator<Uint8Array, void, void> {
  const child = spawn(program, ['-dc'], { stdio: ['pipe', 'pipe', 'pipe'] });
  const exited = new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  // The iteration below reports it.
  exited.catch(() => {});
  let said = '';
  child.stderr.on('data', (bytes: Buffer) => {
    said = (said + bytes.toString()).slice(0, 400);
  });
  // A program that has ended closes its pipe, and says why by its exit.
  child.stdin.on('error', () => {});
  input.on('error', () => child.stdin.destroy());
  input.pipe(child.stdin);
  try {
    for await (const bytes of child.stdout as AsyncIterable<Uint8Array>) yield bytes;
    const code = await exited;
    if (code !== 0)
      throw new VfioError('EINVAL', `${name} is damaged: ${program} ends with ${code}${said === '' ? '' : ` (${said.trim()})`}`);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') {
      throw new VfioError('ENOENT', `${name} is compressed by ${program}, which is not installed`, {
        cause: error,
        fix: `Install ${program}, or give an unpacked folder.`,
      });
    }
    throw error;
  } finally {
    child.kill();
  }
}

async function contentOf(name: string, bytes: AsyncIterable<Uint8Array>, wanted: (path: string) => boolean): Promise<Recording> {
  let tar: TarReader | null = null;
  let begun = Buffer.alloc(0);
  let total = 0;
  let decided = false;
  const pieces: Uint8Array[] = [];
  for await (const piece of bytes) {
    total += piece.length;
    if (total > MAX_DECOMPRESSED) throw new VfioError('EFBIG', `${name} is larger than ${MAX_DECOMPRESSED} bytes`);
    if (tar !== null) {
      tar.push(piece);
      if (tar.ended) break;
      continue;
    }
    pieces.push(piece);
    if (!decided) {
      begun = Buffer.concat([begun, piece]);
      if (begun.length < 512) continue;
      decided = true;
      if (begun.toString('latin1', 257, 262) === 'ustar') {
        tar = new TarReader(name, wanted);
        tar.push(begun);
        pieces.length = 0;
        continue;
      }
    }
    if (total > MAX_TEXT) throw new VfioError('EFBIG', `${name} is larger than the ${MAX_TEXT} bytes that a text may have`);
  }
  if (tar !== null) return { entries: tar.end() };
  return { text: new TextDecoder('utf-8').decode(Buffer.concat(pieces)) };
}
