/**
 * Operations of one file that have to wait. They run on a few threads, which get a batch at a time
 * and wake the event loop once for all that have ended. Libuv's threads do not serve: there are
 * four for the whole process, and a slow disk would delay all other work on files and names.
 */
import { Errno } from '../base/errno.ts';
import { type Addon, addon, checked, Sys } from './addon.ts';
import { OwnedFd } from './owned-fd.ts';

/** Reads that a disk can have at once, for each file. */
const THREADS = 8;
const REAPED_AT_ONCE = 256;
/**
 * Between two looks at whether this thread has to end: `worker.terminate()` cannot interrupt a
 * native wait.
 */
const WAIT_SLICE_MS = 200;
const FIELDS = 3;

/** Operations that threads have not ended: their bytes must stay. */
const abandoned: FileWork[] = [];

/** The owner of an operation, which learns its result. */
export interface WorkOwner {
  ended(tag: number, result: number): void;
}

export class FileWork implements Disposable {
  readonly #sys: Addon = addon();
  readonly #event: OwnedFd;
  readonly #id: number;
  /** By slot; `#table` has kind, offset and size of each. */
  readonly #owners: (WorkOwner | null)[] = [];
  readonly #tags: number[] = [];
  readonly #bytes: (Uint8Array | null)[] = [];
  #table = new Float64Array(64 * FIELDS);
  readonly #free: number[] = [];
  #batch = new Int32Array(64);
  #batched = 0;
  readonly #reaped = new Int32Array(REAPED_AT_ONCE * 2);
  /**
   * Slot and result of each operation that has ended and is not reported yet: first in, first out.
   */
  readonly #ended: number[] = [];
  #told = 0;
  #telling = false;
  /** Operations that the threads have. */
  #underWay = 0;
  #watching = false;
  #disposed = false;
  /**
   * Slots of flushes: those that the current fdatasync covers, and those that came after it began.
   */
  #syncing: number[] = [];
  #nextSync: number[] = [];
  #syncSlot = -1;
  /**
   * Writes that have ended, and how many of those are known to be on the disk. The 1 stands for
   * writes that an earlier user of the file may have left.
   */
  #written = 1;
  #synced = 0;
  #syncCovers = 0;
  /**
   * The errno of a sync that failed. The page cache has dropped the lost data, and the kernel
   * reports the loss once: no later flush may succeed.
   */
  #lost = 0;

