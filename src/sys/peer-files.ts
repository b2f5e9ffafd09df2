/**
 * Files that one peer has given as memory. Peers map many ranges of few files, each time with
 * another descriptor, and Linux allows a process about 65000 mappings. So a file is mapped once,
 * whole, and its descriptor is kept once, for as long as any range of the file is in use.
 */
import { fstatSync } from 'node:fs';
import { Access } from '../abi/memory.ts';
import { Cleanup } from '../base/cleanup.ts';
import { VfioError } from '../base/errno.ts';
import { MEMFD_MAX_BYTES, MemfdMemory } from './memfd.ts';
import type { OwnedFd } from './owned-fd.ts';

const PAGE = 4096;

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
  /**
   * By device and inode, exactly: filesystems use all 64 bits. A sweep now and then removes files
   * whose memory is gone.
   */
  readonly #files = new Map<string, Mapped[]>();
  #nextFile = 1;
  #sweepAt = 64;
  /** At most so many bytes are mapped; memory that has gone since the last sweep still counts. */
  #bytes = 0;
  #fresh: MemfdMemory | null = null;

  /**
   * @param maxBytes of address space that the peer's files may take here together
   */
  constructor(maxBytes: number, { anyFile = false, maxSparseBytes = Number.POSITIVE_INFINITY }: PeerFilesOptions = {}) {
    this.#maxBytes = maxBytes;
    this.#anyFile = anyFile;
    this.#maxSparse = maxSparseBytes;
  }

  /** Files known, including those that are no longer mapped: for tests. */
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
    const known = this.#files.get(key);
    const first = known?.find(({ memory }) => memory.references > 0);
    if (known !== undefined) {
      for (const each of known) {
        if (each.memory.references === 0 || (writable && !each.writable)) continue;
        if (offset >= each.start && offset + size <= each.start + each.memory.size) {
          this.#countSparse(key, holes);
          return { memory: each.memory, offset: offset - each.start, file: each.file };
        }
      }
    }
    const whole = Math.floor(Number(length) / PAGE) * PAGE;
    const all = whole <= MEMFD_MAX_BYTES && offset + size <= whole;
    this.#checkLimit(all ? whole : size);
    // A descriptor of our own: the peer's may be closed meanwhile.
    const memory = MemfdMemory.fromFd(fd.duplicate(), all ? 0 : offset, all ? whole : size, writable ? Access.READ_WRITE : Access.READ);
    const made: Mapped = { file: first?.file ?? this.#nextFile++, start: all ? 0 : offset, memory, writable };
    const live = known?.filter((each) => each.memory.references > 0) ?? [];
    this.#files.set(key, [...live, made]);
    this.#fresh = memory;
    this.#countSparse(key, holes);
    return { memory, offset: offset - made.start, file: made.file };
  }

  /** The number that `range` gave this file, 0 when none of it is mapped. */
  identify(fd: OwnedFd): number {
    if (!this.#anyFile && !fd.isMemory) return 0;
    const { dev, ino } = fstatSync(fd.number, { bigint: true });
    return this.#files.get(`${dev}:${ino}`)?.find(({ memory }) => memory.references > 0)?.file ?? 0;
  }

  /**
   * Drop our reference to the last result of `range`: from now on the memory lives for as long as a
   * mapping holds it.
   */
  settle(): void {
    const fresh = this.#fresh;
    this.#fresh = null;
    fresh?.[Symbol.dispose]();
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

  /** The sweep runs only when the limit matters, so the usual map costs one addition. */
  #checkLimit(bytes: number): void {
    if (this.#files.size >= this.#sweepAt || this.#bytes + bytes > this.#maxBytes) this.#sweep();
    if (this.#bytes + bytes > this.#maxBytes) {
      const text = `the peer's files would take ${this.#bytes + bytes} bytes of address space; it may have ${this.#maxBytes}`;
      throw new VfioError('ENOMEM', text);
    }
    this.#bytes += bytes;
  }

  #sweep(): void {
    this.#bytes = 0;
    for (const [key, mapped] of this.#files) {
      const live = mapped.filter(({ memory }) => memory.references > 0);
      for (const { memory } of live) this.#bytes += memory.size;
      if (live.length === 0) this.#files.delete(key);
    }
    this.#sweepAt = 2 * this.#files.size + 64;
  }
}
