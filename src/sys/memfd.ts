/**
 * Memory in a memfd, mapped here. Any process that gets the descriptor sees the same bytes, without
 * a copy.
 */

import { fstatSync, readFileSync, statfsSync } from 'node:fs';
import { Access, type DirectMemory, WINDOW_BYTES } from '../abi/memory.ts';
import { acrossCopies } from '../base/across-copies.ts';
import { checkIndex } from '../base/check.ts';
import { Cleanup } from '../base/cleanup.ts';
import { Counted } from '../base/counted.ts';
import { Errno, VfioError } from '../base/errno.ts';
import { INSPECT } from '../base/inspect.ts';
import { type Addon, addon, checked, Sys, sysError } from './addon.ts';
import { OwnedFd } from './owned-fd.ts';

const PAGE = 4096;
/** Bytes of a huge page of `allocateHuge`. */
export const HUGE_PAGE_BYTES = 2 ** 21;
/** A piece in huge pages is at most this much larger than was asked: a part of the size. */
const HUGE_WASTE = 1 / 8;
/** statfs(2) of files in huge pages: linux/magic.h */
const HUGETLBFS_MAGIC = 0x958458f6;

/** One piece of memory is at most this large: 256 windows. Untouched pages take no room. */
export const MEMFD_MAX_BYTES = 2 ** 40;

/**
 * `size` as whole pages.
 * @throws VfioError EINVAL unless it is a positive integer; ENOMEM above `max`
 */
export function wholePages(size: number, max: number): number {
  checkIndex(size, Number.MAX_SAFE_INTEGER, 'the size of the memory');
  if (size === 0) throw new VfioError('EINVAL', 'memory of 0 bytes');
  if (size > max) throw new VfioError('ENOMEM', `memory of ${size} bytes; one piece holds at most ${max}`);
  return Math.ceil(size / PAGE) * PAGE;
}

let foreignMappings: number | undefined;

/**
 * How many mappings of peers' files this process may have. Each can become two when its peer
 * truncates it. When Linux allows no more mappings at all (vm.max_map_count), V8 aborts the
 * process.
 */
export function foreignMappingsMax(): number {
  if (foreignMappings !== undefined) return foreignMappings;
  let linux = 65530;
  try {
    linux = Number(readFileSync('/proc/sys/vm/max_map_count', 'utf8')) || linux;
  } catch {
    // Without /proc: Linux's default.
  }
  foreignMappings = Math.max(Math.min(Math.floor((linux - 8192) / 2), 2 ** 31), 256);
  return foreignMappings;
}

export class MemfdMemory extends Counted implements DirectMemory {
  readonly kind = 'direct';
  readonly size: number;
  /** Where the memory starts in the file that `duplicateFd` gives: bytes. */
  readonly fileOffset: number;
  /**
   * Empty after the last reference is gone. A view taken from here is detached then: it has length
   * 0, and a DataView throws.
   */
  readonly windows: readonly Uint8Array<ArrayBuffer>[];
  /**
   * Bytes of a page of the file: 4096, or those of a huge page. Linux may keep memory of small
   * pages in larger ones all the same.
   */
  readonly pageBytes: number;
  readonly #sys: Addon = addon();
  readonly #fd: OwnedFd;
  readonly #undo: Cleanup;
  #file: string | null = null;

  /** The line that `console.log` prints of it. */
  [INSPECT](): string {
    return `MemfdMemory of ${this.size} bytes`;
  }

