/**
 * Storage: bytes that outlive a device, which a disk keeps its blocks in: memory, a file, an
 * overlay over either. Models get one and know nothing of where it is. Offsets and sizes are bytes;
 * results are 0 or a negative errno (`Errno` of base/errno.ts gives the names).
 */
import type { ModelBulk } from './device-host.ts';

/** Not now without waiting: use the queued form. */
export const WOULD_BLOCK = 1;

/**
 * One user's queue of a storage: a controller opens one for each of its lives. Everything is tried
 * at once where that needs no waiting; what does is queued, started together by `submit`, and told
 * to `completed` later.
 */
export interface StorageQueue extends Disposable {
  /** Copy out now. 0, -errno or WOULD_BLOCK; `into` is not kept. */
  tryRead(offset: number, into: Uint8Array): number;
  /** Copy in now, not yet durable. 0, -errno or WOULD_BLOCK; `from` is not kept. */
  tryWrite(offset: number, from: Uint8Array): number;
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
   * Queue: everything that had completed when this was called is on the disk when it completes
   * (fdatasync).
   */
  flush(tag: number): void;
  /**
   * Queue: [offset, + size) reads as zeroes once it completed. `discard`: its space may be given
   * back (a hole).
   */
  zero(offset: number, size: number, tag: number, discard: boolean): void;
  /** Start what was queued since the last time, as one batch. */
  submit(): void;
  /** Block until everything submitted has ended, telling `completed` on the way. */
  drain(): void;
  /** Operations queued or under way. */
  readonly pending: number;
}

/**
 * What is told of a queued operation: 0 or -errno. Called from `submit`, `drain` or later, never
 * from the call that queued it.
 */
export type StorageCompleted = (tag: number, result: number) => void;

/** Where a disk keeps its blocks. */
export interface Storage extends Disposable {
  /** Bytes. */
  readonly size: number;
  /** Writes and zeroes are refused with -EROFS. */
  readonly readOnly: boolean;
  /**
   * Whether a power cut loses what was written and not flushed: a disk says it has a volatile write
   * cache.
   */
  readonly volatile: boolean;
  /** For messages: `disk.img`, `64 MiB of memory`. */
  readonly name: string;
  /**
   * What has to be sent when the device is moved to another process, in blocks of 4096 bytes; one
   * user at a time. Without it the contents stay where they are: a device that writes to such a
   * storage cannot be moved.
   */
  readonly bulk?: ModelBulk;
  /** Bytes that are really held; what has never been written, or was discarded, is not. */
  allocated(): number;
  /**
   * After dispose of the queue `completed` is not called any more; what was submitted still ends.
   */
  open(completed: StorageCompleted): StorageQueue;
}