  /**
   * @param fd stays the caller's, which closes it after this is disposed
   * @throws VfioError EMFILE, ENOMEM
   */
  constructor(fd: OwnedFd, threads: number = THREADS) {
    const event = OwnedFd.own(this.#sys.eventfd(0, Sys.EFD_CLOEXEC | Sys.EFD_NONBLOCK), 'creating an eventfd');
    const id = this.#sys.fileOpen(fd.number, event.number, threads);
    if (id < 0) event[Symbol.dispose]();
    this.#id = checked(id, 'preparing the threads of a file');
    this.#event = event;
  }

  /** Note a write that was done at once, elsewhere: flushes cover it too. */
  noteWritten(): void {
    this.#written++;
  }

  /**
   * Add an operation; `submit` starts it.
   *
   * @param kind of Sys.FILE_, or a negative errno with which it has to end
   * @returns its slot
   */
  add(owner: WorkOwner, tag: number, kind: number, offset: number, size: number, bytes: Uint8Array | null): number {
    const slot = this.#free.pop() ?? this.#owners.length;
    if ((slot + 1) * FIELDS > this.#table.length) {
      const grown = new Float64Array(this.#table.length * 2);
      grown.set(this.#table);
      this.#table = grown;
    }
    this.#owners[slot] = owner;
    this.#tags[slot] = tag;
    this.#bytes[slot] = bytes;
    this.#table[slot * FIELDS] = kind;
    this.#table[slot * FIELDS + 1] = offset;
    this.#table[slot * FIELDS + 2] = size;
    return slot;
  }

  /** Forget an operation that was not submitted and never will be. */
  forget(slot: number): void {
    this.#owners[slot] = null;
    this.#bytes[slot] = null;
    this.#free.push(slot);
  }

  /**
   * Start `slots`, as one batch. A write that is alone takes a thread some microseconds, fewer than
   * the event loop needs to wake up for it: its end is looked for here, while that pays.
   */
  submit(slots: readonly number[]): void {
    for (const slot of slots) this.#route(slot);
    const isBrief = this.#batched === 1 && this.#table[this.#batch[0]! * FIELDS] === Sys.FILE_WRITE;
    this.#startBatch();
    this.#startSync();
    if (isBrief && this.#underWay === 1) this.#reap(0, true);
    this.#tell();
  }

  /**
   * Block until `isDone`, or until nothing is under way. An ended operation, or time, makes
   * `isDone` true.
   *
   * @param sliceMs between two looks at time
   */
  waitUntil(isDone: () => boolean, sliceMs: number = WAIT_SLICE_MS): void {
    this.#tell(true);
    while (!isDone() && this.#underWay > 0) {
      this.#reap(sliceMs);
      this.#tell(true);
    }
  }

  /** Blocks until every submitted operation has ended. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.waitUntil(() => false);
    this.#sys.fileClose(this.#id);
    if (this.#watching) this.#sys.watchStop(this.#event.number, Sys.READABLE);
    this.#event[Symbol.dispose]();
  }

  /**
   * As dispose, without waiting for operations that have not ended.
   *
   * @returns whether `fd` may be closed: not while a thread uses it, which ends with the process
   */
  abandon(): boolean {
    if (this.#disposed) return true;
    this.#disposed = true;
    const isBusy = this.#sys.fileAbandon(this.#id) === 1;
    if (this.#watching) this.#sys.watchStop(this.#event.number, Sys.READABLE);
    if (isBusy) abandoned.push(this);
    else this.#event[Symbol.dispose]();
    return !isBusy;
  }

  #route(slot: number): void {
    const kind = this.#table[slot * FIELDS]!;
    if (this.#disposed) this.#end(slot, -Errno.EBADF);
    else if (kind < 0) this.#end(slot, kind);
    else if (kind === Sys.FILE_SYNC) this.#nextSync.push(slot);
    else if (this.#table[slot * FIELDS + 2] === 0) this.#end(slot, 0);
    else this.#put(slot);
  }

  #put(slot: number): void {
    if (this.#batched === this.#batch.length) {
      const grown = new Int32Array(this.#batch.length * 2);
      grown.set(this.#batch);
      this.#batch = grown;
    }
    this.#batch[this.#batched++] = slot;
  }

  #startBatch(): void {
    const count = this.#batched;
    if (count === 0) return;
    this.#batched = 0;
    const taken = this.#sys.fileSubmit(this.#id, this.#batch, count, this.#table, this.#bytes);
    for (let i = Math.max(taken, 0); i < count; i++) this.#end(this.#batch[i]!, taken < 0 ? taken : -Errno.ENOMEM);
    if (taken > 0) this.#started(taken);
  }

  /**
   * One fdatasync for all flushes that wait. Flushes that come while it runs wait for the next,
   * since it may be past their writes.
   */
  #startSync(): void {
    if (this.#syncSlot >= 0 || this.#nextSync.length === 0) return;
    if (this.#lost !== 0 || this.#written === this.#synced) {
      for (const slot of this.#nextSync.splice(0)) this.#end(slot, this.#lost);
      return;
    }
    const waiting = this.#syncing;
    this.#syncing = this.#nextSync;
    this.#nextSync = waiting;
    this.#syncCovers = this.#written;
    this.#syncSlot = this.#syncing[0]!;
    this.#put(this.#syncSlot);
    this.#startBatch();
  }

  #started(count: number): void {
    if (this.#underWay === 0) this.#listen(true);
    this.#underWay += count;
  }

  /** Only operations under way keep the process alive. */
  #listen(keepAlive: boolean): void {
    const { number } = this.#event;
    if (!this.#watching) {
      checked(
        this.#sys.watchStart(number, Sys.READABLE, () => this.#signalled()),
        'watching an eventfd',
      );
      this.#watching = true;
    }
    this.#sys.watchRef(number, keepAlive);
  }

  #signalled(): void {
    this.#sys.eventfdRead(this.#event.number);
    this.#reap(0);
    this.#tell();
  }

  #reap(timeoutMs: number, spins = false): void {
    let count: number;
    let wait = timeoutMs;
    let looking = spins;
    do {
      count = this.#sys.fileReap(this.#id, this.#reaped, wait, looking);
      wait = 0;
      looking = false;
      for (let i = 0; i < count; i++) this.#finished(this.#reaped[i * 2]!, this.#reaped[i * 2 + 1]!);
    } while (count === REAPED_AT_ONCE);
    this.#startSync();
    if (this.#underWay === 0) this.#listen(false);
  }

  #finished(slot: number, result: number): void {
    this.#underWay--;
    let told = result;
    if (-result >= Sys.FILE_SYNC_FAILED) {
      told = -(-result & (Sys.FILE_SYNC_FAILED - 1));
      this.#lost ||= told;
    }
    const kind = this.#table[slot * FIELDS]!;
    const isOnDisk = kind === Sys.FILE_READ || (kind === Sys.FILE_WRITE_DURABLE && told === 0);
    if (kind !== Sys.FILE_SYNC && !isOnDisk) this.#written++;
    this.#end(slot, told);
  }

  #syncEnded(result: number): void {
    if (result === 0) this.#synced = this.#syncCovers;
    this.#syncSlot = -1;
    for (const slot of this.#syncing) this.#end(slot, result);
    this.#syncing.length = 0;
  }

  #end(slot: number, result: number): void {
    if (slot === this.#syncSlot) this.#syncEnded(result);
    else this.#ended.push(slot, result);
  }

  /**
   * Report ended operations in their order. A completion may submit and drain: this function then
   * reports on, and does not nest.
   */
  #tell(within = false): void {
    if (this.#telling && !within) return;
    const before = this.#telling;
    this.#telling = true;
    try {
      while (this.#told < this.#ended.length) {
        const slot = this.#ended[this.#told]!;
        const result = this.#ended[this.#told + 1]!;
        this.#told += 2;
        const owner = this.#owners[slot]!;
        const tag = this.#tags[slot]!;
        this.forget(slot);
        owner.ended(tag, result);
      }
      this.#ended.length = 0;
      this.#told = 0;
    } finally {
      this.#telling = before;
    }
  }
}
