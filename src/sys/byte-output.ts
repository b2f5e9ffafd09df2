/**
 * Bytes for a descriptor whose reader is not to be trusted, and whose disk may stall. Writing never
 * waits. An entry that was begun is written to its end before the next one. The owner decides about
 * entries that cannot be written: it drops them, or tries them again later.
 */
import { constants, fstatSync, openSync } from 'node:fs';
import { Errno, errnoName } from '../base/errno.ts';
import { type Addon, addon, Sys } from './addon.ts';
import { FdWatch } from './fd-watch.ts';
import { FileWork, type WorkOwner } from './file-work.ts';
import { OwnedFd } from './owned-fd.ts';

/** Between two tries where the kernel cannot be asked for a wake-up. */
const RETRY_MS = 50;

export interface OutputEntry {
  readonly bytes: Uint8Array;
}

/** Called by the output, also in the middle of `push` and `finish`. */
export interface OutputOwner<E extends OutputEntry> {
  /** The entry is written. */
  written(entry: E): void;
  /** The first entry cannot be written. It stays, with all others, until `clear` or `push`. */
  failed(reason: string): void;
}

/**
 * socket: each call says that it must not wait. own: opened anew, non-blocking. thread: a file
 * whose disk may stall, or an open file that other processes share and may make blocking.
 */
type Kind = 'socket' | 'own' | 'thread';

export class ByteOutput<E extends OutputEntry> implements Disposable, WorkOwner {
  readonly #sys: Addon = addon();
  readonly #owner: OutputOwner<E>;
  readonly #fd: OwnedFd;
  readonly #kind: Kind;
  readonly #watch: FdWatch;
  readonly #work: FileWork | null;
  /** The thread has the first entry. */
  #withThread = false;
  /** A `push` has waited for it in vain. */
  #stalled = false;
  #queue: E[] = [];
  /** Bytes of the first entry that are written. */
  #at = 0;
  #queued = 0;
  #failures = 0;
  #waiting: Disposable | null = null;

  /** @param number a descriptor, which stays its owner's   @throws VfioError EBADF */
  constructor(number: number, owner: OutputOwner<E>) {
    this.#owner = owner;
    const same = OwnedFd.duplicate(number);
    const again = openAnew(same);
    if (again !== null) same[Symbol.dispose]();
    this.#fd = again ?? same;
    this.#kind = again !== null ? 'own' : this.#sys.getsockopt(same.number, Sys.SO_TYPE) >= 0 ? 'socket' : 'thread';
    this.#watch = new FdWatch(this.#fd);
    this.#work = this.#kind === 'thread' ? new FileWork(this.#fd, 1) : null;
  }

  get closed(): boolean {
    return this.#fd.closed;
  }

  /** Bytes of entries that are not written yet. */
  get queued(): number {
    return this.#queued;
  }

  /** Whether a part of the first entry is written. */
  get begun(): boolean {
    return this.#at > 0;
  }

  /** Add an entry; `push` writes it. */
  add(entry: E): void {
    this.#queue.push(entry);
    this.#queued += entry.bytes.length;
  }

  /** The entries that are not written yet. None of them will be. */
  clear(): E[] {
    const entries = this.#queue;
    this.#queue = [];
    this.#queued = 0;
    this.#at = 0;
    return entries;
  }

