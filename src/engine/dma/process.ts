/**
 * A process: an identity with its limits, and an address space. Tests make synthetic ones; a server
 * makes them from socket credentials and /proc.
 */

import type { Access, DirectMemory, MemoryAllocator } from '../../abi/memory.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import { INSPECT } from '../../base/inspect.ts';
import { AddressSpace, type Segment } from './address-space.ts';

/**
 * A name of linux/capability.h. VFIO looks at CAP_IPC_LOCK (locked memory) and, where there is no
 * IOMMU, at CAP_SYS_RAWIO.
 */
export type Capability = `CAP_${string}`;

/**
 * The parts of BARs that a process can map. 'areas': those that their device declares. 'all': the
 * registers around areas as well. 'none': it reads and writes.
 */
export type MappableParts = 'areas' | 'all' | 'none';

/** The properties of a process: `readProcess` reads them from a real one; tests make them up. */
export interface ProcessOptions {
  readonly pid: number;
  readonly uid: number;
  /** The command's name, for messages. */
  readonly name?: string;
  readonly capabilities?: Iterable<Capability>;
  /** RLIMIT_MEMLOCK in bytes; Infinity: unlimited. Default: 8 MiB, as in Linux since 5.16. */
  readonly memlockLimit?: number;
  /** Bytes locked already, by mlock or in the accounting of other subsystems. */
  readonly lockedBytes?: number;
  /** The account of its locked memory, which it may share with others. Default: its own. */
  readonly account?: LockedAccount;
  /** Bytes per page: 4096 (default), 16384 or 65536. */
  readonly pageSize?: number;
  /** The source of memory for `addressSpace.anonymous`. */
  readonly allocate?: MemoryAllocator;
  /** The memory at its addresses. Default: that of `addressSpace`. */
  readonly pages?: UserPages;
  /** Default: 'areas'. */
  readonly mappable?: MappableParts;
}

/** The memory at the addresses of a process, which MAP_DMA looks up. `AddressSpace` is one. */
export interface UserPages {
  /**
   * The memory behind [vaddr, vaddr+size), in order. A caller that keeps a segment takes a
   * reference on its memory at once.
   *
   * @throws VfioError EFAULT when a page is not mapped, or not for `access`; ESRCH
   */
  resolve(vaddr: bigint, size: bigint, access: Access): Segment[];
}

/** Bytes that a process has locked. */
export interface LockedAccount {
  /** A multiple of the page size. */
  readonly bytes: number;
  /** Adds `bytes`, or takes them back when negative. @returns the sum */
  add(bytes: number): number;
}

/** An account of one thread. */
export class OwnAccount implements LockedAccount {
  bytes: number;

  constructor(bytes: number) {
    this.bytes = bytes;
  }

  add(bytes: number): number {
    this.bytes += bytes;
    return this.bytes;
  }
}

/** @throws VfioError EPERM for a process without CAP_SYS_RAWIO */
export function checkRawIo(process: Process, what: string): void {
  if (process.capabilities.has('CAP_SYS_RAWIO')) return;
  throw new VfioError('EPERM', `process ${process.pid} may not have ${what}: it has no CAP_SYS_RAWIO`, {
    fix: 'Give it CAP_SYS_RAWIO: without an IOMMU the user of a device reaches all memory.',
  });
}

export const DEFAULT_MEMLOCK = 8 * 1024 * 1024;

/** A user of a machine: an identity, limits and an address space. */
export class Process implements Disposable {
  readonly pid: number;
  readonly uid: number;
  readonly name: string;
  /** May change while the process runs; type1 looks when a mapping is made (S2-46). */
  readonly capabilities: Set<Capability>;
  /** RLIMIT_MEMLOCK in bytes; may be changed at any time, as by setrlimit. */
  memlockLimit: number;
  readonly pageSize: number;
  readonly addressSpace: AddressSpace;
  /** Where MAP_DMA finds the memory of a vaddr. */
  readonly pages: UserPages;
  readonly mappable: MappableParts;
  /** Changed only by locked-memory.ts. */
  readonly account: LockedAccount;
  readonly #allocate: MemoryAllocator | undefined;
  #alive = true;
  readonly #onExit = new Set<() => void>();

