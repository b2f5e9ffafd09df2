/**
 * One namespace: a storage seen as logical blocks (NVMe 1.4, 1.6.21), and what Identify says of it.
 */

import { Dlfeat, NidType, Nsfeat } from '../../abi/nvme-identify.ts';
import { refused, Status } from '../../abi/nvme-status.ts';
import { IdentifyNamespace, NamespaceDescriptor } from '../../abi/nvme-structs.ts';
import type { Storage, StorageQueue } from '../../abi/storage.ts';
import { viewOf } from '../../base/data-view.ts';
import { VfioError } from '../../base/errno.ts';
import { checkLimits, type NamespaceLimits } from './limiter.ts';
import { writeStatus } from './storage-status.ts';

export type BlockSize = 512 | 4096;

/** The storage and the format of one namespace. */
export interface NamespaceOptions {
  readonly storage: Storage;
  /**
   * Bytes of a logical block. Default: 512. Format NVM changes this member, too, so that the next
   * controller with these options has the new block size.
   */
  blockSize?: BlockSize;
  /** For testing drivers. */
  readonly limits?: NamespaceLimits;
  /**
   * 16 bytes, as Identify shows them (big endian); constant for this disk, and different from every
   * other disk's.
   */
  readonly nguid?: Uint8Array;
  /** 8 bytes, as Identify shows them. */
  readonly eui64?: Uint8Array;
}

/** The LBA formats offered: log2 of the block size, and relative performance (0 best). */
const FORMATS = [
  { shift: 9, performance: 2 },
  { shift: 12, performance: 0 },
] as const;
/** Bytes that deallocate and start best at: a page of a file system's or our own sparse storage. */
const GRANULE = 4096;
/** Tags of the namespace's own operations: below those of commands. */
const FORMAT_TAG = -1;
const FLUSH_TAG = -2;

export class Namespace {
  readonly nsid: number;
  readonly storage: Storage;
  readonly queue: StorageQueue;
  readonly limits: NamespaceLimits | null;
  nguid: Uint8Array | null;
  eui64: Uint8Array | null;
  /** log2 of the block size. */
  blockShift: number;
  /** NSZE: logical blocks. */
  blocks: number;
  /** Operations queued in `queue` and not submitted yet. */
  queued = false;
  /** A format is under way, or waits for the operations to end. */
  formatting = false;
  /** An operation on the storage has failed: -errno. */
  onFailed: (result: number) => void = () => {};
  readonly #options: NamespaceOptions;
  /** Operations on the storage under way for commands, those of lives gone included. */
  #operations = 0;
  #format = 0;
  #formatBegun = false;
  #formatDone: ((status: number) => void) | null = null;
  #formatted: () => void = () => {};

  /** @throws VfioError EINVAL for options that make no namespace */
  constructor(nsid: number, options: NamespaceOptions, completed: (namespace: Namespace, tag: number, result: number) => void) {
    const { storage, blockSize = 512, limits, nguid, eui64 } = options;
    if (blockSize !== 512 && blockSize !== 4096) throw new VfioError('EINVAL', `a block size of ${String(blockSize)}; it is 512 or 4096`);
    if (storage.size < blockSize) throw new VfioError('EINVAL', `${storage.name} is smaller than a block of ${blockSize} bytes`);
    if (nguid !== undefined && nguid.length !== 16) throw new VfioError('EINVAL', `an NGUID of ${nguid.length} bytes; it has 16`);
    if (eui64 !== undefined && eui64.length !== 8) throw new VfioError('EINVAL', `an EUI64 of ${eui64.length} bytes; it has 8`);
    if (limits !== undefined) checkLimits(limits);
    this.nsid = nsid;
    this.#options = options;
    this.storage = storage;
    this.limits = limits ?? null;
    this.nguid = nguid ?? null;
    this.eui64 = eui64 ?? null;
    this.blockShift = blockSize === 512 ? 9 : 12;
    this.blocks = this.#blocksOf(this.blockShift);
    this.queue = storage.open((tag, result) => {
      if (result < 0) this.onFailed(result);
      if (tag < 0) this.#formatStep(tag, result);
      else completed(this, tag, result);
    });
  }

  get blockSize(): number {
    return 1 << this.blockShift;
  }

