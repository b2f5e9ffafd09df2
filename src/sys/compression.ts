/**
 * Compressed files that are written piece by piece. A file that breaks off behind a piece, as a
 * killed process leaves it, decompresses to all pieces before.
 */
import { Readable, type Transform } from 'node:stream';
import * as zlib from 'node:zlib';
import { type CompressedEnding, compressedEnding } from '../base/compressed-name.ts';
import { VfioError } from '../base/errno.ts';
import { ZstdFrames } from './zstd-frames.ts';

export interface Compressor {
  /** The piece, compressed; with the first one the beginning of the file. */
  piece(bytes: Uint8Array): Uint8Array;
  /** The end of the file. */
  end(): Uint8Array;
}

export interface Compression {
  /** @throws VfioError EOPNOTSUPP when this version of Node cannot */
  compressor(): Compressor;
  /**
   * Decompresses files, also those that break off.
   *
   * @throws VfioError EOPNOTSUPP when this version of Node cannot
   */
  decompressor(): (file: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>;
}

/** The part of node:zlib that came with Node 22.15. */
interface Zstd {
  readonly zstdCompressSync?: (bytes: Uint8Array) => Uint8Array;
  readonly createZstdDecompress?: (options: { readonly finishFlush: number }) => Transform;
  readonly constants: { readonly ZSTD_e_flush?: number };
}

const compressions: { readonly [E in CompressedEnding]: Compression } = {
  '.gz': {
    compressor: () => new GzipCompressor(),
    decompressor: () => (file) => through(file, zlib.createGunzip({ finishFlush: zlib.constants.Z_SYNC_FLUSH })),
  },
  '.zst': {
    compressor() {
      const { zstdCompressSync } = withZstd();
      // A file may consist of several frames.
      return { piece: (bytes) => zstdCompressSync(bytes), end: () => new Uint8Array(0) };
    },
    decompressor() {
      const { createZstdDecompress, constants } = withZstd();
      return (file) => framesThrough(file, () => createZstdDecompress({ finishFlush: constants.ZSTD_e_flush! }));
    },
  },
};

/** The compression that the ending of a name says; null: none. */
export function compressionOf(path: string): Compression | null {
  const ending = compressedEnding(path);
  return ending === null ? null : compressions[ending];
}

function through(file: AsyncIterable<Uint8Array>, decompressor: Transform): AsyncIterable<Uint8Array> {
  const input = Readable.from(file);
  input.on('error', (error) => decompressor.destroy(error));
  decompressor.on('close', () => input.destroy());
  return input.pipe(decompressor);
}

async function* framesThrough(file: AsyncIterable<Uint8Array>, make: () => Transform): AsyncGenerator<Uint8Array, void, void> {
  const frames = new ZstdFrames(file);
  while (await frames.more()) yield* through(frames.parts(), make());
}

function withZstd(): Required<Zstd> {
  const { zstdCompressSync, createZstdDecompress, constants } = zlib as unknown as Zstd;
  if (zstdCompressSync !== undefined && createZstdDecompress !== undefined) return { zstdCompressSync, createZstdDecompress, constants };
  throw new VfioError('EOPNOTSUPP', `Node ${process.versions.node} has no zstd: it came with Node 22.15`, {
    fix: 'Use .gz in place of .zst.',
  });
}

/** RFC 1952: deflate, no flags, no time, any operating system. */
const HEADER = Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255);
/** RFC 1951: a last block without bytes. */
const LAST_BLOCK = Uint8Array.of(3, 0);
/** Deflate refers back to so many bytes. */
const WINDOW = 32_768;

/**
 * One gzip member. Node's streams compress in a thread and give a piece later; here each piece is
 * there at once, flushed to a byte, with the bytes before it as dictionary.
 */
class GzipCompressor implements Compressor {
  #begun = false;
  #window: Uint8Array = new Uint8Array(0);
  #crc = 0;
  #size = 0;

  piece(bytes: Uint8Array): Uint8Array {
    if (bytes.length === 0) return this.#begin();
    const options = { finishFlush: zlib.constants.Z_SYNC_FLUSH, level: 3 };
    const deflated = zlib.deflateRawSync(bytes, this.#window.length === 0 ? options : { ...options, dictionary: this.#window });
    this.#crc = zlib.crc32(bytes, this.#crc);
    this.#size = (this.#size + bytes.length) >>> 0;
    this.#window = Buffer.concat([this.#window, bytes]).subarray(-WINDOW);
    return Buffer.concat([this.#begin(), deflated]);
  }

  #begin(): Uint8Array {
    if (this.#begun) return new Uint8Array(0);
    this.#begun = true;
    return HEADER;
  }

  end(): Uint8Array {
    const tail = Buffer.alloc(8);
    tail.writeUInt32LE(this.#crc, 0);
    tail.writeUInt32LE(this.#size, 4);
    return Buffer.concat([this.#begin(), LAST_BLOCK, tail]);
  }
}