  /**
   * Write as much as goes without waiting; the rest follows by itself.
   *
   * @param patienceMs how long to wait for a file, unless an earlier call has waited in vain. A
   *   file that does not answer gets its entries from its thread alone, until it answers.
   */
  push(patienceMs: number): void {
    if (this.#fd.closed || this.#waiting !== null) return;
    if (this.#stalled) this.#look();
    if (this.#stalled) return;
    this.#flush(patienceMs);
    this.#stalled = patienceMs > 0 && this.#withThread;
  }

  /**
   * Wait until all is written, a write fails, or `ms` are over.
   *
   * @returns whether all is written
   */
  finish(ms: number): boolean {
    if (this.#fd.closed) return this.#queue.length === 0;
    this.#stopWaiting();
    const { length } = this.#queue;
    const end = performance.now() + ms;
    const before = this.#failures;
    if (length > 0) this.#flush(ms);
    while (this.#queue.length > 0 && this.#failures === before && performance.now() < end) {
      this.#stopWaiting();
      if (this.#work === null) this.#sys.poll(this.#fd.number, Sys.POLLOUT, RETRY_MS);
      else this.#waitForThread(RETRY_MS);
      if (this.#failures === before) this.#flush(RETRY_MS);
    }
    this.#stopWaiting();
    return this.#queue.length === 0;
  }

  /** Entries that are not written are lost. */
  [Symbol.dispose](): void {
    if (this.#fd.closed) return;
    this.#stopWaiting();
    this.#watch[Symbol.dispose]();
    if (this.#work?.abandon() ?? true) this.#fd[Symbol.dispose]();
    else this.#fd.disown();
  }

  /** The thread has written so many bytes, or failed. */
  ended(_tag: number, result: number): void {
    this.#withThread = false;
    this.#stalled = false;
    if (this.#written(result)) this.#flush(0);
  }

  /** @param patienceMs  for a file */
  #flush(patienceMs: number): void {
    if (this.#work !== null) {
      this.#giveToThread(this.#work);
      if (patienceMs > 0) this.#waitForThread(patienceMs);
      return;
    }
    for (let entry = this.#queue[0]; entry !== undefined; entry = this.#queue[0]) if (!this.#written(this.#send(entry.bytes))) return;
  }

  #giveToThread(work: FileWork): void {
    const [entry] = this.#queue;
    if (entry === undefined || this.#withThread) return;
    this.#withThread = true;
    const bytes = entry.bytes.subarray(this.#at);
    work.submit([work.add(this, 0, Sys.FILE_APPEND, 0, bytes.length, bytes)]);
  }

  /** Hear of the thread, if it has ended, also in the middle of a turn. */
  #look(): void {
    let looks = 0;
    this.#work?.waitUntil(() => looks++ > 0, 0);
  }

  #waitForThread(patienceMs: number): void {
    const end = performance.now() + patienceMs;
    this.#work?.waitUntil(() => !this.#withThread || performance.now() >= end, patienceMs);
  }

  /** So many bytes of the first entry were written, or an errno. @returns whether to continue */
  #written(result: number): boolean {
    if (result === -Errno.EAGAIN) {
      this.#wait();
      return false;
    }
    if (result < 0) {
      this.#failures++;
      this.#owner.failed(errnoName(result) ?? `errno ${-result}`);
      return false;
    }
    const entry = this.#queue[0]!;
    this.#at += result;
    if (this.#at < entry.bytes.length) return true;
    this.#queue.shift();
    this.#queued -= entry.bytes.length;
    this.#at = 0;
    this.#owner.written(entry);
    return true;
  }

  #send(bytes: Uint8Array): number {
    const { number } = this.#fd;
    if (this.#kind === 'socket') return this.#sys.sendmsg(number, bytes, this.#at, bytes.length, new Int32Array(0), 0);
    return this.#sys.write(number, bytes, this.#at, bytes.length);
  }

  #wait(): void {
    const again = () => {
      this.#waiting = null;
      this.#flush(0);
    };
    if (this.#kind === 'own') {
      this.#waiting = this.#watch.onWritable(again);
      return;
    }
    const timer = setTimeout(again, RETRY_MS);
    timer.unref();
    this.#waiting = { [Symbol.dispose]: () => clearTimeout(timer) };
  }

  #stopWaiting(): void {
    this.#waiting?.[Symbol.dispose]();
    this.#waiting = null;
  }
}

/**
 * Open a pipe or terminal anew: non-blocking is a property of the open file, which other processes
 * have, too. Null for an open file that cannot be opened anew, such as a socket or a pipe of a
 * different user's; also for files, which have a position.
 */
function openAnew(fd: OwnedFd): OwnedFd | null {
  const kind = fstatSync(fd.number);
  if (!kind.isFIFO() && !kind.isCharacterDevice()) return null;
  try {
    const flags = constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY;
    return OwnedFd.own(openSync(`/proc/self/fd/${fd.number}`, flags), 'opening an output');
  } catch {
    return null;
  }
}