  /** @throws VfioError EINVAL for a page size that does not exist */
  constructor(options: ProcessOptions) {
    this.pid = options.pid;
    this.uid = options.uid;
    this.name = options.name ?? '';
    this.capabilities = new Set(options.capabilities);
    this.memlockLimit = options.memlockLimit ?? DEFAULT_MEMLOCK;
    this.account = options.account ?? new OwnAccount(options.lockedBytes ?? 0);
    this.pageSize = options.pageSize ?? 4096;
    this.mappable = options.mappable ?? 'areas';
    this.#allocate = options.allocate;
    this.addressSpace = new AddressSpace(this.pageSize, options.allocate ?? null);
    this.pages = options.pages ?? this.addressSpace;
  }

  /** The line that `console.log` prints of it. */
  [INSPECT](): string {
    return `Process ${this.pid}, uid ${this.uid}${this.#alive ? '' : ', exited'}`;
  }

  /** A synthetic process with uid 0, every capability and no limit. */
  static root(options: Partial<ProcessOptions> = {}): Process {
    return new Process({
      pid: 1,
      uid: 0,
      memlockLimit: Number.POSITIVE_INFINITY,
      capabilities: ['CAP_IPC_LOCK', 'CAP_SYS_RAWIO', 'CAP_SYS_ADMIN', 'CAP_SYS_RESOURCE'],
      ...options,
    });
  }

  /** A synthetic process without privileges: uid 1000, no capability, the default limit. */
  static user(options: Partial<ProcessOptions> = {}): Process {
    return new Process({ pid: 1000, uid: 1000, ...options });
  }

  /**
   * Fresh zeroed memory that is nowhere mapped, as in a memfd. The caller disposes of it.
   *
   * @throws VfioError EINVAL for a size of no bytes; ENOMEM when this process was made without an
   * allocator
   */
  allocate(bytes: number): DirectMemory {
    if (!Number.isSafeInteger(bytes) || bytes <= 0) throw new VfioError('EINVAL', `a memory of ${bytes} bytes`);
    if (this.#allocate === undefined) throw new VfioError('ENOMEM', `process ${this.pid} was made without an allocator for memory`);
    return this.#allocate(Math.ceil(bytes / this.pageSize) * this.pageSize);
  }

  /**
   * A child: identity and limits of this process, an empty address space, and nothing locked.
   *
   * @param pid its process id
   */
  fork(pid: number): Process {
    const { uid, name, capabilities, memlockLimit, pageSize } = this;
    const allocate = this.#allocate === undefined ? {} : { allocate: this.#allocate };
    return new Process({ pid, uid, name, capabilities, memlockLimit, pageSize, ...allocate });
  }

  /** For messages: 'process 42 (qemu-system-x86, uid 1000)'. */
  toString(): string {
    return `process ${this.pid} (${this.name === '' ? '' : `${this.name}, `}uid ${this.uid})`;
  }

  /** False after `exit`. */
  get alive(): boolean {
    return this.#alive;
  }

  /** Bytes locked, a multiple of the page size. */
  get lockedBytes(): number {
    return this.account.bytes;
  }

  /** Locked pages of this process's page size. */
  get lockedPages(): number {
    return this.lockedBytes / this.pageSize;
  }

  /** Whether an IPC_LOCK check would pass now. */
  get mayLockFreely(): boolean {
    return this.capabilities.has('CAP_IPC_LOCK');
  }

  /**
   * Run `close` when the process exits, as the kernel closes open files.
   *
   * @throws VfioError ESRCH when it has exited
   */
  onExit(close: () => void): Disposable {
    if (!this.#alive) throw new VfioError('ESRCH', `process ${this.pid} has exited`);
    this.#onExit.add(close);
    return { [Symbol.dispose]: () => void this.#onExit.delete(close) };
  }

  /**
   * The process ends: its address space goes, then its files are closed, newest first. Mappings in
   * a container that another process holds keep their memory, and their accounting here, until they
   * are unmapped (S2-52). Idempotent; every step runs, the first error is rethrown.
   */
  exit(): void {
    if (!this.#alive) return;
    this.#alive = false;
    this.addressSpace.clear();
    const closes = new Cleanup();
    for (const close of this.#onExit) closes.defer(close);
    this.#onExit.clear();
    closes[Symbol.dispose]();
  }

  /** The same as `exit`. */
  [Symbol.dispose](): void {
    this.exit();
  }
}
