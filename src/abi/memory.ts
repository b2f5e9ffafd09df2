/**
 * Memory that DMA reaches. It may be a memfd, a peer's fd, or memory that answers by messages; an
 * IOMMU domain maps ranges of any of them.
 */

/**
 * Rights of an access or a mapping, seen from the device. The bits are VFIO_DMA_MAP_FLAG_READ and
 * _WRITE.
 */
export const Access = { READ: 1, WRITE: 2, READ_WRITE: 3 } as const;
export type Access = (typeof Access)[keyof typeof Access];

/**
 * Direct memory is handed out in windows of at most this many bytes (one ArrayBuffer on Node 20
 * holds no more than 4 GiB).
 */
export const WINDOW_BYTES = 2 ** 32;

interface MemoryBase extends Disposable {
  /** Bytes, a multiple of 4096. */
  readonly size: number;
  /**
   * Take or drop a counted reference. Each mapping of this memory holds one from map to unmap.
   * Disposing drops the creator's reference. Pages stay while a reference is held, as pinned pages
   * do.
   */
  get(): this;
  /** Drops one reference. The last `put` frees the pages. */
  put(): void;
  /** References held, the creator's included; 0 = gone. */
  readonly references: number;
}

/** Memory that is mapped into this process: reads and writes are plain loads and stores. */
export interface DirectMemory extends MemoryBase {
  readonly kind: 'direct';
  /**
   * Window i covers bytes [i·WINDOW_BYTES, …). An offset within the window is an index of its
   * bytes.
   */
  readonly windows: readonly Uint8Array<ArrayBufferLike>[];
}

/** Where bytes lie in this process. One object serves many look-ups, which fill it in. */
export interface BytesAt {
  /** The memory that holds the bytes, and maybe others. */
  bytes: Uint8Array;
  /** The first of them, as an index of `bytes`. */
  offset: number;
}

/** Memory that no message leads to, and that each access copies: another process's. */
export interface CopiedAtOnce {
  /**
   * Bytes [offset, offset + size) into `into` from index `at` on.
   * @returns false when not all of them are there any more
   */
  read(offset: number, into: Uint8Array, at: number, size: number): boolean;
  /** The last 4 bytes of a short write land after the others. @returns as `read` */
  write(offset: number, from: Uint8Array, at: number, size: number): boolean;
}

/**
 * Memory in another process that is not mapped here. Calls reject with `VfioError` when the peer is
 * gone.
 */
export interface RemoteMemory extends MemoryBase {
  readonly kind: 'remote';
  /** Null or absent: the memory is reached by messages, and answers only asynchronously. */
  readonly atOnce?: CopiedAtOnce | null;
  /**
   * @param requester the address of the function that reads, as in a transaction on the bus. Where
   *   several ways lead to the memory, the function's own way is used
   * @param lands asked once, when all bytes are there: whether they may be stored in `into`, which
   *   then happens at once. Where the answer is no, none is stored, and the promise resolves all
   *   the same. Memory that does not ask stores them. Default: they may
   */
  read(offset: number, into: Uint8Array, requester?: string, lands?: () => boolean): Promise<void>;
  /**
   * Whether `write` has taken its bytes when it returns. Default: it may not have, and the caller
   * leaves `from` as it is until the promise settles.
   */
  readonly takesAtOnce?: boolean;
  write(offset: number, from: Uint8Array, requester?: string): Promise<void>;
}

/** Memory that the engine can read and write, directly or through calls. */
export type Memory = DirectMemory | RemoteMemory;

/**
 * Makes zeroed direct memory of at least `size` bytes, rounded up to whole pages. The engine gets
 * one from its caller: it makes memfds in production, and plain buffers in fakes.
 */
export type MemoryAllocator = (size: number) => DirectMemory;
