/**
 * Commands that cannot end at once: the state of each while it is in flight, and the check for
 * commands that touch the same blocks.
 */
import type { BouncePool } from './bounce-pool.ts';
import type { Command } from './command.ts';
import type { Namespace } from './namespace.ts';

export const OperationKind = { READ: 0, WRITE: 1, COMPARE: 2, VERIFY: 3, WRITE_ZEROES: 4, DEALLOCATE: 5, FLUSH: 6 } as const;
export type OperationKind = (typeof OperationKind)[keyof typeof OperationKind];

/** Verify reads this much at once. */
export const VERIFY_CHUNK = 0x4_0000;

const NO_BYTES = new Uint8Array(0);

export class Operation {
  /** The storage's name for it. */
  readonly tag: number;
  kind: OperationKind = OperationKind.READ;
  /** Not to be looked at once it is not alive: it belongs to another by then. */
  command!: Command;
  /** Null: it is about several. */
  namespace: Namespace | null = null;
  /** False after a reset: it ends silently. */
  alive = false;
  /** Of the first byte on the storage, and how many. */
  offset = 0.5;
  bytes = 0;
  /** The work after it is on the disk: FUA, or the write cache is off. */
  durable = false;
  /** The storage has said WOULD_BLOCK. */
  blocked = false;
  /** A flush is under way that comes before (read) or after (zeroes, deallocate) the rest. */
  flushing = false;
  /** Operations of the storage under way. */
  left = 0;
  /** The first error of them, or 0. */
  result = 0;
  /** Verify: bytes done. */
  progress = 0.5;
  buffer: Uint8Array | null = null;
  /** Data to or from the storage: the first bytes of `buffer`. */
  data: Uint8Array = NO_BYTES;
  /** Data to or from the host: `data`, or for a comparison the bytes behind it. */
  host: Uint8Array = NO_BYTES;
  timer: Disposable | null = null;
  /** Bytes [first, end) of the storage that it touches, and whether it changes them. */
  first = 0.5;
  end = 0.5;
  writes = false;
  /** Place among those in use. */
  place = 0;

  constructor(tag: number) {
    this.tag = tag;
  }
}

export class OperationTable {
  readonly #pool: BouncePool;
  readonly #max: number;
  readonly #all: Operation[] = [];
  readonly #free: Operation[] = [];
  readonly #used: Operation[] = [];

  /** @param max  operations under way at once */
  constructor(pool: BouncePool, max: number) {
    this.#pool = pool;
    this.#max = max;
  }

  get used(): number {
    return this.#used.length;
  }

  at(index: number): Operation {
    return this.#used[index]!;
  }

  byTag(tag: number): Operation {
    return this.#all[tag]!;
  }

  /** One with a buffer of `buffer` bytes (0: none); null when there is none now. */
  take(buffer: number): Operation | null {
    if (this.#used.length === this.#max) return null;
    const bytes = buffer === 0 ? null : this.#pool.take(buffer);
    if (buffer !== 0 && bytes === null) return null;
    let operation = this.#free.pop();
    if (operation === undefined) {
      operation = new Operation(this.#all.length);
      this.#all.push(operation);
    }
    operation.alive = true;
    operation.blocked = false;
    operation.durable = false;
    operation.flushing = false;
    operation.left = 0;
    operation.result = 0;
    operation.progress = 0;
    operation.buffer = bytes;
    operation.place = this.#used.length;
    this.#used.push(operation);
    return operation;
  }

  give(operation: Operation): void {
    if (operation.buffer !== null) this.#pool.give(operation.buffer);
    operation.buffer = null;
    operation.data = NO_BYTES;
    operation.host = NO_BYTES;
    operation.alive = false;
    const last = this.#used.pop()!;
    if (last !== operation) {
      this.#used[operation.place] = last;
      last.place = operation.place;
    }
    this.#free.push(operation);
  }

  /**
   * Whether an operation in flight touches [first, end) of `namespace`, and either of the two
   * writes. The specification promises no order, but no block may be torn between two commands
   * (6.4: AWUN is one block), and data from before a reset must not land over data that was written
   * after it.
   */
  conflicts(namespace: Namespace, first: number, end: number, writes: boolean): boolean {
    for (let i = 0; i < this.#used.length; i++) {
      const other = this.#used[i]!;
      if (other.namespace === namespace && (writes || other.writes) && other.first < end && first < other.end) return true;
    }
    return false;
  }
}

/**
 * Bytes of buffer that an operation of `kind` needs for `bytes` of the storage. Compare needs twice
 * as much, for the host's and the disk's.
 */
export function bufferSize(kind: OperationKind, bytes: number): number {
  switch (kind) {
    case OperationKind.COMPARE:
      return 2 * bytes;
    case OperationKind.VERIFY:
      return Math.min(bytes, VERIFY_CHUNK);
    case OperationKind.WRITE_ZEROES:
      return 0;
    default:
      return bytes;
  }
}
