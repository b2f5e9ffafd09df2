/**
 * Walks a command's data pointer to the pieces of memory that it names: PRP entries and lists (NVMe
 * 1.4, 4.3), Scatter Gather Lists (4.4).
 *
 * The walk reads every entry once, allocates nothing, and can stop where a list lies in memory that
 * answers only later: then `Walk.REMOTE` says so, the caller fetches `wanted` into `list`, and
 * resumes.
 */
import { Dma, type DmaPort, type Iova } from '../../abi/device-host.ts';
import { Psdt, SglType } from '../../abi/nvme.ts';
import { refused, Status } from '../../abi/nvme-status.ts';
import type { Command } from './command.ts';
import { iovaOf, Pieces } from './pieces.ts';

export const Walk = {
  /** `pieces` is whole. */
  DONE: 0,
  /** `status` says why; nothing of `pieces` may be used. */
  FAILED: 1,
  /** Read `wanted` into `list`, then `resume`. */
  REMOTE: 2,
} as const;
export type Walk = (typeof Walk)[keyof typeof Walk];

/**
 * The most descriptors of one SGL, those without bytes included, so that a walk over segments that
 * point at each other ends.
 */
const DESCRIPTORS_MAX = 65_536;
/** Read of a list at once: 512 PRP entries or 256 SGL descriptors. */
const LIST_BYTES = 4096;

export class DataPointer {
  readonly pieces = new Pieces();
  /** Why the walk failed: a status field, DNR included. */
  status = 0;
  /** CC.MPS in bytes. */
  pageSize = 4096;
  readonly #dma: DmaPort;
  readonly #list = new Uint8Array(LIST_BYTES);
  readonly #words = new Uint32Array(this.#list.buffer);
  #sgl = false;
  #toHost = false;
  /** Bytes that have no piece yet. */
  #remaining = 0;
  /** Where the next entries are read: within a PRP list page or an SGL segment. */
  #low = 0;
  #high = 0;
  /** Entries from there to the end of the list page or segment. */
  #entries = 0;
  #lastSegment = false;
  #descriptors = 0;
  /** Bytes of `list` that hold the entries at the address above, or are wanted there. */
  #fetched = 0;

  constructor(dma: DmaPort) {
    this.#dma = dma;
  }

