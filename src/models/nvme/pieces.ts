/**
 * Where the data of one command lies in memory: pieces (I/O address, bytes) in order, in arrays
 * that are reused.
 */
import type { Iova } from '../../abi/device-host.ts';

/**
 * A PRP list within MDTS has fewer; the controller refuses an SGL of more pieces
 * (`Invalid Number of SGL Descriptors`).
 */
export const PIECES_MAX = 16_384;
/** 128 KiB in pages of 4 KiB, not aligned: what most drivers send at most. */
const USUAL = 33;
const TWO32 = 2 ** 32;

export class Pieces {
  /** Pieces held. */
  count = 0;
  /** Bytes of all of them together. */
  bytes = 0;
  #low = new Uint32Array(USUAL);
  #high = new Uint32Array(USUAL);
  #size = new Uint32Array(USUAL);
  /** 1: a bit bucket; these bytes go nowhere (4.4). */
  #bucket = new Uint8Array(USUAL);

  clear(): void {
    this.count = 0;
    this.bytes = 0;
  }

  /**
   * Append `size` bytes, at least 1, at the address high:low. A piece that begins where the last
   * one ends joins it. False: the array is full.
   */
  add(low: number, high: number, size: number): boolean {
    const last = this.count - 1;
    if (last >= 0 && this.#bucket[last] === 0) {
      const end = this.#low[last] + this.#size[last];
      if (end < TWO32 ? end === low && this.#high[last] === high : end - TWO32 === low && this.#high[last] + 1 === high) {
        this.#size[last] += size;
        this.bytes += size;
        return true;
      }
    }
    if (this.count === this.#low.length && !this.#grow()) return false;
    const at = this.count++;
    this.#low[at] = low;
    this.#high[at] = high;
    this.#size[at] = size;
    this.#bucket[at] = 0;
    this.bytes += size;
    return true;
  }

  /** Append a bit bucket of `size` bytes. */
  addBucket(size: number): boolean {
    if (this.count === this.#low.length && !this.#grow()) return false;
    const at = this.count++;
    this.#size[at] = size;
    this.#bucket[at] = 1;
    this.bytes += size;
    return true;
  }

  size(index: number): number {
    return this.#size[index]!;
  }

  isBucket(index: number): boolean {
    return this.#bucket[index] === 1;
  }

  /** A number below 2^53, a bigint from there on. */
  iova(index: number): Iova {
    return iovaOf(this.#low[index]!, this.#high[index]!);
  }

  /** Whether every piece is a multiple of `unit` bytes, a power of two. */
  allMultiplesOf(unit: number): boolean {
    for (let i = 0; i < this.count; i++) if ((this.#size[i]! & (unit - 1)) !== 0) return false;
    return true;
  }

  #grow(): boolean {
    if (this.count >= PIECES_MAX) return false;
    const capacity = Math.min(PIECES_MAX, 2 * this.count);
    const grown = <A extends Uint32Array | Uint8Array>(from: A, to: A): A => {
      to.set(from);
      return to;
    };
    this.#low = grown(this.#low, new Uint32Array(capacity));
    this.#high = grown(this.#high, new Uint32Array(capacity));
    this.#size = grown(this.#size, new Uint32Array(capacity));
    this.#bucket = grown(this.#bucket, new Uint8Array(capacity));
    return true;
  }
}

/** The address high:low as `DmaPort` takes it, without a bigint where a double is exact. */
export function iovaOf(low: number, high: number): Iova {
  return high < 0x20_0000 ? high * TWO32 + low : (BigInt(high) << 32n) | BigInt(low);
}
