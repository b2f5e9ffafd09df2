/**
 * Files that one peer has given as memory. Peers map many ranges of few files, each time with
 * another descriptor, and Linux allows a process about 65000 mappings. So a file is mapped once,
 * whole, and its descriptor is kept once, for as long as any range of the file is in use.
 *
 * A file that is no longer in use stays mapped for a moment. A peer that maps and unmaps one range
 * for each of its requests would otherwise cost a mapping of the whole file each time, and a
 * collection of garbage every few times, since V8 counts mapped bytes as its own.
 */
import { fstatSync } from 'node:fs';
import { Access } from '../abi/memory.ts';
import { Cleanup } from '../base/cleanup.ts';
import { type Clock, SystemClock } from '../base/clock.ts';
import { VfioError } from '../base/errno.ts';
import { MEMFD_MAX_BYTES, MemfdMemory } from './memfd.ts';
import type { OwnedFd } from './owned-fd.ts';

const PAGE = 4096;
/** A file stays mapped for so long at most after its last use, and for any time less. */
const LINGER_MS = 100;

interface Mapped {
  readonly file: number;
  /** Where in the file the memory starts. */
  readonly start: number;
  readonly memory: MemfdMemory;
  readonly writable: boolean;
}

/** A range of a file as memory. A fresh one has no reference yet: map it, then call `settle`. */
export interface FileRange {
  readonly memory: MemfdMemory;
  readonly offset: number;
  /** The same number for the same file, for as long as any of it is mapped. */
  readonly file: number;
}

export interface PeerFilesOptions {
  /**
   * Files of a disk and the like, too: the owner of their file system can keep this thread waiting,
   * at fstat(2), at each first touch of a page, and at the end of the mapping. Default: memory
   * alone (memfd, tmpfs, hugetlbfs).
   */
  readonly anyFile?: boolean;
  /**
   * Bytes without pages that the peer's files may bring in all. The first touch of each makes a
   * page that Linux charges to the memory cgroup of this process, and that stays for as long as the
   * peer keeps the file. Default: no limit.
   */
  readonly maxSparseBytes?: number;
  /** Of the moment that a file stays mapped after its last use. Default: the machine's. */
  readonly clock?: Clock;
}

/**
 * The holes of so many files are remembered. Of more, the first to come are counted again when they
 * return.
 */
const SPARSE_FILES_MAX = 4096;
const STAT_BLOCK_BYTES = 512n;

export class PeerFiles {
  readonly #maxBytes: number;
  readonly #anyFile: boolean;
  readonly #maxSparse: number;
  /** Bytes of holes that were counted, by file and in all. */
  readonly #sparse = new Map<string, number>();
  #sparseBytes = 0;
  readonly #clock: Clock;
  /**
   * By device and inode, exactly: filesystems use all 64 bits. Each memory has a reference of this
   * object; it is in use while there is another.
   */
  readonly #files = new Map<string, Mapped[]>();
  #nextFile = 1;
  #sweepAt = 64;
  /** Bytes that are mapped, in use or not. */
  #bytes = 0;
  /** The result of `range` that was mapped for it. */
  #fresh: Mapped | null = null;
  #timer: Disposable | null = null;

  /**
   * @param maxBytes of address space that the peer's files may take here together
   */
  constructor(maxBytes: number, options: PeerFilesOptions = {}) {
    const { anyFile = false, maxSparseBytes = Number.POSITIVE_INFINITY, clock = new SystemClock() } = options;
    this.#clock = clock;
    this.#maxBytes = maxBytes;
    this.#anyFile = anyFile;
    this.#maxSparse = maxSparseBytes;
  }

  /** Files that are mapped, in use or not. */
  get known(): number {
    return this.#files.size;
  }

  /**
   * Bytes [offset, offset + size) of the file behind `fd`, which is taken over. Call `settle` once
   * the mapper holds the memory, or does not want it.
   *
   * @throws VfioError EINVAL no memory, misaligned, past the file's end, or no file with a size;
   *   EACCES when the descriptor does not allow `access`; ENOMEM over the limit; ENODEV when it
   *   cannot be mapped
   */
  range(fd: OwnedFd, offset: number, size: number, access: Access): FileRange {
    using undo = new Cleanup();
    undo.use(fd);
    // Before anything else touches it.
    if (!this.#anyFile && !fd.isMemory) {
      throw new VfioError(
        'EINVAL',
        `the descriptor is ${fd.describe()}: no memory (memfd, tmpfs, hugetlbfs), so that it could keep the server waiting`,
        {
          fix: 'Give memory of a memfd or of /dev/shm; for files of other file systems, whose owner you trust: vfio serve --allow-any-file.',
        },
      );
    }
    if (offset % PAGE !== 0 || size % PAGE !== 0)
      throw new VfioError('EINVAL', `offset ${offset} and size ${size} must be multiples of ${PAGE}`);
    const { dev, ino, size: length, blocks } = fstatSync(fd.number, { bigint: true });
    const key = `${dev}:${ino}`;
    const holes = this.#checkSparse(key, size, Number(length - blocks * STAT_BLOCK_BYTES));
    const writable = (access & Access.WRITE) !== 0;
    const found = this.#find(key, offset, size, writable);
    if (found !== null) {
      this.#countSparse(key, holes);
      return found;
    }
    const whole = Math.floor(Number(length) / PAGE) * PAGE;
    const all = whole <= MEMFD_MAX_BYTES && offset + size <= whole;
    this.#makeRoom(all ? whole : size);
    const start = all ? 0 : offset;
    const memory = this.#map(fd, start, all ? whole : size, writable ? Access.READ_WRITE : Access.READ);
    const made: Mapped = { file: this.#files.get(key)?.[0]?.file ?? this.#nextFile++, start, memory, writable };
    this.#files.set(key, [...(this.#files.get(key) ?? []), made]);
    this.#bytes += memory.size;
    this.#fresh = made;
    this.#countSparse(key, holes);
    return { memory, offset: offset - made.start, file: made.file };
  }

  /**
   * The same of a file that is mapped already: by its device and inode, as stat(2) has them. The
   * mapping keeps the file, and so the inode. Null when the range is not mapped.
   */
  mapped(device: bigint, inode: bigint, offset: number, size: number, access: Access): FileRange | null {
    return this.#find(`${device}:${inode}`, offset, size, (access & Access.WRITE) !== 0);
  }

  #find(key: string, offset: number, size: number, writable: boolean): FileRange | null {
    for (const each of this.#files.get(key) ?? []) {
      if (writable && !each.writable) continue;
      if (offset >= each.start && offset + size <= each.start + each.memory.size) {
        return { memory: each.memory, offset: offset - each.start, file: each.file };
      }
    }
    return null;
  }

