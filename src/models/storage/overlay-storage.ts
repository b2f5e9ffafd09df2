/**
 * Keeps written data in memory, over a read-only storage, so that a virtual machine can write to a
 * disk whose image must not change.
 */
import type { ModelBulk } from '../../abi/device-host.ts';
import { type Storage, type StorageCompleted, type StorageQueue, WOULD_BLOCK } from '../../abi/storage.ts';
import { Errno } from '../../base/errno.ts';
import { GranuleSet } from './granule-set.ts';
import { MemoryStorage } from './memory-storage.ts';
import { type Operation, OperationKind, OperationQueue, rangeError } from './operation-queue.ts';
import { OverlayBulk } from './overlay-bulk.ts';

/** The unit that is either in memory or in the base as a whole. */
const GRANULE_BYTES = 0x1000;

export class OverlayStorage implements Storage {
  readonly size: number;
  readonly readOnly = false;
  readonly volatile = false;
  readonly name: string;
  readonly base: Storage;
  /** Contents of the granules in `written`; what else it holds means nothing. */
  readonly memory: MemoryStorage;
  readonly written = new GranuleSet();
  readonly bulk: ModelBulk;

  /** Takes `base` over: it is disposed with this. */
  constructor(base: Storage) {
    this.base = base;
    this.size = base.size;
    this.memory = new MemoryStorage(base.size);
    this.bulk = new OverlayBulk(this.memory.bulk, this.written, Math.ceil(base.size / GRANULE_BYTES));
    this.name = `${base.name} with an overlay in memory`;
  }

  /** The base's and our own. Hiding a part of the base does not make the base smaller. */
  allocated(): number {
    return Math.min(this.size, this.base.allocated() + this.memory.allocated());
  }

  open(completed: StorageCompleted): StorageQueue {
    return new OverlayQueue(this, completed);
  }

  [Symbol.dispose](): void {
    this.memory[Symbol.dispose]();
    this.written.clear();
    this.base[Symbol.dispose]();
  }
}

/** Operations that wait for the base; its place in a table is the tag there. */
interface Waiting {
  readonly operation: Operation;
  /**
   * The base's granules in which a write begins and ends, while the queue fetches them; null when
   * none is needed.
   */
  readonly head: Uint8Array | null;
  readonly tail: Uint8Array | null;
}

class OverlayQueue extends OperationQueue {
  readonly #storage: OverlayStorage;
  readonly #base: StorageQueue;
  readonly #waiting: (Waiting | undefined)[] = [];
  readonly #free: number[] = [];
  readonly #edge = new Uint8Array(GRANULE_BYTES);

  constructor(storage: OverlayStorage, completed: StorageCompleted) {
    super(completed);
    this.#storage = storage;
    this.#base = storage.base.open((tag, result) => this.#baseCompleted(tag, result));
  }

  tryRead(offset: number, into: Uint8Array): number {
    if (this.disposed) return -Errno.EBADF;
    return this.#check(offset, into.length) || this.#readPieces(offset, into, null);
  }

  tryWrite(offset: number, from: Uint8Array): number {
    if (this.disposed) return -Errno.EBADF;
    return this.#check(offset, from.length) || this.#fetchEdges(offset, from.length) || this.#store(offset, from.length, from);
  }

  protected override start(operation: Operation): void {
    const result = this.#check(operation.offset, operation.size) || this.#now(operation);
    if (result !== WOULD_BLOCK) this.end(operation, result);
    else if (operation.kind === OperationKind.READ) this.#readLater(operation);
    else this.#fetchLater(operation);
  }

  protected override batchStarted(): void {
    this.#base.submit();
  }

  protected override drainBelow(): void {
    // A completion may start more.
    while (this.#free.length < this.#waiting.length) this.#base.drain();
  }

  protected override released(): void {
    this.#base[Symbol.dispose]();
  }

  #now({ kind, offset, size, bytes }: Operation): number {
    switch (kind) {
      case OperationKind.READ:
        return this.#readPieces(offset, bytes, null);
      case OperationKind.FLUSH:
        return 0;
      case OperationKind.WRITE:
        return this.#fetchEdges(offset, size) || this.#store(offset, size, bytes);
      case OperationKind.ZERO:
      case OperationKind.DISCARD:
        return this.#fetchEdges(offset, size) || this.#store(offset, size, null);
    }
  }

  #check(offset: number, size: number): number {
    return rangeError(offset, size, this.#storage.size);
  }

