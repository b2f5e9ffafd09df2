/**
 * Storage: bytes that outlive a device, in which a disk keeps its blocks. A storage is memory, a
 * file, or an overlay over either. Models get one and do not know its kind. Offsets and sizes are
 * bytes; results are 0 or a negative errno (`Errno` of base/errno.ts gives the names).
 */
import type { ModelBulk } from './device-host.ts';
import type { BytesAt } from './memory.ts';

/** The operation cannot be done without waiting: use the queued form. */
export const WOULD_BLOCK = 1;

/**
 * One user's queue of a storage. A controller opens one at each start. An operation that needs no
 * waiting is done at once. Others are queued; `submit` starts them together, and `completed`
 * reports each end later.
 */
export interface StorageQueue extends Disposable {
  /** Copy out now. 0, -errno or WOULD_BLOCK; `into` is not kept. */
  tryRead(offset: number, into: Uint8Array): number;
  /**
   * As `tryRead` into the first `count` of `parts`, one after the other, with at least one byte
   * each. Absent: `tryRead` for each costs no more. WOULD_BLOCK: some may have been read.
   */
  tryReadParts?(offset: number, parts: readonly (Uint8Array | null)[], count: number): number;
  /** Whether `tryWrite` can only return WOULD_BLOCK. Absent: it cannot say. */
  readonly writesWait?: boolean;
  /** Copy in now, not yet durable. 0, -errno or WOULD_BLOCK; `from` is not kept. */
  tryWrite(offset: number, from: Uint8Array): number;
  /**
   * Where bytes [offset, offset + size) are, for a storage that has them in this process, in one
   * piece: the caller copies them before it returns to the event loop. False: use `tryRead` or
   * `tryWrite`, which also say what is wrong. Absent: the storage has its bytes elsewhere.
   *
   * @param write the caller overwrites all of them; else it only reads
   */
  locate?(offset: number, size: number, write: boolean, at: BytesAt): boolean;
  /**
   * Queue a read. `into` belongs to the queue until `tag` has completed, also after the queue is
   * disposed.
   */
  read(offset: number, into: Uint8Array, tag: number): void;
  /**
   * Queue a write; `durable`: it completes when it is on the disk (FUA). `from` belongs to the
   * queue until `tag` has completed.
   */
  write(offset: number, from: Uint8Array, tag: number, durable: boolean): void;
  /**
   * Queue a flush. When it completes, every operation that had completed before this call is on the
   * disk (fdatasync).
   */
  flush(tag: number): void;
  /**
   * Queue zeroes: once completed, [offset, offset + size) reads as zeroes. `discard`: the storage
   * may give the space back (a hole).
   */
  zero(offset: number, size: number, tag: number, discard: boolean): void;
  /** Start the operations queued since the last call, as one batch. */
  submit(): void;
  /** Block until every submitted operation has ended, and call `completed` for each. */
  drain(): void;
  /** Operations queued or under way. */
  readonly pending: number;
}

/**
 * Reports the end of a queued operation: 0 or -errno. Called from `submit`, `drain` or later, never
 * from the call that queued the operation.
 */
export type StorageCompleted = (tag: number, result: number) => void;

/** Where a disk keeps its blocks. */
export interface Storage extends Disposable {
  /** Bytes. */
  readonly size: number;
  /** The storage refuses writes and zeroes with -EROFS. */
  readonly readOnly: boolean;
  /**
   * Whether a power cut loses writes that were not flushed. A disk reports a volatile write cache
   * then.
   */
  readonly volatile: boolean;
  /** For messages: `disk.img`, `64 MiB of memory`. */
  readonly name: string;
  /**
   * Contents to send when the device moves to another process, in blocks of 4096 bytes; one user at
   * a time. Without it the contents stay in place, and a device that writes to the storage cannot
   * be moved.
   */
  readonly bulk?: ModelBulk;
  /** Bytes that take space. Bytes that were never written, or were discarded, take none. */
  allocated(): number;
  /**
   * After dispose of the queue, submitted operations still end, but `completed` is not called any
   * more.
   */
  open(completed: StorageCompleted): StorageQueue;
}
