/**
 * For tests: a storage that would block. It ends its operations when the test says so, in the
 * test's order, or fails them.
 */
import { type Storage, type StorageCompleted, type StorageQueue, WOULD_BLOCK } from '../../../src/abi/storage.ts';
import { Errno } from '../../../src/base/errno.ts';

export interface TestOperation {
  readonly kind: 'read' | 'write' | 'flush' | 'zero';
  readonly offset: number;
  readonly size: number;
  readonly durable: boolean;
  readonly discard: boolean;
  /** Do it and report the result. */
  end(result?: number): void;
}

export class TestStorage implements Storage {
  readonly size: number;
  readonly bytes: Uint8Array;
  readonly name = 'a storage of a test';
  readOnly = false;
  volatile = true;
  /** The result of `tryRead` and `tryWrite` when they do not carry the operation out. */
  blocks: { read: boolean; write: boolean } = { read: true, write: true };
  /** The error of all operations that are submitted from here on: -errno; 0: none. */
  error = 0;
  /** When set: operations end at once, within `submit`. */
  immediate = false;
  /** Operations that have not ended, in the order of submission. */
  readonly underWay: TestOperation[] = [];
  /** How many calls of `submit` started an operation. */
  batches = 0;
  queues = 0;

  constructor(size: number) {
    this.size = size;
    this.bytes = new Uint8Array(size);
  }

  allocated(): number {
    return this.bytes.some((byte) => byte !== 0) ? this.size : 0;
  }

  open(completed: StorageCompleted): StorageQueue {
    this.queues++;
    return new TestStorageQueue(this, completed, () => this.queues--);
  }

  /** End all operations under way, and those that they lead to. */
  endAll(): void {
    while (this.underWay.length > 0) this.underWay[0]!.end();
  }

  [Symbol.dispose](): void {}
}

class TestStorageQueue implements StorageQueue {
  readonly #storage: TestStorage;
  readonly #completed: StorageCompleted;
  readonly #closed: () => void;
  #queued: TestOperation[] = [];
  #pending = 0;
  #disposed = false;

  constructor(storage: TestStorage, completed: StorageCompleted, closed: () => void) {
    this.#storage = storage;
    this.#completed = completed;
    this.#closed = closed;
  }

  get pending(): number {
    return this.#pending;
  }

  tryRead(offset: number, into: Uint8Array): number {
    const { error, blocks, bytes } = this.#storage;
    if (error !== 0) return error;
    if (blocks.read) return WOULD_BLOCK;
    into.set(bytes.subarray(offset, offset + into.length));
    return 0;
  }

  tryWrite(offset: number, from: Uint8Array): number {
    const { error, blocks, bytes } = this.#storage;
    if (error !== 0) return error;
    if (blocks.write) return WOULD_BLOCK;
    bytes.set(from, offset);
    return 0;
  }

  read(offset: number, into: Uint8Array, tag: number): void {
    this.#add('read', offset, into.length, tag, false, false, () => into.set(this.#storage.bytes.subarray(offset, offset + into.length)));
  }

  write(offset: number, from: Uint8Array, tag: number, durable: boolean): void {
    this.#add('write', offset, from.length, tag, durable, false, () => this.#storage.bytes.set(from, offset));
  }

  flush(tag: number): void {
    this.#add('flush', 0, 0, tag, false, false, () => {});
  }

  zero(offset: number, size: number, tag: number, discard: boolean): void {
    this.#add('zero', offset, size, tag, false, discard, () => this.#storage.bytes.fill(0, offset, offset + size));
  }

  submit(): void {
    const batch = this.#queued;
    if (batch.length === 0) return;
    this.#queued = [];
    this.#storage.batches++;
    this.#storage.underWay.push(...batch);
    if (this.#storage.immediate) for (const operation of batch) operation.end();
  }

  drain(): void {
    this.submit();
    this.#storage.endAll();
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#closed();
  }

  #add(kind: TestOperation['kind'], offset: number, size: number, tag: number, durable: boolean, discard: boolean, work: () => void): void {
    if (!(offset >= 0 && offset + size <= this.#storage.size)) throw new Error(`${kind} of [${offset}, + ${size}) is outside`);
    this.#pending++;
    const { underWay } = this.#storage;
    const operation: TestOperation = {
      kind,
      offset,
      size,
      durable,
      discard,
      end: (told) => {
        const at = underWay.indexOf(operation);
        if (at < 0) throw new Error(`a ${kind} that has ended already`);
        underWay.splice(at, 1);
        const refused = this.#storage.readOnly && (kind === 'write' || kind === 'zero') ? -Errno.EROFS : 0;
        const result = told ?? (refused || this.#storage.error);
        if (result === 0) work();
        this.#pending--;
        if (!this.#disposed) this.#completed(tag, result);
      },
    };
    this.#queued.push(operation);
  }
}
