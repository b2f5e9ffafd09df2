/**
 * Memory: what DMA reaches. Where it came from (a memfd here, a peer's fd, messages) is its own
 * business; an IOMMU domain only maps ranges of it.
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
   * Counted reference: whoever maps this memory holds one from map to unmap. Disposing drops the
   * creator's reference; pages stay as long as one is held, as pinned pages do.
   */
  get(): this;
  put(): void;
  /** References held, the creator's included; 0 = gone. */
  readonly references: number;
}

/** Memory that is mapped into this process: reads and writes are plain loads and stores. */
export interface DirectMemory extends MemoryBase {
  readonly kind: 'direct';
  /**
   * Window i covers bytes [i·WINDOW_BYTES, …). Each is the whole window, so an offset within it
   * indexes it.
   */
  readonly windows: readonly Uint8Array<ArrayBufferLike>[];
}

/**
 * Memory that answers only asynchronously: in another process and reached by messages. Rejects with
 * `VfioError` when the peer is gone.
 */
export interface RemoteMemory extends MemoryBase {
  readonly kind: 'remote';
  /**
   * @param requester the address of the function that reads, as in a transaction on the bus. Where
   * several ways lead to the memory, the function's own way is used
   */
  read(offset: number, into: Uint8Array, requester?: string): Promise<void>;
  write(offset: number, from: Uint8Array, requester?: string): Promise<void>;
}

/** Memory that the engine can read and write, directly or through calls. */
export type Memory = DirectMemory | RemoteMemory;

/**
 * Makes zeroed direct memory of at least `size` bytes, rounded up to whole pages. Injected into the
 * engine: memfds in production, plain buffers in fakes.
 */
export type MemoryAllocator = (size: number) => DirectMemory;