  /** The number that `range` gave this file, 0 when none of it is mapped. */
  identify(fd: OwnedFd): number {
    if (!this.#anyFile && !fd.isMemory) return 0;
    const { dev, ino } = fstatSync(fd.number, { bigint: true });
    return this.#files.get(`${dev}:${ino}`)?.find(inUse)?.file ?? 0;
  }

  /**
   * The last result of `range` is mapped, or is not wanted: memory that was mapped for it then
   * goes.
   */
  settle(): void {
    const fresh = this.#fresh;
    this.#fresh = null;
    if (fresh !== null && !inUse(fresh)) this.#sweep((each) => each === fresh);
  }

  /** Ranges were unmapped: files that are no longer in use go in a moment. */
  unused(): void {
    if (this.#files.size === 0) return;
    this.#timer ??= this.#clock.after(LINGER_MS, () => {
      this.#timer = null;
      this.#sweep();
    });
  }

  /** The peer is gone. Memory that is in use stays until its last user drops it. */
  [Symbol.dispose](): void {
    this.#timer?.[Symbol.dispose]();
    this.#timer = null;
    for (const mapped of this.#files.values()) for (const { memory } of mapped) memory[Symbol.dispose]();
    this.#files.clear();
    this.#bytes = 0;
  }

  /**
   * Check the bytes of holes that this range may bring and that were not counted yet.
   * @throws VfioError ENOMEM over the limit
   */
  #checkSparse(key: string, size: number, holes: number): number {
    if (this.#maxSparse === Number.POSITIVE_INFINITY) return 0;
    const more = Math.max(0, Math.min(size, holes - (this.#sparse.get(key) ?? 0)));
    if (this.#sparseBytes + more <= this.#maxSparse) return more;
    throw new VfioError(
      'ENOMEM',
      `memory with ${more} bytes that have no pages, after ${this.#sparseBytes} before: the server makes them, and is charged; the client may have ${this.#maxSparse}`,
      { fix: 'Fill it in the client first (write to it, or fallocate); or raise the limit: vfio serve --max-sparse SIZE.' },
    );
  }

  #countSparse(key: string, bytes: number): void {
    if (bytes === 0) return;
    this.#sparseBytes += bytes;
    const before = this.#sparse.get(key) ?? 0;
    this.#sparse.delete(key);
    this.#sparse.set(key, before + bytes);
    if (this.#sparse.size <= SPARSE_FILES_MAX) return;
    const [oldest] = this.#sparse.keys();
    this.#sparse.delete(oldest!);
  }

  /** A descriptor of our own: the peer's may be closed meanwhile. */
  #map(fd: OwnedFd, start: number, size: number, access: Access): MemfdMemory {
    try {
      return MemfdMemory.fromFd(fd.duplicate(), start, size, access);
    } catch (error) {
      // The process has no room for one more mapping, unless files that are not in use go.
      if (!(error instanceof VfioError && error.code === 'ENOMEM') || this.#sweep() === 0) throw error;
      return MemfdMemory.fromFd(fd.duplicate(), start, size, access);
    }
  }

  /** @throws VfioError ENOMEM when the files in use leave no room for `bytes` more */
  #makeRoom(bytes: number): void {
    if (this.#files.size >= this.#sweepAt || this.#bytes + bytes > this.#maxBytes) {
      this.#sweep();
      this.#sweepAt = 2 * this.#files.size + 64;
    }
    if (this.#bytes + bytes <= this.#maxBytes) return;
    const text = `the peer's files would take ${this.#bytes + bytes} bytes of address space; it may have ${this.#maxBytes}`;
    throw new VfioError('ENOMEM', text);
  }

  /** Unmap what is not in use. @returns the number of mappings that went */
  #sweep(goes: (mapped: Mapped) => boolean = () => true): number {
    let gone = 0;
    for (const [key, mapped] of this.#files) {
      const unused = mapped.filter((each) => !inUse(each) && goes(each));
      if (unused.length === 0) continue;
      gone += unused.length;
      for (const { memory } of unused) {
        this.#bytes -= memory.size;
        memory[Symbol.dispose]();
      }
      const left = mapped.filter((each) => !unused.includes(each));
      if (left.length === 0) this.#files.delete(key);
      else this.#files.set(key, left);
    }
    return gone;
  }
}

function inUse({ memory }: Mapped): boolean {
  return memory.references > 1;
}