  /**
   * Read each stretch from memory or from the base. When `waiting` is null: at once, or
   * WOULD_BLOCK. Otherwise reads of the base are queued there with that tag, one for each stretch.
   */
  #readPieces(offset: number, into: Uint8Array, waiting: { readonly tag: number; readonly operation: Operation } | null): number {
    const { written, memory } = this.#storage;
    const end = offset + into.length;
    for (let at = offset; at < end; ) {
      const granule = Math.floor(at / GRANULE_BYTES);
      const stop = Math.min(end, written.runEnd(granule, Math.ceil(end / GRANULE_BYTES)) * GRANULE_BYTES);
      const piece = stop - at === into.length ? into : into.subarray(at - offset, stop - offset);
      let result = 0;
      if (written.has(granule)) result = memory.read(at, piece);
      else if (waiting === null) result = this.#base.tryRead(at, piece);
      else {
        waiting.operation.steps++;
        this.#base.read(at, piece, waiting.tag);
      }
      if (result !== 0) return result;
      at = stop;
    }
    return 0;
  }

  #readLater(operation: Operation): void {
    const tag = this.#wait({ operation, head: null, tail: null });
    const result = this.#readPieces(operation.offset, operation.bytes, { tag, operation });
    // Only disposed memory fails here; operations in flight in the base still have to end.
    if (result !== 0) operation.result = result;
    if (operation.steps === 0) this.#finish(tag, operation);
  }

  /**
   * Copy the base's granules that a write covers in part, at once or not at all.
   */
  #fetchEdges(offset: number, size: number): number {
    const head = this.#edgeAt(offset);
    const tail = this.#edgeAt(offset + size);
    if (head >= 0) {
      const result = this.#takeOver(head);
      if (result !== 0) return result;
    }
    return tail >= 0 && tail !== head ? this.#takeOver(tail) : 0;
  }

  /**
   * The granule that `offset` cuts in two, if it is in the base; -1 when there is nothing to fetch.
   */
  #edgeAt(offset: number): number {
    if (offset % GRANULE_BYTES === 0 || offset === this.#storage.size) return -1;
    const granule = Math.floor(offset / GRANULE_BYTES);
    return this.#storage.written.has(granule) ? -1 : granule;
  }

  #takeOver(granule: number): number {
    const piece = this.#edge.length === this.#granuleSize(granule) ? this.#edge : this.#edge.subarray(0, this.#granuleSize(granule));
    return this.#base.tryRead(granule * GRANULE_BYTES, piece) || this.#keep(granule, piece);
  }

  /** Reads see the same content as before. */
  #keep(granule: number, bytes: Uint8Array): number {
    const result = this.#storage.memory.write(granule * GRANULE_BYTES, bytes);
    if (result === 0) this.#storage.written.add(granule, granule + 1);
    return result;
  }

  /** The last granule may be a part of one. */
  #granuleSize(granule: number): number {
    return Math.min(GRANULE_BYTES, this.#storage.size - granule * GRANULE_BYTES);
  }

  #fetchLater(operation: Operation): void {
    const head = this.#edgeAt(operation.offset);
    const tail = this.#edgeAt(operation.offset + operation.size);
    const headBytes = head >= 0 ? new Uint8Array(this.#granuleSize(head)) : null;
    const tailBytes = tail >= 0 && tail !== head ? new Uint8Array(this.#granuleSize(tail)) : null;
    const tag = this.#wait({ operation, head: headBytes, tail: tailBytes });
    for (const [granule, bytes] of [[head, headBytes] as const, [tail, tailBytes] as const]) {
      if (bytes === null) continue;
      operation.steps++;
      this.#base.read(granule * GRANULE_BYTES, bytes, tag);
    }
  }

  /** `from` null: zeroes. Its edges are in memory already. */
  #store(offset: number, size: number, from: Uint8Array | null): number {
    if (size === 0) return 0;
    const { memory, written } = this.#storage;
    const result = from === null ? memory.zero(offset, size) : memory.write(offset, from);
    if (result === 0) written.add(Math.floor(offset / GRANULE_BYTES), Math.ceil((offset + size) / GRANULE_BYTES));
    return result;
  }

  #wait(waiting: Waiting): number {
    const tag = this.#free.pop() ?? this.#waiting.length;
    this.#waiting[tag] = waiting;
    return tag;
  }

  #baseCompleted(tag: number, result: number): void {
    const { operation } = this.#waiting[tag]!;
    if (result !== 0 && operation.result === 0) operation.result = result;
    operation.steps--;
    if (operation.steps === 0) this.#finish(tag, operation);
  }

  #finish(tag: number, operation: Operation): void {
    const { head, tail } = this.#waiting[tag]!;
    this.#waiting[tag] = undefined;
    this.#free.push(tag);
    const { kind, offset, size, bytes } = operation;
    let { result } = operation;
    if (kind !== OperationKind.READ) {
      result ||= this.#keepFetched(Math.floor(offset / GRANULE_BYTES), head);
      result ||= this.#keepFetched(Math.floor((offset + size) / GRANULE_BYTES), tail);
      result ||= this.#store(offset, size, kind === OperationKind.WRITE ? bytes : null);
    }
    this.end(operation, result);
  }

  /** Unless another write has come first: then what that one left is newer. */
  #keepFetched(granule: number, bytes: Uint8Array | null): number {
    return bytes === null || this.#storage.written.has(granule) ? 0 : this.#keep(granule, bytes);
  }
}
