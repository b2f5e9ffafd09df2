/**
 * A disk in this process's memory. It is sparse: unwritten pages take no room, whatever the
 * size.
 */
import type { ModelBulk } from '../../abi/device-host.ts';
import type { BytesAt } from '../../abi/memory.ts';
import type { Storage, StorageCompleted, StorageQueue } from '../../abi/storage.ts';
import { Bitmap } from '../../base/bitmap.ts';
import { checkIndex } from '../../base/check.ts';
import { Errno, VfioError } from '../../base/errno.ts';
import { type Operation, OperationKind, OperationQueue, rangeError } from './operation-queue.ts';
import { Slabs } from './slabs.ts';

/** Tables that the first write allocates, and given back when all of it is zeroed. */
export const CHUNK_BYTES = 0x1_0000;
const PAGE_BYTES = 0x1000;
/**
 * Whether the views of pages are kept: then a look at one makes no object. Of a larger disk they
 * would be too many for the processor's caches, and a view that is made is faster than one that is
 * fetched from memory.
 */
const VIEWS_MAX = 2 ** 24;
const PAGES_OF_CHUNK = CHUNK_BYTES / PAGE_BYTES;
/** Chunks whose numbers share one table: 64 MiB. */
const CHUNKS_OF_TABLE = 1024;
const TABLE_BYTES = CHUNKS_OF_TABLE * CHUNK_BYTES;
/** A page that was never written. It is read only. */
const HOLE = new Uint8Array(PAGE_BYTES);

/**
 * Every operation ends at once: `tryRead` and `tryWrite` never return WOULD_BLOCK. A flush has no
 * effect, because there is no cache.
 */
export class MemoryStorage implements Storage {
  readonly size: number;
  readonly readOnly = false;
  readonly volatile = false;
  readonly name: string;
  readonly bulk: ModelBulk = new MemoryBulk(this);
  /** Pages written since the last request; null without a log. */
  noted: Bitmap | null = null;
  /**
   * By the number of the chunk: table, then place in it. A table has the number of its memory in
   * `#slabs`, plus 1; 0: it is a hole.
   */
  readonly #tables: (Uint32Array | undefined)[] = [];
  readonly #slabs = new Slabs(CHUNK_BYTES);
  /** Views by the number of the page, of a disk that is not too large for it. */
  readonly #views: (Uint8Array | undefined)[] | null;
  /**
   * How many chunks each table has. Empty tables are freed, so that zeroing an empty range walks
   * over no table.
   */
  readonly #used = new Map<number, number>();
  #chunks = 0;
  #disposed = false;

  /**
   * @param size bytes, up to 2^53 - 1: only what is written takes room
   * @throws VfioError EINVAL unless it is a positive integer
   */
  constructor(size: number) {
    checkIndex(size, Number.MAX_SAFE_INTEGER, 'the size of the storage');
    if (size === 0) throw new VfioError('EINVAL', 'storage of 0 bytes');
    this.size = size;
    const pages = Math.ceil(size / PAGE_BYTES);
    this.#views = size <= VIEWS_MAX ? new Array<Uint8Array | undefined>(pages).fill(undefined) : null;
    this.name = `${sizeText(size)} of memory`;
  }

  allocated(): number {
    return this.#chunks * CHUNK_BYTES;
  }

  open(completed: StorageCompleted): StorageQueue {
    return new MemoryQueue(this, completed);
  }