  private constructor(fd: OwnedFd, offset: number, size: number, page: number, how: number) {
    super('the memory');
    using undo = new Cleanup();
    undo.use(fd);
    const windows: Uint8Array<ArrayBuffer>[] = [];
    for (let at = 0; at < size; at += WINDOW_BYTES) {
      const length = Math.min(WINDOW_BYTES, size - at);
      const buffer = this.#sys.mmap(fd.number, offset + at, length, page, how, foreignMappingsMax());
      if (typeof buffer === 'number') throw sysError(buffer, `mapping ${length} bytes of memory`);
      undo.defer(() => this.#sys.munmap(buffer));
      windows.push(new Uint8Array(buffer));
    }
    // The first step of the way out: a reader then finds no window rather than an empty one.
    undo.defer(() => windows.splice(0));
    this.size = size;
    this.fileOffset = offset;
    this.pageBytes = page;
    this.windows = windows;
    this.#fd = fd;
    this.#undo = undo.move();
  }

  /**
   * Zeroed memory of at least `size` bytes, rounded up to whole pages, in a sealed memfd. No
   * process can resize it: a peer that shrank it would make our loads fault.
   *
   * @throws VfioError EINVAL, ENOMEM, EMFILE
   */
  static readonly allocate = (size: number): MemfdMemory => {
    const bytes = wholePages(size, MEMFD_MAX_BYTES);
    return new MemfdMemory(sealedMemfd(bytes, 0), 0, bytes, PAGE, 0);
  };

  /**
   * As `allocate`, in huge pages of 2 MiB where they can be had: an IOMMU translates them by fewer
   * entries, and Linux pins them faster. The pages come from the computer's pool
   * (/proc/sys/vm/nr_hugepages), and `size` is rounded up to 2 MiB then. Else Linux may make them
   * of plain memory, where its administrator allows that for shared memory
   * (/sys/kernel/mm/transparent_hugepage/shmem_enabled). Small memory, and memory that would be
   * rounded up by much, has small pages.
   *
   * @throws VfioError as `allocate`
   */
  static readonly allocateHuge = (size: number): MemfdMemory => {
    const small = wholePages(size, MEMFD_MAX_BYTES);
    const bytes = Math.ceil(small / HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES;
    if (bytes - small <= small * HUGE_WASTE && bytes <= MEMFD_MAX_BYTES) {
      try {
        return new MemfdMemory(sealedMemfd(bytes, Sys.MFD_HUGETLB | Sys.MFD_HUGE_2MB), 0, bytes, HUGE_PAGE_BYTES, 0);
      } catch (error) {
        // The pool is empty, or this kernel or processor has none.
        if (!(error instanceof VfioError)) throw error;
      }
    }
    const memory = MemfdMemory.allocate(size);
    if (small >= HUGE_PAGE_BYTES) for (const { buffer } of memory.windows) addon().madvise(buffer, Sys.MADV_HUGEPAGE);
    return memory;
  };

  /**
   * Memory that came as a descriptor: shared memory, or any other file that can be mapped. Takes
   * `fd` over and closes it when it is refused. The caller decides whether a file that can keep
   * this process waiting is acceptable: `OwnedFd.isMemory`.
   *
   * The peer keeps its own descriptor and may shorten the file afterwards. That does not end this
   * process: later accesses reach zeroed memory that no other process shares, and `faults` counts
   * them. With Access.READ no store reaches the peer, and the descriptor need not be writable; huge
   * pages are the exception.
   *
   * @param offset where it starts in the file, `size` its length: bytes, both multiples of 4096
   * @param access what the peer allows
   * @throws VfioError EINVAL when misaligned, past the file's end, or not a file; EACCES or EPERM
   *   when the descriptor or a seal does not allow `access`; ENOMEM when too large, or this process
   *   has too many mappings of peers (`foreignMappingsMax`); ENODEV when it cannot be mapped
   */
  static fromFd(fd: OwnedFd, offset: number, size: number, access: Access = Access.READ_WRITE): MemfdMemory {
    using undo = new Cleanup();
    undo.use(fd);
    checkIndex(offset, Number.MAX_SAFE_INTEGER, 'the offset');
    if (wholePages(size, MEMFD_MAX_BYTES) !== size || offset % PAGE !== 0) {
      throw new VfioError('EINVAL', `offset ${offset} and size ${size} must be multiples of ${PAGE}`);
    }
    const file = fstatSync(fd.number);
    if (!file.isFile()) throw new VfioError('EINVAL', `the descriptor is ${fd.describe()}, not memory`);
    if (offset + size > file.size) throw new VfioError('EINVAL', `bytes ${offset} to ${offset + size} of a file of ${file.size} bytes`);
    const hugePage = file.blksize > PAGE ? hugePageOf(fd) : 0;
    // A private mapping of a hole in a huge-page file would never show what other processes store
    // there later.
    const how = Sys.MMAP_GUARDED | ((access & Access.WRITE) === 0 && hugePage === 0 ? Sys.MMAP_PRIVATE : 0);
    undo.move();
    return new MemfdMemory(fd, offset, size, hugePage || PAGE, how);
  }

  /**
   * Accesses that found the file shorter than before, or its pages broken, and reached memory of
   * ours instead. 0 once the memory is gone.
   */
  get faults(): number {
    let sum = 0;
    for (const window of this.windows) sum += this.#sys.mappingFaults(window.buffer);
    return sum;
  }

  /**
   * The file that holds the memory, distinct from every other open file.
   *
   * @throws VfioError EBADF when the memory is gone
   */
  get file(): string {
    if (this.#file === null) {
      const { dev, ino } = fstatSync(this.#fd.number, { bigint: true });
      this.#file = `${dev}:${ino}`;
    }
    return this.#file;
  }

  protected override released(): void {
    this.#undo[Symbol.dispose]();
  }

  /**
   * The next stretch at or after byte `from` that the file has pages for: from its first byte to
   * behind its last; null when there is none. All other bytes read as zeroes, and reading them
   * would make pages. A file that does not report its holes counts as one stretch.
   *
   * @throws VfioError EBADF when the memory is gone
   */
  nextData(from: number): { readonly first: number; readonly end: number } | null {
    if (from >= this.size) return null;
    const first = this.#sys.lseek(this.#fd.number, this.fileOffset + from, Sys.SEEK_DATA);
    if (first === -Errno.ENXIO) return null;
    const end = first < 0 ? first : this.#sys.lseek(this.#fd.number, first, Sys.SEEK_HOLE);
    if (end < 0) return { first: from, end: this.size };
    if (first - this.fileOffset >= this.size) return null;
    return { first: first - this.fileOffset, end: Math.min(end - this.fileOffset, this.size) };
  }

  /**
   * Another descriptor for the same pages; the caller owns it.
   * @throws VfioError EBADF when the memory is gone
   */
  duplicateFd(): OwnedFd {
    return this.#fd.duplicate();
  }
}

acrossCopies(MemfdMemory, 'MemfdMemory');

/** The page size of a file in huge pages, in bytes; 0 for any other file. */
function hugePageOf(fd: OwnedFd): number {
  const { type, bsize } = statfsSync(`/proc/self/fd/${fd.number}`);
  return type === HUGETLBFS_MAGIC ? bsize : 0;
}

/**
 * A memfd that no process can resize, and that holds no program.
 * @param kind flags of memfd_create(2)
 */
function sealedMemfd(bytes: number, kind: number): OwnedFd {
  const sys = addon();
  const flags = Sys.MFD_CLOEXEC | Sys.MFD_ALLOW_SEALING | kind;
  let made = sys.memfdCreate('vfio-ts', flags | Sys.MFD_NOEXEC_SEAL);
  // Linux before 6.3 does not know the flag; Linux after it may forbid memory without it
  // (vm.memfd_noexec).
  if (made === -Errno.EINVAL) made = sys.memfdCreate('vfio-ts', flags);
  using undo = new Cleanup();
  const fd = undo.use(OwnedFd.own(made, 'creating a memfd'));
  checked(sys.ftruncate(fd.number, bytes), `sizing a memfd to ${bytes} bytes`);
  checked(sys.fcntl(fd.number, Sys.F_ADD_SEALS, Sys.F_SEAL_SHRINK | Sys.F_SEAL_GROW | Sys.F_SEAL_SEAL), 'sealing a memfd');
  undo.move();
  return fd;
}
