/**
 * The memory of one queue: a ring of entries at an I/O address, physically contiguous (NVMe 1.4,
 * CAP.CQR).
 */
import type { DmaPort, Iova } from '../../abi/device-host.ts';
import type { Access } from '../../abi/memory.ts';

/** Entries from index `from` to index `to` of a ring of `size`. */
export function entriesFrom(from: number, to: number, size: number): number {
  const n = to - from;
  return n < 0 ? n + size : n;
}

/** The index behind `index` in a ring of `size` entries. */
export function nextIndex(index: number, size: number): number {
  return index + 1 === size ? 0 : index + 1;
}

export class Ring {
  readonly iova: Iova;
  /** Entries, and bytes of each. */
  readonly size: number;
  readonly entry: number;
  readonly #dma: DmaPort;
  readonly #access: Access;
  #words: Uint32Array | null = null;
  #epoch = 0;

  constructor(dma: DmaPort, iova: Iova, size: number, entry: number, access: Access) {
    // A ring that crosses 2^53, where doubles are no longer exact, uses bigints.
    this.iova = typeof iova === 'number' && iova + size * entry > Number.MAX_SAFE_INTEGER ? BigInt(iova) : iova;
    this.size = size;
    this.entry = entry;
    this.#dma = dma;
    this.#access = access;
  }

  /**
   * The whole ring as dwords, when it is directly mapped in one piece; else null, and the caller
   * copies entries. The caller must not keep the view.
   */
  words(): Uint32Array | null {
    if (this.#words !== null && this.#epoch === this.#dma.epoch) return this.#words;
    return this.#look();
  }

  /** Of entry `index`. */
  at(index: number): Iova {
    const { iova } = this;
    return typeof iova === 'number' ? iova + index * this.entry : iova + BigInt(index * this.entry);
  }

  #look(): Uint32Array | null {
    const bytes = this.size * this.entry;
    const view = this.#dma.view(this.iova, bytes, this.#access);
    this.#epoch = this.#dma.epoch;
    this.#words = view === null || view.byteOffset % 4 !== 0 ? null : new Uint32Array(view.buffer, view.byteOffset, bytes >>> 2);
    return this.#words;
  }
}
