/** Consecutive pages of one memory, and which of their contents the other side has. */
import { type DirectMemory, WINDOW_BYTES } from '../../abi/memory.ts';
import { MemfdMemory } from '../../sys/memfd.ts';
import { PageHashes } from '../../sys/page-hashes.ts';
import { PAGE, PAGES_MAX } from './wire.ts';

/** The number of pages that one turn of a scan compares: about two milliseconds. */
const SLICE_PAGES = 4096;

/**
 * Send the page; report that the page is all zeroes again; or skip a page that was never anything
 * else.
 */
export type Taken = 'filled' | 'zeroes' | 'nothing';

export class Extent {
  readonly number: number;
  readonly memory: DirectMemory;
  /** The offset in the memory. The pages lie in one window. */
  readonly firstPage: number;
  readonly pages: number;
  /** A mapping covers the extent now. */
  live = true;
  #hashes: PageHashes | null = null;
  /** Pages that the other side has, and that are not all zeroes there. */
  #filled: Uint8Array<ArrayBuffer> | null = null;
  /** The page at which `nextRun` continues. */
  #cursor = 0;

  constructor(number: number, memory: DirectMemory, firstPage: number, pages: number) {
    this.number = number;
    this.memory = memory;
    this.firstPage = firstPage;
    this.pages = pages;
  }

  get #tracked(): PageHashes {
    if (this.#hashes === null) {
      const start = this.firstPage * PAGE;
      this.#hashes = new PageHashes(this.memory.windows[Math.floor(start / WINDOW_BYTES)]!, start % WINDOW_BYTES, this.pages);
      this.#filled = new Uint8Array(this.#hashes.changed.length);
    }
    return this.#hashes;
  }

  /**
   * Mark the pages that differ from the other side's copy, in slices, one each turn. Pages that the
   * file does not store are not read.
   */
  *scan(slicePages = SLICE_PAGES): Generator<number> {
    let page = 0;
    while (page < this.pages) {
      const data = this.#nextData(page);
      const first = Math.min(data?.first ?? this.pages, this.pages);
      yield* this.#scanHole(page, first);
      const end = Math.min(data?.end ?? this.pages, this.pages);
      for (let at = Math.floor(first / 8) * 8; at < end; at += slicePages) yield this.#scanPages(at, Math.min(slicePages, end - at));
      page = Math.max(end, page + 1);
    }
  }

  /** In pages of this extent. */
  #nextData(page: number): { readonly first: number; readonly end: number } | null {
    if (!(this.memory instanceof MemfdMemory)) return { first: page, end: this.pages };
    const data = this.memory.nextData((this.firstPage + page) * PAGE);
    if (data === null) return null;
    return { first: Math.max(page, Math.floor(data.first / PAGE) - this.firstPage), end: Math.ceil(data.end / PAGE) - this.firstPage };
  }

  /** Pages that the client returned to the system after they had been copied. */
  *#scanHole(first: number, end: number): Generator<number> {
    const filled = this.#filled;
    if (filled === null) return;
    for (let byte = first >> 3; byte < Math.ceil(end / 8); byte++) {
      if (filled[byte] !== 0) yield this.#scanPages(byte * 8, Math.min(8, this.pages - byte * 8));
    }
  }

  /** @returns the milliseconds that the slice took */
  #scanPages(first: number, count: number): number {
    const begun = performance.now();
    this.#tracked.scan(first, count);
    return performance.now() - begun;
  }

  /** Mark the pages that a log reports as written: bit i of `bitmap` stands for page `page` + i. */
  note(bitmap: Uint8Array, page: number, count: number): void {
    for (let byte = 0; byte < Math.ceil(count / 8); byte++) {
      const bits = bitmap[byte]!;
      if (bits === 0) continue;
      const { changed } = this.#tracked;
      for (let bit = 0; bit < 8 && byte * 8 + bit < count; bit++) {
        const at = page + byte * 8 + bit;
        if ((bits & (1 << bit)) !== 0) changed[at >> 3]! |= 1 << (at & 7);
      }
    }
  }

  get changedPages(): number {
    if (this.#hashes === null) return 0;
    let sum = 0;
    for (const byte of this.#hashes.changed) if (byte !== 0) sum += BITS[byte]!;
    return sum;
  }

  /** Clear all marks. */
  forgetMarks(): void {
    this.#hashes?.changed.fill(0);
  }

  /** The next marked pages in a row, whose marks are cleared; null when none is left. */
  nextRun(): { readonly first: number; readonly count: number } | null {
    const changed = this.#hashes?.changed;
    if (changed === undefined) return null;
    let at = this.#cursor;
    while (at < this.pages && changed[at >> 3] === 0) at = ((at >> 3) + 1) * 8;
    while (at < this.pages && !marked(changed, at)) at++;
    if (at >= this.pages) {
      this.#cursor = 0;
      return null;
    }
    const first = at;
    for (; at < this.pages && at - first < PAGES_MAX && marked(changed, at); at++) changed[at >> 3]! &= ~(1 << (at & 7));
    this.#cursor = at;
    return { first, count: at - first };
  }

  /**
   * Copy pages to the buffer that is sent: from now on the other side counts as having them.
   *
   * @returns what to do about each page
   */
  take(first: number, count: number, into: Uint8Array): readonly Taken[] {
    this.#tracked.take(first, count, into);
    return Array.from({ length: count }, (_, i) => this.#kindOf(first + i));
  }

  #kindOf(page: number): Taken {
    const filled = this.#filled!;
    const was = marked(filled, page);
    if (!this.#hashes!.isZero(page)) {
      filled[page >> 3]! |= 1 << (page & 7);
      return 'filled';
    }
    filled[page >> 3]! &= ~(1 << (page & 7));
    return was ? 'zeroes' : 'nothing';
  }
}

const marked = (bitmap: Uint8Array, page: number): boolean => ((bitmap[page >> 3]! >> (page & 7)) & 1) === 1;

const BITS = Uint8Array.from({ length: 256 }, (_, byte) => byte.toString(2).replaceAll('0', '').length);
