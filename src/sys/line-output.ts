/**
 * Lines for a descriptor whose reader is not to be trusted: a log, a record. Writing never waits
 * and never fails. Lines that the reader does not take in time, and lines that the disk has no room
 * for, are dropped and counted. A line with the number of missing lines precedes the next line that
 * gets through.
 */
import { constants, fstatSync, openSync } from 'node:fs';
import { Errno, errnoName } from '../base/errno.ts';
import { type Addon, addon, Sys } from './addon.ts';
import { FdWatch } from './fd-watch.ts';
import { FileWork, type WorkOwner } from './file-work.ts';
import { OwnedFd } from './owned-fd.ts';

/** The most that waits for a slow reader. */
const QUEUE_BYTES = 2 ** 20;
/**
 * `write` waits for a file that answers, so a line is there when `write` returns. A file that does
 * not answer gets its lines from its thread alone, until it answers.
 */
const FILE_MS = 20;
/** Between two tries where the kernel cannot be asked for a wake-up. */
const RETRY_MS = 50;
/** At the end, for a reader that is slow. */
const PATIENCE_MS = 500;

export interface LineOutputOptions {
  /** The line that stands for `count` missing ones. */
  readonly missing: (count: number) => string;
  /** Called when the first line is dropped, with the reason. */
  readonly onDropped?: (reason: string) => void;
  /** Called when lines get through again, with the number of missing ones. */
  readonly onAgain?: (count: number) => void;
}

interface Entry {
  readonly bytes: Uint8Array;
  readonly lines: number;
  /** Missing lines that it stands for. */
  readonly missing: number;
}

/**
 * socket: each call says that it must not wait. own: opened anew, non-blocking. thread: a file
 * whose disk may stall, or an open file that other processes share and may make blocking.
 */
type Kind = 'socket' | 'own' | 'thread';

export class LineOutput implements Disposable, WorkOwner {
  readonly #sys: Addon = addon();
  readonly #options: LineOutputOptions;
  readonly #fd: OwnedFd;
  readonly #kind: Kind;
  readonly #watch: FdWatch;
  readonly #work: FileWork | null;
  /** The thread has the first entry. */
  #withThread = false;
  #queue: Entry[] = [];
  /** Bytes of the first entry that are written. */
  #at = 0;
  #queued = 0;
  #missing = 0;
  /** The last line was written in part. */
  #cut = false;
  #waiting: Disposable | null = null;

  /** @param number a descriptor, which stays its owner's   @throws VfioError EBADF */
  constructor(number: number, options: LineOutputOptions) {
    this.#options = options;
    const same = OwnedFd.duplicate(number);
    const again = openAnew(same);
    if (again !== null) same[Symbol.dispose]();
    this.#fd = again ?? same;
    this.#kind = again !== null ? 'own' : this.#sys.getsockopt(same.number, Sys.SO_TYPE) >= 0 ? 'socket' : 'thread';
    this.#watch = new FdWatch(this.#fd);
    this.#work = this.#kind === 'thread' ? new FileWork(this.#fd, 1) : null;
  }

  /** @param text one or more lines, each with its end */
  write(text: string, lines = 1): void {
    if (this.#fd.closed) return;
    if (this.#queued >= QUEUE_BYTES) {
      this.#drop(lines, 'its reader does not read');
      return;
    }
    const missing = this.#missing;
    if (missing > 0) {
      this.#missing = 0;
      this.#add({ bytes: bytesOf(`${this.#cut ? '\n' : ''}${this.#options.missing(missing)}\n`), lines: 0, missing });
    }
    this.#add({ bytes: bytesOf(text), lines, missing: 0 });
    if (this.#waiting === null && !this.#withThread) this.#flush(FILE_MS);
  }

  /** A slow reader gets half a second for the waiting lines. */
  [Symbol.dispose](): void {
    if (this.#fd.closed) return;
    this.#stopWaiting();
    const end = performance.now() + PATIENCE_MS;
    this.#flush(PATIENCE_MS);
    while (this.#queue.length > 0 && performance.now() < end) {
      this.#stopWaiting();
      if (this.#work === null) this.#sys.poll(this.#fd.number, Sys.POLLOUT, RETRY_MS);
      else this.#waitForThread(RETRY_MS);
      this.#flush(RETRY_MS);
    }
    this.#stopWaiting();
    this.#watch[Symbol.dispose]();
    if (this.#work?.abandon() ?? true) this.#fd[Symbol.dispose]();
    else this.#fd.disown();
  }

  /** The thread has written so many bytes, or failed. */
  ended(_tag: number, result: number): void {
    this.#withThread = false;
    if (this.#written(result)) this.#flush(0);
  }

  #add(entry: Entry): void {
    this.#queue.push(entry);
    this.#queued += entry.bytes.length;
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
      this.#fail(errnoName(result) ?? `errno ${-result}`);
      return false;
    }
    const entry = this.#queue[0]!;
    this.#at += result;
    if (this.#at < entry.bytes.length) return true;
    this.#queue.shift();
    this.#queued -= entry.bytes.length;
    this.#at = 0;
    if (entry.missing === 0) return true;
    this.#cut = false;
    this.#options.onAgain?.(entry.missing);
    return true;
  }

  #send(bytes: Uint8Array): number {
    const { number } = this.#fd;
    if (this.#kind === 'socket') return this.#sys.sendmsg(number, bytes, this.#at, bytes.length, new Int32Array(0), 0);
    return this.#sys.write(number, bytes, this.#at, bytes.length);
  }

  /**
   * The waiting lines will not be written. The next line tries again: disks get room, and named
   * pipes other readers.
   */
  #fail(reason: string): void {
    this.#cut ||= this.#at > 0;
    const dropped = this.#queue.reduce((sum, { lines, missing }) => sum + lines + missing, 0);
    const wasMissing = this.#queue.some(({ missing }) => missing > 0);
    this.#queue = [];
    this.#queued = 0;
    this.#at = 0;
    if (wasMissing) this.#missing += dropped;
    else this.#drop(dropped, reason);
  }

  #drop(lines: number, reason: string): void {
    const first = this.#missing === 0;
    this.#missing += lines;
    if (first) this.#options.onDropped?.(reason);
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

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

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
