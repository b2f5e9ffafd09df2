/**
 * The memory of one IOAS_MAP, which copies of the mapping share. It is looked up and locked when
 * the first domain needs it, and unlocked after the last: before a device is attached, nothing is
 * checked and nothing is counted.
 *
 * @see linux/drivers/iommu/iommufd/pages.c, iopt_pages, iopt_alloc_pages(),
 * iopt_pages_change_process()
 */
import type { DmaBuf } from '../../abi/device.ts';
import { Access, type Memory } from '../../abi/memory.ts';
import { VfioError } from '../../base/errno.ts';
import type { Segment } from '../dma/address-space.ts';
import type { LockedAccount, Process } from '../dma/process.ts';

/** Bytes per page of the IOMMU. */
const PAGE = 4096;

/** Who pays for locked pages (IOMMU_OPTION_RLIMIT_MODE): the user, or the process. */
export type RlimitMode = 'user' | 'process';

/** The account of all iommufds of one user. */
export type UserAccounts = (uid: number) => LockedAccount;

/** Where the memory is: at an address of the process, in a file, or in a BAR. */
export type PagesSource =
  | { readonly kind: 'address'; readonly vaddr: bigint }
  | { readonly kind: 'file'; readonly memory: Memory; readonly offset: number }
  | { readonly kind: 'buffer'; readonly buffer: DmaBuf; readonly offset: number };

export interface PagesOptions {
  readonly process: Process;
  readonly source: PagesSource;
  /** Bytes from the source's start. */
  readonly size: bigint;
  /** Devices may write, so that a copy of the mapping may, too. */
  readonly writable: boolean;
  readonly mode: RlimitMode;
  readonly users: UserAccounts;
}

export class PinnedPages {
  readonly source: PagesSource;
  readonly size: bigint;
  readonly writable: boolean;
  /** Bytes from the start of the first page to the first byte. */
  readonly firstByte: number;
  #process: Process;
  readonly #mode: RlimitMode;
  readonly #users: UserAccounts;
  /** CAP_IPC_LOCK when the mapping was made: nothing is counted. */
  #free: boolean;
  /** Mappings of them, in any address space. */
  #areas = 0;
  /** Domains that need the pages. */
  #pins = 0;
  #segments: readonly Segment[] | null = null;
  /** The file that is mapped, while a mapping is there. */
  #file: Memory | null = null;

  constructor({ process, source, size, writable, mode, users }: PagesOptions) {
    this.source = source;
    this.size = size;
    this.writable = writable;
    this.#process = process;
    this.#mode = mode;
    this.#users = users;
    this.#free = process.mayLockFreely;
    this.firstByte = source.kind === 'address' ? Number(source.vaddr % BigInt(PAGE)) : source.offset % PAGE;
  }

  /** The process that pays. */
  get process(): Process {
    return this.#process;
  }

  /** Bytes of whole pages that it touches. */
  get #bytes(): number {
    return Math.ceil((this.firstByte + Number(this.size)) / PAGE) * PAGE;
  }

  /** The account that pays now; null: none does. */
  #account(process: Process): LockedAccount | null {
    // A device's memory is not locked.
    if (this.#free || this.source.kind === 'buffer') return null;
    return this.#mode === 'user' ? this.#users(process.uid) : process.account;
  }

  /** One more mapping has the pages, and with them the file, also when it is closed. */
  get(): void {
    if (this.#areas++ === 0 && this.source.kind === 'file' && this.source.memory.references > 0) {
      this.#file = this.source.memory.get();
    }
  }

  /** One mapping has them no more. */
  put(): void {
    if (--this.#areas > 0) return;
    this.#file?.put();
    this.#file = null;
  }

  /**
   * One more domain needs the pages.
   *
   * @returns the memory behind them, from the start of the first page on
   * @throws VfioError EFAULT for addresses without memory, or without that access; ENOMEM over
   * RLIMIT_MEMLOCK; ESRCH when the process has exited
   */
  pin(): readonly Segment[] {
    if (this.#segments === null) {
      const segments = this.#resolve();
      charge(this.#account(this.#process), this.#process, this.#bytes);
      for (const { memory } of segments) memory.get();
      this.#segments = segments;
    }
    this.#pins++;
    return this.#segments;
  }

  /** One domain needs them no more. */
  unpin(): void {
    if (--this.#pins > 0 || this.#segments === null) return;
    for (const { memory } of this.#segments) memory.put();
    this.#segments = null;
    this.#account(this.#process)?.add(-this.#bytes);
  }

  #resolve(): readonly Segment[] {
    const { source } = this;
    if (source.kind === 'file') {
      const { memory, offset } = source;
      if (memory.references === 0) throw new VfioError('ENODEV', 'the file that was mapped is gone');
      return [{ memory, offset: offset - this.firstByte, size: this.#bytes, counted: true }];
    }
    if (source.kind === 'buffer') return partsOf(source.buffer, source.offset - this.firstByte, this.#bytes);
    if (!this.#process.alive) throw new VfioError('EFAULT', `process ${this.#process.pid} has exited, and its memory with it`);
    const start = source.vaddr - BigInt(this.firstByte);
    const segments = this.#process.pages.resolve(start, BigInt(this.#bytes), this.writable ? Access.READ_WRITE : Access.READ);
    // Device memory is no pages that could be locked (pin_user_pages() refuses VM_PFNMAP).
    if (segments.some(({ counted }) => !counted)) {
      throw new VfioError('EFAULT', 'a part of the range is the memory of a device', {
        fix: 'Export it as a dma-buf, and map that by IOAS_MAP_FILE.',
      });
    }
    return segments;
  }

  /**
   * Another process pays from now on (IOAS_CHANGE_PROCESS).
   *
   * @throws VfioError ENOMEM when the pages are locked, and would be over its limit
   */
  changeProcess(process: Process): void {
    if (process === this.#process) return;
    const before = { account: this.#account(this.#process), free: this.#free };
    this.#free = process.mayLockFreely;
    if (this.#segments !== null) {
      try {
        charge(this.#account(process), process, this.#bytes);
      } catch (error) {
        this.#free = before.free;
        throw error;
      }
      before.account?.add(-this.#bytes);
    }
    this.#process = process;
  }
}

/** @throws VfioError ENODEV while the device may not be reached */
function partsOf(buffer: DmaBuf, offset: number, size: number): readonly Segment[] {
  if (buffer.revoked) throw new VfioError('ENODEV', 'the DMA buffer is revoked: its device does not decode memory now, or is closed');
  const parts: Segment[] = [];
  let [skip, left] = [offset, size];
  for (const segment of buffer.segments) {
    const bytes = Math.min(segment.size - skip, left);
    if (bytes > 0) parts.push({ memory: segment.memory, offset: segment.offset + skip, size: bytes, counted: false });
    skip = Math.max(0, skip - segment.size);
    left -= Math.max(0, bytes);
  }
  return parts;
}

/** @throws VfioError ENOMEM over the process's RLIMIT_MEMLOCK, also of the user's account */
function charge(account: LockedAccount | null, process: Process, bytes: number): void {
  if (account === null) return;
  const needed = account.add(bytes);
  if (needed <= process.memlockLimit) return;
  account.add(-bytes);
  throw new VfioError(
    'ENOMEM',
    `locking ${bytes} bytes makes ${needed} needed; process ${process.pid} has a limit (RLIMIT_MEMLOCK) of ${process.memlockLimit}, and no CAP_IPC_LOCK`,
    { fix: `Raise RLIMIT_MEMLOCK to at least ${needed} bytes, or give the process CAP_IPC_LOCK.` },
  );
}
