/**
 * A bitmap of dirty pages, in pieces: a range may be as long as the address space, and memory for
 * its bits is never needed at once.
 *
 * @see linux/drivers/iommu/iommufd/iova_bitmap.c
 */
import type { DirtyPages } from '../../hardware/dirty-pages.ts';
import { IOMMU_UNIT } from '../../hardware/iommu-domain.ts';

/** Gets the bits of a piece, `offset` bytes into the bitmap: bits that are set there stay. */
export type DirtySink = (offset: number, bits: Uint8Array) => void;

/** Bytes of a piece. */
const PIECE = 4096;

export class DirtyReport {
  readonly #dirty: DirtyPages;
  readonly #sink: DirtySink;
  /** Pages that a bit stands for, and bits that a page has: one of them is 1. */
  readonly #pagesOfBit: number;
  readonly #bitsOfPage: number;
  readonly #piece = new Uint8Array(PIECE);
  readonly #pages = new Uint8Array(PIECE);

  /** @param bytesOfBit a power of two */
  constructor(dirty: DirtyPages, bytesOfBit: number, sink: DirtySink) {
    this.#dirty = dirty;
    this.#sink = sink;
    this.#pagesOfBit = Math.max(1, bytesOfBit / IOMMU_UNIT);
    this.#bitsOfPage = Math.max(1, IOMMU_UNIT / bytesOfBit);
  }

  /**
   * The pages `first` to `last`, inclusive. Bit 0 is that of `first`. Pieces without a bit are left
   * out.
   */
  write(first: number, last: number): void {
    const pages = ((PIECE * 8) / this.#bitsOfPage) * this.#pagesOfBit;
    let offset = 0;
    for (let at = first; at <= last; at += pages, offset += PIECE) {
      const bytes = this.#fill(at, Math.min(at + pages - 1, last));
      if (bytes.some((byte) => byte !== 0)) this.#sink(offset, bytes);
    }
  }

  #fill(first: number, last: number): Uint8Array {
    const bits = Math.ceil((last - first + 1) / this.#pagesOfBit) * this.#bitsOfPage;
    const bytes = this.#piece.subarray(0, Math.ceil(bits / 8)).fill(0);
    if (this.#bitsOfPage === 1) this.#dirty.report(first, last, this.#pagesOfBit, bytes);
    else this.#spread(first, last, bytes);
    return bytes;
  }

  /** Each page has several bits. */
  #spread(first: number, last: number, into: Uint8Array): void {
    const count = last - first + 1;
    const pages = this.#pages.subarray(0, Math.ceil(count / 8)).fill(0);
    this.#dirty.report(first, last, 1, pages);
    for (let page = 0; page < count; page++) {
      if (((pages[page >> 3]! >> (page & 7)) & 1) === 0) continue;
      const from = page * this.#bitsOfPage;
      for (let bit = from; bit < from + this.#bitsOfPage; bit++) into[bit >> 3]! |= 1 << (bit & 7);
    }
  }
}