  /** Where the walk stopped. */
  get wanted(): Iova {
    return iovaOf(this.#low, this.#high);
  }

  /** The part to be filled from there. */
  get list(): Uint8Array {
    return this.#list.subarray(0, this.#fetched);
  }

  /**
   * Walk the data pointer of `command`. `walk` does not read the command after it returns.
   *
   * @param bytes   size of the transfer, at most MDTS
   * @param toHost  whether the controller writes the memory: only then bit buckets are valid
   * @param sgl     whether SGLs are allowed: not for admin commands (4.4: on PCIe they use PRPs)
   */
  walk(command: Command, bytes: number, toHost: boolean, sgl = true): Walk {
    this.pieces.clear();
    this.#toHost = toHost;
    this.#remaining = bytes;
    const { dw } = command;
    switch (command.dataPointerType) {
      case Psdt.PRP:
        this.#sgl = false;
        return bytes === 0 ? Walk.DONE : this.#prp(dw[6]!, dw[7]!, dw[8]!, dw[9]!);
      case Psdt.SGL:
        if (!sgl) return this.#fail(Status.INVALID_FIELD);
        this.#sgl = true;
        return this.#sgl1(dw[6]!, dw[7]!, dw[8]!, dw[9]! >>> 24);
      default:
        // Metadata SGLs are not offered (SGLS bit 19), and 3 is reserved.
        return this.#fail(Status.INVALID_FIELD);
    }
  }

  /** Go on: `list` has been filled. */
  resume(): Walk {
    return this.#sgl ? this.#segments(true) : this.#prpList(true);
  }

  /**
   * 4.3: only PRP1 may have an offset, a multiple of 4. PRP2 is the second page, or the list of all
   * others.
   */
  #prp(low1: number, high1: number, low2: number, high2: number): Walk {
    const page = this.pageSize;
    if ((low1 & 3) !== 0) return this.#fail(Status.PRP_OFFSET_INVALID);
    const first = Math.min(this.#remaining, page - (low1 & (page - 1)));
    this.pieces.add(low1, high1, first);
    this.#remaining -= first;
    if (this.#remaining === 0) return Walk.DONE;
    if (this.#remaining <= page) {
      if ((low2 & (page - 1)) !== 0) return this.#fail(Status.PRP_OFFSET_INVALID);
      this.pieces.add(low2, high2, this.#remaining);
      return Walk.DONE;
    }
    if ((low2 & 7) !== 0) return this.#fail(Status.PRP_OFFSET_INVALID);
    this.#low = low2;
    this.#high = high2;
    this.#entries = (page - (low2 & (page - 1))) >>> 3;
    return this.#prpList(false);
  }

  #prpList(fetched: boolean): Walk {
    const page = this.pageSize;
    const words = this.#words;
    for (;;) {
      if (!fetched) {
        const needed = Math.min(Math.ceil(this.#remaining / page), this.#entries);
        const fetch = this.#fetch(needed * 8);
        if (fetch !== Walk.DONE) return fetch;
      }
      fetched = false;
      const count = this.#fetched >>> 3;
      this.#advance(this.#fetched);
      for (let i = 0; i < count; i++) {
        const low = words[2 * i]!;
        const high = words[2 * i + 1]!;
        if ((low & (page - 1)) !== 0) return this.#fail(Status.PRP_OFFSET_INVALID);
        if (--this.#entries === 0 && this.#remaining > page) {
          // The last entry of a full page points to the next page of the list.
          this.#low = low;
          this.#high = high;
          this.#entries = page >>> 3;
          break;
        }
        const size = Math.min(page, this.#remaining);
        if (!this.pieces.add(low, high, size)) return this.#fail(Status.INVALID_FIELD);
        this.#remaining -= size;
        if (this.#remaining === 0) return Walk.DONE;
      }
    }
  }

  /** 4.4: the descriptor in the command is the data itself, or points to the first segment. */
  #sgl1(low: number, high: number, length: number, identifier: number): Walk {
    this.#descriptors = 0;
    const type = identifier >>> 4;
    if ((identifier & 0xf) !== 0) return this.#fail(Status.SGL_TYPE_INVALID);
    if (type === SglType.SEGMENT || type === SglType.LAST_SEGMENT) {
      return this.#enter(low, high, length, type) ? this.#segments(false) : Walk.FAILED;
    }
    if (!this.#data(type, low, high, length)) return Walk.FAILED;
    return this.#remaining === 0 ? Walk.DONE : this.#fail(Status.DATA_SGL_LENGTH_INVALID);
  }

  #segments(fetched: boolean): Walk {
    const words = this.#words;
    while (this.#entries > 0) {
      if (!fetched) {
        const fetch = this.#fetch(this.#entries * 16);
        if (fetch !== Walk.DONE) return fetch;
      }
      fetched = false;
      const count = this.#fetched >>> 4;
      this.#advance(this.#fetched);
      this.#descriptors += count;
      if (this.#descriptors > DESCRIPTORS_MAX) return this.#fail(Status.INVALID_SGL_COUNT);
      for (let i = 0; i < count; i++) {
        const low = words[4 * i]!;
        const high = words[4 * i + 1]!;
        const length = words[4 * i + 2]!;
        const identifier = words[4 * i + 3]! >>> 24;
        const type = identifier >>> 4;
        this.#entries--;
        if ((identifier & 0xf) !== 0) return this.#fail(Status.SGL_TYPE_INVALID);
        if (type === SglType.SEGMENT || type === SglType.LAST_SEGMENT) {
          if (this.#lastSegment) return this.#fail(Status.INVALID_SGL_SEGMENT);
          if (this.#entries > 0) return this.#fail(Status.INVALID_SGL_COUNT);
          if (!this.#enter(low, high, length, type)) return Walk.FAILED;
        } else if (!this.#data(type, low, high, length)) return Walk.FAILED;
      }
    }
    return this.#remaining === 0 ? Walk.DONE : this.#fail(Status.DATA_SGL_LENGTH_INVALID);
  }

  /** The next segment. False: its descriptor is invalid (figure 128, 0Dh). */
  #enter(low: number, high: number, length: number, type: number): boolean {
    if (length === 0 || (length & 15) !== 0) {
      this.#fail(Status.INVALID_SGL_SEGMENT);
      return false;
    }
    this.#low = low;
    this.#high = high;
    this.#entries = length >>> 4;
    this.#lastSegment = type === SglType.LAST_SEGMENT;
    return true;
  }

  #data(type: number, low: number, high: number, length: number): boolean {
    if (type !== SglType.DATA_BLOCK && type !== SglType.BIT_BUCKET) {
      this.#fail(Status.SGL_TYPE_INVALID);
      return false;
    }
    // A bit bucket in a source buffer has no bytes, whatever its length says.
    if (length === 0 || (type === SglType.BIT_BUCKET && !this.#toHost)) return true;
    // More than the command transfers is not offered (SGLS bit 18).
    if (length > this.#remaining) {
      this.#fail(Status.DATA_SGL_LENGTH_INVALID);
      return false;
    }
    if (!(type === SglType.BIT_BUCKET ? this.pieces.addBucket(length) : this.pieces.add(low, high, length))) {
      this.#fail(Status.INVALID_SGL_COUNT);
      return false;
    }
    this.#remaining -= length;
    return true;
  }

  /** Up to `bytes` of the list from the current address on. */
  #fetch(bytes: number): Walk {
    const size = Math.min(bytes, LIST_BYTES);
    this.#fetched = size;
    const done = this.#dma.tryRead(iovaOf(this.#low, this.#high), size === LIST_BYTES ? this.#list : this.#list.subarray(0, size));
    if (done === Dma.DONE) return Walk.DONE;
    return done === Dma.REMOTE ? Walk.REMOTE : this.#transferError();
  }

  #advance(bytes: number): void {
    const end = this.#low + bytes;
    this.#low = end >>> 0;
    if (end >= 2 ** 32) this.#high = (this.#high + 1) >>> 0;
  }

  #fail(status: number): Walk {
    this.status = refused(status);
    return Walk.FAILED;
  }

  /** A list that DMA does not reach: maybe it does next time. */
  #transferError(): Walk {
    this.status = Status.DATA_TRANSFER_ERROR;
    return Walk.FAILED;
  }
}

/**
 * Finish a walk whose list lies in remote memory: reads it piece by piece until the walk is done or
 * has failed.
 * @throws DmaFault
 */
export async function walkRemote(pointer: DataPointer, dma: Pick<DmaPort, 'read'>, alive: () => boolean): Promise<Walk> {
  for (;;) {
    await dma.read(pointer.wanted, pointer.list);
    if (!alive()) return Walk.REMOTE;
    const walk = pointer.resume();
    if (walk !== Walk.REMOTE) return walk;
  }
}