  /** Copy out: 0; -EINVAL outside, -EBADF once disposed. */
  read(offset: number, into: Uint8Array): number {
    const { length } = into;
    const wrong = this.#check(offset, length);
    if (wrong !== 0) return wrong;
    for (let done = 0; done < length; ) {
      const at = offset + done;
      const within = at % CHUNK_BYTES;
      const count = Math.min(CHUNK_BYTES - within, length - done);
      const chunk = this.#chunk((at - within) / CHUNK_BYTES);
      if (chunk < 0) into.fill(0, done, done + count);
      else into.set(this.#view(at, chunk, within, count), done);
      done += count;
    }
    return 0;
  }

  /**
   * Copy in: 0; -EINVAL outside, -EBADF once disposed, -ENOMEM when this process gets no more
   * memory.
   */
  write(offset: number, from: Uint8Array): number {
    const { length } = from;
    const wrong = this.#check(offset, length);
    if (wrong !== 0) return wrong;
    for (let done = 0; done < length; ) {
      const at = offset + done;
      const within = at % CHUNK_BYTES;
      const count = Math.min(CHUNK_BYTES - within, length - done);
      const chunk = this.#chunkForWriting((at - within) / CHUNK_BYTES);
      if (chunk < 0) return -Errno.ENOMEM;
      const to = this.#slabs.offset(chunk) + within;
      this.#slabs.slab(chunk).set(count === length ? from : from.subarray(done, done + count), to);
      done += count;
    }
    if (this.noted !== null) this.#note(offset, length);
    return 0;
  }

  /**
   * Where bytes are, in one chunk; a hole is a page of zeroes, or gets a chunk to be written.
   * False: they are outside, in several chunks, or there is no memory for them.
   */
  locate(offset: number, size: number, write: boolean, at: BytesAt): boolean {
    if (this.#check(offset, size) !== 0) return false;
    const number = Math.floor(offset / CHUNK_BYTES);
    const within = offset - number * CHUNK_BYTES;
    if (within + size > CHUNK_BYTES) return false;
    if (write) {
      const chunk = this.#chunkForWriting(number);
      if (chunk < 0) return false;
      at.bytes = this.#slabs.slab(chunk);
      at.offset = this.#slabs.offset(chunk) + within;
      if (this.noted !== null) this.#note(offset, size);
      return true;
    }
    const chunk = this.#chunk(number);
    if (chunk < 0) {
      at.bytes = HOLE;
      at.offset = 0;
      return size <= PAGE_BYTES;
    }
    if (this.#views !== null && size === PAGE_BYTES) {
      at.bytes = this.#view(offset, chunk, within, size);
      at.offset = 0;
    } else {
      at.bytes = this.#slabs.slab(chunk);
      at.offset = this.#slabs.offset(chunk) + within;
    }
    return true;
  }

  /**
   * Zero `size` bytes at `offset`, and free the chunks that lie wholly inside.
   */
  zero(offset: number, size: number): number {
    const wrong = this.#check(offset, size);
    if (wrong !== 0) return wrong;
    if (size === 0) return 0;
    const end = offset + size;
    const first = Math.floor(offset / TABLE_BYTES);
    const last = Math.floor((end - 1) / TABLE_BYTES);
    // Visit the tables of the range, or the existing tables when these are fewer.
    if (last - first < this.#used.size) for (let table = first; table <= last; table++) this.#zeroTable(table, offset, end);
    else for (const table of this.#used.keys()) if (table >= first && table <= last) this.#zeroTable(table, offset, end);
    return 0;
  }

  /** The part of [offset, end) in a table. */
  #zeroTable(index: number, offset: number, end: number): void {
    const table = this.#tables[index];
    if (table === undefined) return;
    const stop = Math.min(end, (index + 1) * TABLE_BYTES);
    for (let at = Math.max(offset, index * TABLE_BYTES); at < stop; ) {
      const within = at % CHUNK_BYTES;
      const count = Math.min(CHUNK_BYTES - within, stop - at);
      const place = ((at - within) / CHUNK_BYTES) % CHUNKS_OF_TABLE;
      const chunk = table[place]! - 1;
      if (chunk >= 0) {
        if (this.noted !== null) this.#note(at, count);
        if (count < CHUNK_BYTES) {
          const from = this.#slabs.offset(chunk) + within;
          this.#slabs.slab(chunk).fill(0, from, from + count);
        } else {
          table[place] = 0;
          this.#slabs.give(chunk);
          this.#forgetViews(at);
          this.#gaveBack(index);
        }
      }
      at += count;
    }
  }

  #gaveBack(table: number): void {
    this.#chunks--;
    const left = this.#used.get(table)! - 1;
    if (left > 0) this.#used.set(table, left);
    else {
      this.#used.delete(table);
      this.#tables[table] = undefined;
    }
  }

  /** Frees every page. Idempotent. */
  [Symbol.dispose](): void {
    this.#disposed = true;
    this.#tables.length = 0;
    this.#slabs.clear();
    this.#views?.fill(undefined);
    this.#used.clear();
    this.#chunks = 0;
  }

  /** Whether anything of the page was written, whatever it holds. */
  holds(page: number): boolean {
    return this.#chunk(Math.floor(page / PAGES_OF_CHUNK)) >= 0;
  }

  #note(offset: number, size: number): void {
    if (size > 0) this.noted!.mark(Math.floor(offset / PAGE_BYTES), Math.floor((offset + size - 1) / PAGE_BYTES));
  }

  #check(offset: number, size: number): number {
    return this.#disposed ? -Errno.EBADF : rangeError(offset, size, this.size);
  }

