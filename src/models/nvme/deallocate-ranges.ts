/** The ranges of Dataset Management (NVMe 1.4, 6.7.1), as they were read from the host. */
import type { Namespace } from './namespace.ts';

/** Context attributes, length in blocks, starting LBA. */
export const RANGE_BYTES = 16;

export class DeallocateRanges {
  /**
   * `read` sets the span of all ranges, in bytes of the storage: [first, end); 0 and 0 without
   * blocks.
   */
  first = 0.5;
  end = 0.5;
  count = 0;
  readonly #offsets = new Float64Array(256);
  readonly #sizes = new Float64Array(256);

  /**
   * Read up to 256 ranges from `data`, and skip those without blocks. False: a range does not lie
   * in the namespace.
   */
  read(data: Uint8Array, namespace: Namespace): boolean {
    this.count = 0;
    this.first = Number.POSITIVE_INFINITY;
    this.end = 0;
    for (let at = 0; at < data.length; at += RANGE_BYTES) {
      const blocks = word(data, at + 4);
      const high = word(data, at + 12);
      const start = word(data, at + 8) + high * 2 ** 32;
      // From 2^53 on the sum is not exact, but exceeds every namespace anyway.
      if (start + blocks > namespace.blocks) return false;
      if (blocks === 0) continue;
      const offset = start * namespace.blockSize;
      const size = blocks * namespace.blockSize;
      this.#offsets[this.count] = offset;
      this.#sizes[this.count++] = size;
      this.first = Math.min(this.first, offset);
      this.end = Math.max(this.end, offset + size);
    }
    if (this.count === 0) this.first = 0;
    return true;
  }

  /** Of the first byte on the storage. */
  offset(index: number): number {
    return this.#offsets[index]!;
  }

  /** Bytes. */
  size(index: number): number {
    return this.#sizes[index]!;
  }
}

function word(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}
