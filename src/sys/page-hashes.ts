/**
 * Which pages of memory have changed since they were copied, where no log of stores exists: hashes
 * show it. A page that was never copied counts as a page of zeroes, with which the receiver of
 * copies begins.
 */
import { randomBytes } from 'node:crypto';
import { VfioError } from '../base/errno.ts';
import { type Addon, addon, checked } from './addon.ts';

export const PAGE_BYTES = 4096;
/** Bytes of a hash. */
const HASH_BYTES = 16;
/** `pagesScan`: one key for each word of a page, and four more. */
const KEY_BYTES = PAGE_BYTES + 16;

let key: Uint8Array | undefined;

export class PageHashes {
  readonly pages: number;
  /**
   * One bit for each page that `scan` found changed, or that another part of the program has
   * marked. The caller of `take` clears bits.
   */
  readonly changed: Uint8Array<ArrayBuffer>;
  readonly #memory: Uint8Array;
  readonly #start: number;
  readonly #hashes: Uint8Array<ArrayBuffer>;
  readonly #sys: Addon = addon();
  readonly #key: Uint8Array;

  /**
   * @param memory a window, in which the pages begin at byte `start`
   * @param pages at most 2^20: what a window holds
   * @throws VfioError EINVAL when they do not lie in it
   */
  constructor(memory: Uint8Array, start: number, pages: number) {
    if (start < 0 || pages <= 0 || start + pages * PAGE_BYTES > memory.length) {
      throw new VfioError('EINVAL', `${pages} pages from byte ${start} on, in ${memory.length} bytes`);
    }
    // A random key of this process: the process that fills pages cannot know which of them look
    // alike.
    key ??= new Uint8Array(randomBytes(KEY_BYTES));
    this.#key = key;
    this.#memory = memory;
    this.#start = start;
    this.pages = pages;
    this.changed = new Uint8Array(Math.ceil(pages / 64) * 8);
    this.#hashes = new Uint8Array(pages * HASH_BYTES);
  }

  /**
   * Mark those that changed among `count` pages from `first` on, a multiple of 8. Blocks this
   * thread: about 0.1 ms a MiB.
   *
   * @returns how many changed
   */
  scan(first: number, count: number): number {
    const at = this.#start + first * PAGE_BYTES;
    return checked(
      this.#sys.pagesScan(this.#memory, at, this.#hashes, first, count, this.#key, this.changed),
      `comparing ${count} pages of memory`,
    );
  }

  /**
   * Copy pages. From now on a page counts as changed when it differs from this copy.
   * @returns how many are not all zeroes
   */
  take(first: number, count: number, into: Uint8Array): number {
    const at = this.#start + first * PAGE_BYTES;
    return checked(this.#sys.pagesTake(this.#memory, at, this.#hashes, first, count, this.#key, into), `copying ${count} pages of memory`);
  }

  /** Whether the last copy of a page was all zeroes, or there was none. */
  isZero(page: number): boolean {
    const at = page * HASH_BYTES;
    for (let i = at; i < at + HASH_BYTES; i++) if (this.#hashes[i] !== 0) return false;
    return true;
  }
}