  /** Identify Namespace (5.15.2.1). @param into  4096 bytes, zeroed */
  identify(into: Uint8Array): void {
    const view = viewOf(into);
    const blocks = BigInt(this.blocks);
    const used = Math.min(this.blocks, Math.ceil(this.storage.allocated() / this.blockSize));
    const granule = Math.max(1, GRANULE / this.blockSize) - 1;
    IdentifyNamespace.encode(view, {
      nsze: blocks,
      ncap: blocks,
      nuse: BigInt(used),
      // Thin provisioning: NUSE counts the blocks that the storage holds, and a write may end with
      // Capacity Exceeded.
      nsfeat: Nsfeat.THIN | Nsfeat.OPTIMAL_IO | (this.nguid !== null || this.eui64 !== null ? Nsfeat.UNIQUE_IDS : 0),
      nlbaf: FORMATS.length - 1,
      flbas: FORMATS.findIndex((f) => f.shift === this.blockShift),
      dlfeat: Dlfeat.READS_ZEROES | Dlfeat.WRITE_ZEROES_DEALLOCATES,
      nvmcap: BigInt(this.storage.size),
      npwg: granule,
      npwa: granule,
      npdg: granule,
      npda: granule,
      nows: granule,
      nsattr: this.storage.readOnly ? 1 : 0,
      ...(this.nguid === null ? {} : { nguid: this.nguid }),
      ...(this.eui64 === null ? {} : { eui64: this.eui64 }),
      lbaf: FORMATS.map((f) => (f.shift << 16) | (f.performance << 24)),
    });
  }

  /** Namespace Identification Descriptor list (5.15.2.4). @param into  4096 bytes, zeroed */
  descriptors(into: Uint8Array): void {
    const view = viewOf(into);
    let at = 0;
    for (const [nidt, bytes] of [
      [NidType.EUI64, this.eui64],
      [NidType.NGUID, this.nguid],
    ] as const) {
      if (bytes === null) continue;
      NamespaceDescriptor.encode(view, at, { nidt, nidl: bytes.length, reserved: 0 });
      into.set(bytes, at + NamespaceDescriptor.structSize);
      at += NamespaceDescriptor.structSize + bytes.length;
    }
  }

  /** An operation on the storage begins for a command. */
  operationBegan(): void {
    this.#operations++;
  }

  operationEnded(): void {
    if (--this.#operations === 0 && this.formatting && !this.#formatBegun) this.#beginFormat();
  }

  /**
   * Format NVM (5.23): zeroes the contents and sets LBA format `index`. Until `done`, commands end
   * with Format In Progress.
   *
   * @param formatted called after the change, before `done`
   */
  format(index: number, formatted: () => void, done: (status: number) => void): void {
    const refused = this.#refuseFormat(index);
    if (refused !== Status.SUCCESS) {
      done(refused);
      return;
    }
    this.formatting = true;
    this.#format = index;
    this.#formatBegun = false;
    this.#formatted = formatted;
    this.#formatDone = done;
    if (this.#operations === 0) this.#beginFormat();
  }

  /** Why it cannot be formatted so now; SUCCESS when it can. */
  #refuseFormat(index: number): number {
    const format = FORMATS[index];
    if (format === undefined || this.#blocksOf(format.shift) === 0) return refused(Status.INVALID_FORMAT);
    if (this.storage.readOnly) return refused(Status.WRITE_PROTECTED);
    return this.formatting ? Status.FORMAT_IN_PROGRESS : Status.SUCCESS;
  }

  /**
   * Detach the format from its command. A format that has begun continues; one that has not begun
   * is dropped.
   */
  reset(): void {
    this.#formatDone = null;
    if (!this.#formatBegun) this.formatting = false;
  }

  /**
   * No command touches the storage any more: start the format that waits for that.
   */
  finishFormat(): void {
    if (this.formatting && !this.#formatBegun) this.#beginFormat();
    while (this.queue.pending > 0) {
      this.queue.submit();
      this.queue.drain();
    }
  }

  /** Blocks of 2^shift bytes. False: it is not one of the formats, or they do not fit. */
  takeFormat(shift: number): boolean {
    const format = FORMATS.find((f) => f.shift === shift);
    if (format === undefined || this.#blocksOf(shift) === 0) return false;
    this.#setFormat(format.shift);
    return true;
  }

  /** Waits until what is under way has ended: nothing lands after this. */
  [Symbol.dispose](): void {
    this.queue.submit();
    this.queue.drain();
    this.queue[Symbol.dispose]();
  }

  #beginFormat(): void {
    this.#formatBegun = true;
    this.queue.zero(0, this.storage.size, FORMAT_TAG, true);
    this.queue.submit();
  }

  #formatStep(tag: number, result: number): void {
    if (result === 0 && tag === FORMAT_TAG && this.storage.volatile) {
      this.queue.flush(FLUSH_TAG);
      this.queue.submit();
      return;
    }
    this.formatting = false;
    this.#formatBegun = false;
    if (result === 0) {
      this.#setFormat(FORMATS[this.#format]!.shift);
      this.#formatted();
    }
    const done = this.#formatDone;
    this.#formatDone = null;
    done?.(writeStatus(result));
  }

  #setFormat(shift: 9 | 12): void {
    this.blockShift = shift;
    this.blocks = this.#blocksOf(shift);
    this.#options.blockSize = shift === 9 ? 512 : 4096;
  }

  #blocksOf(shift: number): number {
    return Math.floor(this.storage.size / 2 ** shift);
  }
}
