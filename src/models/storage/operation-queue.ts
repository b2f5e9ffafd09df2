/**
 * The common part of the queues of storages in this process: a ring that keeps operations until
 * `submit`, without an object for each.
 */
import type { StorageCompleted, StorageQueue } from '../../abi/storage.ts';
import { Errno } from '../../base/errno.ts';

export const OperationKind = { READ: 0, WRITE: 1, FLUSH: 2, ZERO: 3, DISCARD: 4 } as const;
export type OperationKind = (typeof OperationKind)[keyof typeof OperationKind];

const NO_BYTES = new Uint8Array(0);

/** One queued operation. They are pooled: the storage gives one back with `end`. */
export class Operation {
  kind: OperationKind = OperationKind.READ;
  tag = 0;
  offset = 0;
  /** Of `bytes`, or of what is zeroed. */
  size = 0;
  bytes: Uint8Array = NO_BYTES;
  durable = false;
  /** For a storage with several steps: how many are under way, and the first error. */
  steps = 0;
  result = 0;
}

/**
 * Whether [offset, offset + size) lies within a storage: -EINVAL if not, also for NaN and
 * fractions.
 */
export function rangeError(offset: number, size: number, end: number): number {
  return offset >= 0 && size >= 0 && offset + size <= end && Number.isSafeInteger(offset) && Number.isSafeInteger(size) ? 0 : -Errno.EINVAL;
}

/** Order, pooling and telling; a storage fills in what an operation does. */
export abstract class OperationQueue implements StorageQueue {
  readonly #completed: StorageCompleted;
  readonly #pool: Operation[] = [];
  #queued: Operation[] = [];
  #starting: Operation[] = [];
  #started = 0;
  #submitted = 0;
  #running = false;
  #pending = 0;
  protected disposed = false;

  constructor(completed: StorageCompleted) {
    this.#completed = completed;
  }

  abstract tryRead(offset: number, into: Uint8Array): number;
  abstract tryWrite(offset: number, from: Uint8Array): number;
  /** Do it, and `end` it now or later. */
  protected abstract start(operation: Operation): void;
  /**
   * Called after a batch of operations has started: submit those that wait in a queue below.
   */
  protected batchStarted(): void {}
  /** Block until what is under way further down has ended; nothing where all ends at once. */
  protected drainBelow(): void {}
  /** Disposed, and nothing is pending. */
  protected released(): void {}

  get pending(): number {
    return this.#pending;
  }

  read(offset: number, into: Uint8Array, tag: number): void {
    this.#add(OperationKind.READ, offset, into.length, into, tag, false);
  }

  write(offset: number, from: Uint8Array, tag: number, durable: boolean): void {
    this.#add(OperationKind.WRITE, offset, from.length, from, tag, durable);
  }

  flush(tag: number): void {
    this.#add(OperationKind.FLUSH, 0, 0, NO_BYTES, tag, false);
  }

  zero(offset: number, size: number, tag: number, discard: boolean): void {
    this.#add(discard ? OperationKind.DISCARD : OperationKind.ZERO, offset, size, NO_BYTES, tag, false);
  }

  submit(): void {
    this.#submitted = this.#queued.length;
    // Called from within `completed`: the running loop takes these operations too, so that calls do
    // not nest.
    if (!this.#running) this.#run();
  }

  drain(): void {
    this.#run();
    this.drainBelow();
  }

  [Symbol.dispose](): void {
    if (this.disposed) return;
    this.disposed = true;
    // Drop operations that were never submitted.
    this.#pending -= this.#queued.length - this.#submitted;
    this.#queued.length = this.#submitted;
    if (this.#pending === 0) this.released();
    else if (!this.#running) this.submit();
  }

  /** Gives the operation back, and reports it. */
  protected end(operation: Operation, result: number): void {
    const { tag } = operation;
    operation.bytes = NO_BYTES;
    this.#pool.push(operation);
    this.#pending--;
    if (!this.disposed) this.#completed(tag, result);
    else if (this.#pending === 0) this.released();
  }

  #add(kind: OperationKind, offset: number, size: number, bytes: Uint8Array, tag: number, durable: boolean): void {
    if (this.disposed) return;
    const operation = this.#pool.pop() ?? new Operation();
    operation.kind = kind;
    operation.offset = offset;
    operation.size = size;
    operation.bytes = bytes;
    operation.tag = tag;
    operation.durable = durable;
    operation.steps = 0;
    operation.result = 0;
    this.#queued.push(operation);
    this.#pending++;
  }

  #run(): void {
    const within = this.#running;
    this.#running = true;
    try {
      this.#startSubmitted();
    } finally {
      this.#running = within;
    }
  }

  #startSubmitted(): void {
    while (this.#submitted > 0 || this.#started < this.#starting.length) {
      if (this.#started === this.#starting.length) this.#takeSubmitted();
      while (this.#started < this.#starting.length) this.start(this.#starting[this.#started++]!);
      this.batchStarted();
    }
  }

  /** The two lists change places: what was queued since `submit` stays queued. */
  #takeSubmitted(): void {
    const taken = this.#queued;
    const left = this.#starting;
    left.length = 0;
    for (let i = this.#submitted; i < taken.length; i++) left.push(taken[i]!);
    taken.length = this.#submitted;
    this.#starting = taken;
    this.#queued = left;
    this.#started = 0;
    this.#submitted = 0;
  }
}
