/**
 * Memory that other processes map, and the news that one of them has it no more.
 *
 * Each loan is an open file of its own, with a lock on a byte of its own far behind the memory: the
 * open file lives as long as a descriptor or a mapping of it, and its lock with it. inotify says
 * that some open file of the memory was closed, and the locks say which.
 *
 * @see fcntl(2), open file description locks; inotify(7)
 */
import { openSync } from 'node:fs';
import { type Addon, addon, checked, Sys } from './addon.ts';
import { FdWatch } from './fd-watch.ts';
import type { MemfdMemory } from './memfd.ts';
import { OwnedFd } from './owned-fd.ts';

/** The bytes of the locks: behind the end of any memory. */
const LOCKS = 2 ** 50;
/**
 * Linux reports a close before it drops the lock (linux/fs/file_table.c, __fput()), so that one
 * look can come too early.
 */
const LOOKS_AFTER_MS = [0, 1, 10, 100, 1000];

interface Loan {
  readonly memory: MemfdMemory;
  readonly byte: number;
  readonly watch: number;
  readonly ended: () => void;
}

export class LentMemory implements Disposable {
  readonly #sys: Addon = addon();
  readonly #inotify: OwnedFd;
  readonly #watch: FdWatch;
  readonly #events = new Uint8Array(4096);
  readonly #answer = new Int32Array(2);
  readonly #loans = new Set<Loan>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #next = LOCKS;

  constructor() {
    this.#inotify = OwnedFd.own(this.#sys.inotifyInit(Sys.IN_CLOEXEC_NONBLOCK), 'watching for closed memory');
    this.#watch = new FdWatch(this.#inotify);
    this.#watch.listen(() => this.#closed());
  }

  /** Loans that processes have. */
  get size(): number {
    return this.#loans.size;
  }

  /**
   * An open file of `memory` for another process; the caller hands it on and closes it.
   *
   * @param ended no process has it open or mapped any more
   * @throws VfioError EMFILE, ENFILE, ENOLCK, ENOSPC over the limits of this user
   */
  lend(memory: MemfdMemory, writable: boolean, ended: () => void): OwnedFd {
    using own = memory.duplicateFd();
    const path = `/proc/self/fd/${own.number}`;
    const open = OwnedFd.own(openSync(path, writable ? 'r+' : 'r'), 'opening memory anew');
    try {
      const byte = this.#next++;
      checked(this.#sys.fcntlLock(open.number, Sys.F_OFD_SETLK, Sys.F_RDLCK, byte, 1, this.#answer), 'marking memory');
      const mask = Sys.IN_CLOSE_WRITE | Sys.IN_CLOSE_NOWRITE;
      const watch = checked(this.#sys.inotifyAdd(this.#inotify.number, path, mask), 'watching memory');
      this.#loans.add({ memory: memory.get(), byte, watch, ended });
      return open;
    } catch (error) {
      open[Symbol.dispose]();
      throw error;
    }
  }

  /** The memory of a loan, by its device and inode; null: no process has such a loan. */
  find(device: bigint, inode: bigint): MemfdMemory | null {
    if (this.#loans.size === 0) return null;
    const key = `${device}:${inode}`;
    for (const { memory } of this.#loans) if (memory.file === key) return memory;
    return null;
  }

  /** Report the loans that ended before now. */
  settle(): void {
    if (this.#loans.size > 0 && (this.#drain() || this.#timers.size > 0)) this.#look(0);
  }

  #closed(): void {
    if (this.#drain()) this.#look(0);
  }

  /** @returns whether some open file of lent memory was closed */
  #drain(): boolean {
    let found = false;
    for (;;) {
      const got = this.#sys.read(this.#inotify.number, this.#events, 0, this.#events.length);
      if (got > 0) found = true;
      if (got < this.#events.length) return found;
    }
  }

  /** Look at all loans; again later, while none has ended. */
  #look(round: number): void {
    let found = false;
    for (const loan of [...this.#loans]) {
      if (this.#isHeld(loan)) continue;
      found = true;
      this.#end(loan);
      loan.ended();
    }
    const next = LOOKS_AFTER_MS[round + 1];
    if (found || next === undefined || this.#loans.size === 0) return;
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      this.#look(round + 1);
    }, next);
    this.#timers.add(timer);
  }

  #isHeld({ memory, byte }: Loan): boolean {
    using own = memory.duplicateFd();
    const result = this.#sys.fcntlLock(own.number, Sys.F_OFD_GETLK, Sys.F_WRLCK, byte, 1, this.#answer);
    return result < 0 || this.#answer[0] !== Sys.F_UNLCK;
  }

  #end(loan: Loan): void {
    this.#loans.delete(loan);
    // All loans of one memory share a watch.
    if (![...this.#loans].some(({ watch }) => watch === loan.watch)) this.#sys.inotifyRemove(this.#inotify.number, loan.watch);
    loan.memory.put();
  }

  [Symbol.dispose](): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    this.#watch[Symbol.dispose]();
    for (const loan of [...this.#loans]) this.#end(loan);
    this.#inotify[Symbol.dispose]();
  }
}
