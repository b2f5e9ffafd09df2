/**
 * Physical Region Pages (NVMe 1.4, 4.3): the places of a command's data, as one or two page
 * addresses, or as one address and a list of the others. Every command slot of a queue has room for
 * its list from the start, so that nothing is allocated for a command.
 */
import { VfioError } from '../../base/errno.ts';
import type { DmaRange } from './dma-range.ts';

/** 2^32, for the upper half of an address. */
const HIGH = 2 ** 32;

/**
 * Bytes that one list of one page can describe: a longer list would be a chain of lists, which many
 * controllers have never met.
 */
export function longestTransfer(pageSize: number): number {
  return (pageSize / 8) * pageSize;
}

/**
 * Bytes of list that each slot needs for `maxBytes` at any alignment: a power of two, so that no
 * list crosses a page.
 */
export function listBytes(maxBytes: number, pageSize: number): number {
  // The first page has its entry in the command; the rest takes one entry more when the data begins
  // within a page.
  const entries = Math.max(1, Math.ceil(maxBytes / pageSize));
  return 2 ** Math.ceil(Math.log2(8 * entries));
}

/**
 * Check the address of a command's data: it lies below 2^53, so that addresses are plain numbers.
 * @throws VfioError EINVAL
 */
export function checkAddress(iova: number, size: number): void {
  if (!(iova >= 0 && iova + size <= Number.MAX_SAFE_INTEGER)) {
    throw new VfioError('EINVAL', `the IOVA ${String(iova)} is not from 0 to 2^53 - 1`);
  }
  if ((iova & 3) !== 0) {
    throw new VfioError('EINVAL', `the IOVA 0x${iova.toString(16)} is no multiple of 4, as PRPs must be`, {
      fix: 'Start the data at a multiple of 4 of the buffer.',
    });
  }
}

export class PrpLists {
  /** Bytes that a command's PRPs describe, at any alignment. */
  readonly maxBytes: number;
  readonly #pageSize: number;
  /** Bytes of list per slot. */
  readonly #stride: number;
  readonly #iova: number;
  readonly #words: Uint32Array;

  /** @param range page-aligned, `slots` times `listBytes` long */
  constructor(range: DmaRange, slots: number, maxBytes: number, pageSize: number) {
    this.maxBytes = maxBytes;
    this.#pageSize = pageSize;
    this.#stride = listBytes(maxBytes, pageSize);
    if (this.#stride > pageSize || range.bytes.length < slots * this.#stride) throw new Error('the PRP lists do not fit');
    this.#iova = range.iova;
    this.#words = range.words();
  }

  /**
   * Writes PRP1 and PRP2 of a command, and the list of `slot` when the command needs one.
   *
   * @param sqe dwords of the submission queue, the command's first at `at`
   * @param iova checked by `checkAddress`
   * @param size bytes, at most what the lists were made for; 0: no data
   */
  write(slot: number, sqe: Uint32Array, at: number, iova: number, size: number): void {
    if (size === 0) {
      sqe[at + 6] = sqe[at + 7] = sqe[at + 8] = sqe[at + 9] = 0;
      return;
    }
    const page = this.#pageSize;
    sqe[at + 6] = iova;
    sqe[at + 7] = iova / HIGH;
    // Data after the first page starts at the beginning of a page.
    const first = page - (iova & (page - 1));
    let next = iova + first;
    if (size <= first) {
      sqe[at + 8] = sqe[at + 9] = 0;
    } else if (size <= first + page) {
      sqe[at + 8] = next;
      sqe[at + 9] = next / HIGH;
    } else {
      const list = this.#iova + slot * this.#stride;
      sqe[at + 8] = list;
      sqe[at + 9] = list / HIGH;
      const words = this.#words;
      let w = (slot * this.#stride) / 4;
      for (const end = iova + size; next < end; next += page) {
        words[w++] = next;
        words[w++] = next / HIGH;
      }
    }
  }
}
