/** The memory of a queue's descriptors: 16 bytes each, at an I/O address (7.1.8, 7.2.3). */
import { Dma, type DmaPort, type Iova } from '../../../abi/device-host.ts';
import { Access } from '../../../abi/memory.ts';

export const DESCRIPTOR = 16;
export const WORDS = DESCRIPTOR / 4;
/** Descriptors of remote memory that one message brings. */
export const AHEAD_MAX = 64;
const TWO32 = 2 ** 32;
/** An address whose upper half is below it is a number that doubles hold, with a ring behind it. */
const HIGH_MAX = 2 ** 21 - 1;

/** The address of two halves: a number where doubles hold it. */
export function iovaOf(low: number, high: number): Iova {
  return high < HIGH_MAX ? high * TWO32 + low : (BigInt(high) << 32n) | BigInt(low);
}

/** `bytes` behind `iova`. An address beyond 64 bits is no address, and faults. */
export function behind(iova: Iova, bytes: number): Iova {
  return typeof iova === 'number' ? iova + bytes : iova + BigInt(bytes);
}

export class DescriptorRing {
  /** Entries; 0: there is no ring. */
  size = 0;
  /** The descriptor that `fetch` has read. */
  readonly entry = new Uint32Array(WORDS);
  readonly #entryBytes = new Uint8Array(this.entry.buffer);
  #iova: Iova = 0;
  #dma: DmaPort | null = null;
  #words: Uint32Array | null = null;
  #epoch = 0;
  /** Descriptors that a message has brought: `#aheadCount` of them from index `#aheadFrom` on. */
  #ahead: Uint32Array | null = null;
  #aheadFrom = 0;
  #aheadAt = 0;
  #aheadCount = 0;

  /** @param dma null: the function of this queue is not there */
  configure(dma: DmaPort | null, low: number, high: number, bytes: number): void {
    this.#dma = dma;
    this.size = dma === null ? 0 : bytes / DESCRIPTOR;
    this.#iova = iovaOf(low, high);
    this.#words = null;
    this.#epoch = -1;
    this.drop();
  }

  /** Descriptors that were brought ahead are forgotten. */
  drop(): void {
    this.#ahead = null;
    this.#aheadCount = 0;
  }

  /**
   * The whole ring, when it is directly mapped in one piece; else null. The caller must not keep
   * the view.
   */
  words(): Uint32Array | null {
    const dma = this.#dma;
    if (dma === null) return null;
    if (this.#epoch === dma.epoch) return this.#words;
    const bytes = this.size * DESCRIPTOR;
    const view = bytes === 0 ? null : dma.view(this.#iova, bytes, Access.READ_WRITE);
    this.#epoch = dma.epoch;
    this.#words = view === null || view.byteOffset % 4 !== 0 ? null : new Uint32Array(view.buffer, view.byteOffset, bytes >>> 2);
    return this.#words;
  }

  at(index: number): Iova {
    return behind(this.#iova, index * DESCRIPTOR);
  }

  /** Reads the descriptor `index` into `entry`, from memory that is not mapped in one piece. */
  fetch(index: number): Dma {
    if (this.#aheadCount > 0 && index === this.#aheadFrom) {
      this.entry.set(this.#ahead!.subarray(this.#aheadAt * WORDS, (this.#aheadAt + 1) * WORDS));
      return Dma.DONE;
    }
    return this.#dma === null ? Dma.FAULT : this.#dma.tryRead(this.at(index), this.#entryBytes);
  }

  /** Whether descriptor `index` was brought ahead. */
  has(index: number): boolean {
    return this.#aheadCount > 0 && index === this.#aheadFrom;
  }

  /** The descriptor that `fetch` has read from those brought ahead is used. */
  next(): void {
    if (this.#aheadCount === 0) return;
    this.#aheadCount--;
    this.#aheadAt++;
    this.#aheadFrom = this.#aheadFrom + 1 === this.size ? 0 : this.#aheadFrom + 1;
    if (this.#aheadCount === 0) this.#ahead = null;
  }

  /** Reads `count` descriptors of remote memory, over the end of the ring too. @throws DmaFault */
  async read(index: number, count: number): Promise<Uint32Array> {
    const bytes = new Uint8Array(count * DESCRIPTOR);
    const straight = Math.min(count, this.size - index) * DESCRIPTOR;
    await this.#dma!.read(this.at(index), bytes.subarray(0, straight));
    if (straight < bytes.length) await this.#dma!.read(this.at(0), bytes.subarray(straight));
    return new Uint32Array(bytes.buffer);
  }

  /** Writes them back. @throws DmaFault */
  async write(index: number, words: Uint32Array, count: number): Promise<void> {
    const straight = Math.min(count, this.size - index) * DESCRIPTOR;
    const bytes = new Uint8Array(words.buffer, 0, count * DESCRIPTOR);
    await this.#dma!.write(this.at(index), bytes.subarray(0, straight));
    if (straight < bytes.length) await this.#dma!.write(this.at(0), bytes.subarray(straight));
  }

  /** These descriptors were brought ahead. */
  bring(index: number, words: Uint32Array): void {
    this.#ahead = words;
    this.#aheadFrom = index;
    this.#aheadAt = 0;
    this.#aheadCount = words.length / WORDS;
  }
}
