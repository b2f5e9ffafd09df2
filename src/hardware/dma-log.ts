/**
 * Pages that one device has written (VFIO_DEVICE_FEATURE_DMA_LOGGING), in the ranges that its user
 * names. The log is independent of the container's dirty tracking and of the state of the device's
 * migration (B.11).
 *
 * @see linux/drivers/vfio/vfio_main.c, vfio_ioctl_device_feature_logging_start(),
 * vfio_ioctl_device_feature_logging_report()
 */
import { Bitmap } from '../base/bitmap.ts';

/** Pages of 4096 bytes, both ends inclusive. */
export interface PageRange {
  readonly first: number;
  readonly last: number;
}

export class DmaLog {
  readonly #bitmap = new Bitmap();
  /** In order of their addresses: first, last, first, last, … */
  readonly #ends: Float64Array;
  /** The range that was hit last. */
  #first: number;
  #last: number;

  /** @param ranges  at least one; they do not overlap */
  constructor(ranges: readonly PageRange[]) {
    const sorted = [...ranges].sort((a, b) => a.first - b.first);
    this.#ends = Float64Array.from(sorted.flatMap(({ first, last }) => [first, last]));
    this.#first = this.#ends[0]!;
    this.#last = this.#ends[1]!;
  }

  /** Memory of the log, in 4 KiB chunks. */
  get chunks(): number {
    return this.#bitmap.chunks;
  }

  /** The device has written pages first to last. Pages outside the ranges are not noted. */
  mark(first: number, last: number): void {
    if (first >= this.#first && last <= this.#last) this.#bitmap.mark(first, last);
    else this.#markParts(first, last);
  }

  /** As `mark` of one page below 2^31. Nearly every write is such a page, so it costs little. */
  markPage(page: number): void {
    if (page >= this.#first && page <= this.#last) this.#bitmap.markOne(page);
    else this.#markParts(page, page);
  }

  #markParts(first: number, last: number): void {
    const ends = this.#ends;
    // The first range that ends at `first` or after.
    let low = 0;
    let high = ends.length / 2;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (ends[2 * middle + 1]! < first) low = middle + 1;
      else high = middle;
    }
    for (; low < ends.length / 2 && ends[2 * low]! <= last; low++) {
      this.#first = ends[2 * low]!;
      this.#last = ends[2 * low + 1]!;
      this.#bitmap.mark(Math.max(first, this.#first), Math.min(last, this.#last));
    }
  }

  /**
   * OR the written pages of first to last into `into`, one bit for `unit` pages, and clear them in
   * the log.
   */
  take(first: number, last: number, unit: number, into: Uint8Array): void {
    this.#bitmap.take(first, last, into, 0, unit);
  }
}
