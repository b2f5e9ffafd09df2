import type { ModelBulk } from '../../../src/abi/device-host.ts';
import { type Storage, type StorageCompleted, type StorageQueue, WOULD_BLOCK } from '../../../src/abi/storage.ts';
import { MemoryStorage } from '../../../src/models/storage/memory-storage.ts';

/** For tests: a disk in memory whose operations end when the test says so. */
export class LateStorage implements Storage {
  readonly inner: MemoryStorage;
  readonly size: number;
  readonly readOnly = false;
  readonly volatile = true;
  readonly name = 'a slow disk';
  readonly bulk: ModelBulk;
  late: boolean;
  readonly underWay: (() => void)[] = [];

  constructor(size: number, late: boolean) {
    this.inner = new MemoryStorage(size);
    this.size = size;
    this.bulk = this.inner.bulk;
    this.late = late;
  }

  allocated(): number {
    return this.inner.allocated();
  }

  open(completed: StorageCompleted): StorageQueue {
    const { inner, underWay } = this;
    let pending = 0;
    let queued: (() => void)[] = [];
    const add = (tag: number, work: () => number) => {
      pending++;
      queued.push(() => {
        pending--;
        completed(tag, work());
      });
    };
    const queue: StorageQueue = {
      tryRead: (offset, into) => (this.late ? WOULD_BLOCK : inner.read(offset, into)),
      tryWrite: (offset, from) => (this.late ? WOULD_BLOCK : inner.write(offset, from)),
      read: (offset, into, tag) => add(tag, () => inner.read(offset, into)),
      write: (offset, from, tag) => add(tag, () => inner.write(offset, from)),
      flush: (tag) => add(tag, () => 0),
      zero: (offset, size, tag) => add(tag, () => inner.zero(offset, size)),
      submit: () => {
        underWay.push(...queued);
        queued = [];
        if (!this.late) this.end();
      },
      drain: () => {
        queue.submit();
        this.end();
      },
      get pending() {
        return pending;
      },
      [Symbol.dispose]: () => {},
    };
    return queue;
  }

  /** End the oldest `count` operations, and those that they lead to. */
  end(count = Number.POSITIVE_INFINITY): void {
    for (let i = 0; i < count && this.underWay.length > 0; i++) this.underWay.shift()!();
  }

  [Symbol.dispose](): void {}
}