  /** The memory of chunk `number`, as `#slabs` knows it; -1: it is a hole. */
  #chunk(number: number): number {
    const index = Math.floor(number / CHUNKS_OF_TABLE);
    const table = this.#tables[index];
    return table === undefined ? -1 : table[number - index * CHUNKS_OF_TABLE]! - 1;
  }

  /** As `#chunk`, and a hole gets memory; -1: there is none. */
  #chunkForWriting(number: number): number {
    const there = this.#chunk(number);
    if (there >= 0) return there;
    const index = Math.floor(number / CHUNKS_OF_TABLE);
    try {
      const table = this.#tables[index] ?? new Uint32Array(CHUNKS_OF_TABLE);
      const chunk = this.#slabs.take();
      this.#tables[index] = table;
      table[number - index * CHUNKS_OF_TABLE] = chunk + 1;
      this.#used.set(index, (this.#used.get(index) ?? 0) + 1);
      this.#chunks++;
      return chunk;
    } catch {
      // V8 throws a RangeError when it gets no memory for the buffer.
      return -1;
    }
  }

  /** The `size` bytes at `within` of a chunk, which are those at `offset` of the disk. */
  #view(offset: number, chunk: number, within: number, size: number): Uint8Array {
    const views = this.#views;
    const page = views !== null && size === PAGE_BYTES && (within & (PAGE_BYTES - 1)) === 0 ? offset / PAGE_BYTES : -1;
    const known = page < 0 ? undefined : views![page];
    if (known !== undefined) return known;
    const from = this.#slabs.offset(chunk) + within;
    const view = this.#slabs.slab(chunk).subarray(from, from + size);
    if (page >= 0) views![page] = view;
    return view;
  }

  /** The chunk at `offset` has no memory any more. */
  #forgetViews(offset: number): void {
    this.#views?.fill(undefined, offset / PAGE_BYTES, offset / PAGE_BYTES + PAGES_OF_CHUNK);
  }
}

/**
 * The pages of a disk in memory, as blocks for a move; bytes behind the end of the disk are zeroes.
 */
class MemoryBulk implements ModelBulk {
  readonly blockSize = PAGE_BYTES;
  readonly #storage: MemoryStorage;

  constructor(storage: MemoryStorage) {
    this.#storage = storage;
  }

  get size(): number {
    return Math.ceil(this.#storage.size / PAGE_BYTES) * PAGE_BYTES;
  }

  present(block: number): boolean {
    return this.#storage.holds(block);
  }

  read(block: number, into: Uint8Array): void {
    const within = this.#within(block);
    succeeded(this.#storage.read(block * PAGE_BYTES, within === PAGE_BYTES ? into : into.subarray(0, within)));
    into.fill(0, within);
  }

  write(block: number, from: Uint8Array): void {
    // A page of zeroes takes no memory.
    if (!this.present(block) && from.every((byte) => byte === 0)) return;
    succeeded(this.#storage.write(block * PAGE_BYTES, from.subarray(0, this.#within(block))));
  }

  startTracking(): void {
    this.#storage.noted = new Bitmap();
  }

  stopTracking(): void {
    this.#storage.noted = null;
  }

  takeDirty(from: number): number {
    const { noted } = this.#storage;
    const block = noted === null ? -1 : noted.next(from, this.size / PAGE_BYTES - 1);
    if (block >= 0) noted!.clear(block, block);
    return block;
  }

  /** Bytes of the block that the storage has. */
  #within(block: number): number {
    return Math.min(PAGE_BYTES, this.#storage.size - block * PAGE_BYTES);
  }
}

/** @throws VfioError ENOMEM, the one thing that can go wrong with memory */
function succeeded(result: number): void {
  if (result !== 0)
    throw new VfioError(result === -Errno.ENOMEM ? 'ENOMEM' : 'EIO', 'a disk in memory has no room for the data of the move');
}

class MemoryQueue extends OperationQueue {
  readonly #storage: MemoryStorage;

  constructor(storage: MemoryStorage, completed: StorageCompleted) {
    super(completed);
    this.#storage = storage;
  }

  tryRead(offset: number, into: Uint8Array): number {
    return this.disposed ? -Errno.EBADF : this.#storage.read(offset, into);
  }

  tryWrite(offset: number, from: Uint8Array): number {
    return this.disposed ? -Errno.EBADF : this.#storage.write(offset, from);
  }

  locate(offset: number, size: number, write: boolean, at: BytesAt): boolean {
    return !this.disposed && this.#storage.locate(offset, size, write, at);
  }

  protected override start(operation: Operation): void {
    this.end(operation, this.#do(operation));
  }

  #do({ kind, offset, size, bytes }: Operation): number {
    switch (kind) {
      case OperationKind.READ:
        return this.#storage.read(offset, bytes);
      case OperationKind.WRITE:
        return this.#storage.write(offset, bytes);
      case OperationKind.FLUSH:
        return 0;
      case OperationKind.ZERO:
      case OperationKind.DISCARD:
        return this.#storage.zero(offset, size);
    }
  }
}

/** `64 MiB`, or bytes where no unit fits. */
export function sizeText(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let unit = 0;
  let count = bytes;
  for (; count >= 1024 && count % 1024 === 0 && unit < units.length - 1; unit++) count /= 1024;
  return `${count} ${units[unit]}`;
}
