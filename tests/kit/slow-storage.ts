/**
 * A storage that answers nothing at once, for code that must also work over a disk. Queued
 * operations end in an order of the test's choice.
 */
import { type Storage, type StorageCompleted, type StorageQueue, WOULD_BLOCK } from '../../src/abi/storage.ts';
import type { MemoryStorage } from '../../src/models/storage/memory-storage.ts';

type Step = () => void;

export class SlowStorage implements Storage {
  readonly memory: MemoryStorage;
  readonly size: number;
  readonly readOnly: boolean;
  readonly volatile = true;
  readonly name = 'slow storage';
  /** Operations under way: each ends when the test calls it. */
  readonly underWay: Step[] = [];
  /** The result of reads, when it is not 0. */
  readError = 0;

  constructor(memory: MemoryStorage, readOnly = false) {
    this.memory = memory;
    this.size = memory.size;
    this.readOnly = readOnly;
  }

  /** End one operation. @param pick which, by any number */
  end(pick = 0): void {
    this.underWay.splice(pick % this.underWay.length, 1)[0]?.();
  }

  allocated(): number {
    return this.memory.allocated();
  }

  open(completed: StorageCompleted): StorageQueue {
    return new SlowQueue(this, completed);
  }

  [Symbol.dispose](): void {
    this.memory[Symbol.dispose]();
  }
}

class SlowQueue implements StorageQueue {
  pending = 0;
  readonly #storage: SlowStorage;
  readonly #completed: StorageCompleted;
  #queued: Step[] = [];
  #disposed = false;

  constructor(storage: SlowStorage, completed: StorageCompleted) {
    this.#storage = storage;
    this.#completed = completed;
  }

  tryRead(): number {
    return WOULD_BLOCK;
  }

  tryWrite(): number {
    return WOULD_BLOCK;
  }

  read(offset: number, into: Uint8Array, tag: number): void {
    this.#add(tag, () => this.#storage.readError || this.#storage.memory.read(offset, into));
  }

  write(offset: number, from: Uint8Array, tag: number): void {
    this.#add(tag, () => this.#storage.memory.write(offset, from));
  }

  flush(tag: number): void {
    this.#add(tag, () => 0);
  }

  zero(offset: number, size: number, tag: number): void {
    this.#add(tag, () => this.#storage.memory.zero(offset, size));
  }

  submit(): void {
    this.#storage.underWay.push(...this.#queued);
    this.#queued = [];
  }

  drain(): void {
    while (this.#storage.underWay.length > 0) this.#storage.end();
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
  }

  #add(tag: number, work: () => number): void {
    this.pending++;
    this.#queued.push(() => {
      const result = work();
      this.pending--;
      if (!this.#disposed) this.#completed(tag, result);
    });
  }
}
