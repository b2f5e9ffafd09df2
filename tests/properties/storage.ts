/**
 * Every storage is an array of bytes that remembers: random operations, at once and queued, from
 * several queues, beside the array itself.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { type Storage, type StorageQueue, WOULD_BLOCK } from '../../src/abi/storage.ts';
import { MemoryStorage } from '../../src/models/storage/memory-storage.ts';
import { OverlayStorage } from '../../src/models/storage/overlay-storage.ts';
import { FileStorage } from '../../src/sys/file-storage.ts';

/** Neither a multiple of a page nor of the pieces of a storage. */
const SIZE = 3 * 0x1_0000 + 5 * 512;

/** A storage that holds `contents` before anything is done to it. */
export type MakeStorage = (contents: Uint8Array) => Storage;

export interface StorageKind extends Disposable {
  readonly name: string;
  readonly make: MakeStorage;
}

export function storageKinds(): StorageKind[] {
  const kinds: StorageKind[] = [
    { name: 'memory', make: inMemory, [Symbol.dispose]: () => {} },
    { name: 'an overlay over memory', make: (contents) => new OverlayStorage(inMemory(contents)), [Symbol.dispose]: () => {} },
    inFiles('a file', tmpdir(), (path) => FileStorage.open(path)),
    inFiles('an overlay over a file', tmpdir(), (path) => new OverlayStorage(FileStorage.open(path, { readOnly: true }))),
  ];
  // An unusual filesystem: it has holes, and cannot mark zeroes.
  try {
    kinds.push(inFiles('a file in shared memory', '/dev/shm', (path) => FileStorage.open(path)));
  } catch {
    // Not on this computer.
  }
  return kinds;
}

function inMemory(contents: Uint8Array): MemoryStorage {
  const storage = new MemoryStorage(contents.length);
  storage.write(0, contents);
  return storage;
}

function inFiles(name: string, parent: string, open: (path: string) => Storage): StorageKind {
  const directory = mkdtempSync(join(parent, 'vfio-ts-property-'));
  const path = join(directory, 'disk.img');
  const make: MakeStorage = (contents) => {
    writeFileSync(path, contents);
    return open(path);
  };
  return { name, make, [Symbol.dispose]: () => rmSync(directory, { recursive: true }) };
}

type Step =
  | {
      readonly what: 'read' | 'write' | 'zero' | 'discard';
      readonly offset: number;
      readonly size: number;
      readonly value: number;
      readonly flag: boolean;
      readonly queue: 0 | 1;
    }
  | { readonly what: 'flush' | 'submit' | 'drain' | 'turn' | 'renew'; readonly queue: 0 | 1 };

const queue = fc.constantFrom(0 as const, 1 as const);
const offset = fc.oneof(
  fc.nat(SIZE - 1),
  fc.nat(Math.floor(SIZE / 512) - 1).map((n) => n * 512),
  fc.nat(Math.floor(SIZE / 4096) - 1).map((n) => n * 4096),
);
const size = fc.oneof(fc.nat(SIZE), fc.constantFrom(0, 1, 512, 4096, 0x1_0000), fc.nat(9000));
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ what: fc.constantFrom('read', 'write'), offset, size, value: fc.nat(255), flag: fc.boolean(), queue }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ what: fc.constantFrom('zero', 'discard'), offset, size, value: fc.constant(0), flag: fc.boolean(), queue }),
  },
  { weight: 4, arbitrary: fc.record({ what: fc.constantFrom('flush', 'submit', 'submit', 'drain', 'turn', 'renew'), queue }) },
);

/** Throws when the storage differs from an array. */
export function storageProperty(make: MakeStorage, steps: number): fc.IAsyncProperty<[Step[]]> {
  return fc.asyncProperty(fc.array(step, { maxLength: steps }), async (all) => {
    const run = new Run(make);
    try {
      for (const each of all) await run.step(each);
      run.finish();
    } finally {
      run.storage[Symbol.dispose]();
    }
  });
}

interface UnderWay {
  readonly from: number;
  readonly to: number;
  readonly queue: StorageQueue;
  /** Compares, or does to the array what the operation has done to the storage. */
  readonly ended: () => void;
}

class Run {
  readonly storage: Storage;
  readonly #expected: Uint8Array;
  readonly #underWay = new Map<number, UnderWay>();
  readonly #queues: [StorageQueue, StorageQueue];
  #tag = 0;
  #calling = false;

  constructor(make: MakeStorage) {
    this.#expected = Uint8Array.from({ length: SIZE }, (_, i) => (i * 31) & 0xff);
    this.storage = make(this.#expected);
    this.#queues = [this.#open(), this.#open()];
  }

  async step(step: Step): Promise<void> {
    const queue = this.#queues[step.queue];
    switch (step.what) {
      case 'submit':
        return queue.submit();
      case 'drain':
        queue.submit();
        queue.drain();
        return this.#nothingLeft(queue);
      case 'turn':
        return await turn();
      case 'flush':
        return this.#queued(
          queue,
          0,
          0,
          () => {},
          (tag) => queue.flush(tag),
        );
      case 'renew':
        queue.submit();
        queue.drain();
        queue[Symbol.dispose]();
        this.#queues[step.queue] = this.#open();
        return;
      default:
        return this.#access(queue, step.what, step.offset, Math.min(step.size, SIZE - step.offset), step);
    }
  }

  finish(): void {
    // First both: one queue may write what the other reads.
    for (const queue of this.#queues) {
      queue.submit();
      queue.drain();
      this.#nothingLeft(queue);
    }
    for (const queue of this.#queues) {
      const all = new Uint8Array(SIZE);
      this.#queued(
        queue,
        0,
        SIZE,
        () => this.#same(all, 0),
        (tag) => queue.read(0, all, tag),
      );
      queue.submit();
      queue.drain();
      this.#nothingLeft(queue);
    }
  }

  #access(
    queue: StorageQueue,
    what: 'read' | 'write' | 'zero' | 'discard',
    at: number,
    size: number,
    { value, flag }: { readonly value: number; readonly flag: boolean },
  ): void {
    // Overlapping operations under way at the same time have no order.
    for (const { from, to } of this.#underWay.values()) if (from < at + size && at < to) return;
    const bytes = new Uint8Array(size).fill(value);
    const landed = () => (what === 'read' ? this.#same(bytes, at) : void this.#expected.set(bytes, at));
    if (flag && (what === 'read' || what === 'write')) {
      const result = what === 'read' ? queue.tryRead(at, bytes) : queue.tryWrite(at, bytes);
      if (result === 0) {
        landed();
        return;
      }
      if (result !== WOULD_BLOCK) throw new Error(`${what} at once of ${at}, ${size}: ${result}`);
    }
    this.#queued(queue, at, size, landed, (tag) => {
      if (what === 'read') queue.read(at, bytes, tag);
      else if (what === 'write') queue.write(at, bytes, tag, flag);
      else queue.zero(at, size, tag, what === 'discard');
    });
  }

  #queued(queue: StorageQueue, from: number, size: number, ended: () => void, put: (tag: number) => void): void {
    const tag = this.#tag++;
    this.#underWay.set(tag, { from, to: from + size, queue, ended });
    this.#calling = true;
    put(tag);
    this.#calling = false;
  }

  #open(): StorageQueue {
    return this.storage.open((tag, result) => {
      if (this.#calling) throw new Error('reported from the call that queued it');
      const operation = this.#underWay.get(tag);
      if (operation === undefined) throw new Error(`${tag} was reported twice`);
      this.#underWay.delete(tag);
      if (result !== 0) throw new Error(`operation ${tag}: ${result}`);
      operation.ended();
    });
  }

  #same(bytes: Uint8Array, at: number): void {
    const expected = this.#expected.subarray(at, at + bytes.length);
    if (Buffer.compare(bytes, expected) === 0) return;
    const first = bytes.findIndex((byte, i) => byte !== expected[i]);
    throw new Error(`byte ${at + first} is ${bytes[first]}, not ${expected[first]}`);
  }

  #nothingLeft(queue: StorageQueue): void {
    const left = [...this.#underWay.values()].filter((operation) => operation.queue === queue).length;
    if (left !== 0 || queue.pending !== 0)
      throw new Error(`${left} operations were never reported, ${queue.pending} are pending after drain`);
  }
}
