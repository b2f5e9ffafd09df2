/**
 * System calls of programs that wait for this process to answer them: the notifications of a
 * seccomp filter, one at a time.
 *
 * @see seccomp_unotify(2)
 */
import { Errno, VfioError } from '../base/errno.ts';
import { type Addon, addon, Sys } from './addon.ts';
import { FdWatch } from './fd-watch.ts';
import type { OwnedFd } from './owned-fd.ts';
import type { StandInFiles } from './stand-in-files.ts';

/** struct seccomp_notif: the size, and the places of its fields in 32-bit words. */
const NOTIFICATION_BYTES = 80;
const PID = 2;
const NUMBER = 4;
const ARGUMENTS = 8;

/** The outcome of `NotifiedCalls.receive`. */
export const Received = { CALL: 0, NONE: 1, GONE: 2, END: 3 } as const;
export type Received = (typeof Received)[keyof typeof Received];

/** One call at a time: `receive` gets the next, and every other member is about that call. */
export class NotifiedCalls implements Disposable {
  readonly #listener: OwnedFd;
  readonly #watch: FdWatch;
  readonly #sys: Addon = addon();
  readonly #bytes = new Uint8Array(NOTIFICATION_BYTES);
  readonly #words = new Uint32Array(this.#bytes.buffer);

  /** Takes `listener`, the descriptor of the filter. */
  constructor(listener: OwnedFd) {
    this.#listener = listener;
    this.#watch = new FdWatch(listener);
    // The program goes on, on the core that answered it, without a detour through another core's
    // sleep. Before Linux 6.6 there is no such flag.
    this.#sys.notifSetFlags(listener.number, Sys.NOTIF_SYNC_WAKE_UP);
  }

  /**
   * Call `serve` from the event loop while calls wait. It returns true to be called again.
   * Keeps the process alive.
   */
  listen(serve: () => boolean): Disposable {
    return this.#watch.listen(serve, { keepAlive: true });
  }

  /**
   * The next call. Never waits. GONE: its process died meanwhile. END: no program is left.
   *
   * @param files closes that a program made before its call are reported first
   */
  receive(files: StandInFiles): Received {
    const result = this.#sys.notifReceive(this.#listener.number, files.news.number, this.#bytes);
    if (result > 0) files.drain();
    if (result >= 0) return Received.CALL;
    if (result === -Errno.EAGAIN) return Received.NONE;
    return result === -Errno.EPIPE ? Received.END : Received.GONE;
  }

  /** The thread that calls, in our own pid namespace. */
  get thread(): number {
    return this.#words[PID]!;
  }

  /** The number of the system call, which depends on the processor. */
  get number(): number {
    return this.#words[NUMBER]!;
  }

  /** An argument as a number that a double holds exactly below 2^53. */
  argument(index: number): number {
    return this.#words[ARGUMENTS + 2 * index]! + this.#words[ARGUMENTS + 2 * index + 1]! * 2 ** 32;
  }

  /** An argument of type int. */
  int(index: number): number {
    return this.#words[ARGUMENTS + 2 * index]! | 0;
  }

  /** An argument of type unsigned int. */
  unsigned(index: number): number {
    return this.#words[ARGUMENTS + 2 * index]!;
  }

  /**
   * End the call: with a result, or with a negative errno.
   * @returns false when the process died before: nothing came of the call
   */
  answer(result: number): boolean {
    const failed = result < 0;
    return this.#sys.notifSend(this.#listener.number, this.#bytes, failed ? 0 : result, failed ? result : 0, 0) === 0;
  }

  /**
   * Answer the present call later: others are received in the meantime.
   * @returns ends the call, as `answer`
   */
  postpone(): (result: number) => void {
    const call = this.#bytes.slice();
    return (result) => {
      if (this.#listener.closed) return;
      this.#sys.notifSend(this.#listener.number, call, Math.max(result, 0), Math.min(result, 0), 0);
    };
  }

  /** Let the kernel carry out the call. */
  proceed(): void {
    this.#sys.notifSend(this.#listener.number, this.#bytes, 0, 0, Sys.NOTIF_CONTINUE);
  }

  /**
   * Give the process a descriptor of the open file `file`, which stays ours as well.
   *
   * @param at the number; -1: the lowest that is free
   * @returns the number there
   * @throws VfioError EMFILE when the process has no room; ESRCH when it died
   */
  addDescriptor(file: OwnedFd, at: number, closeOnExec: boolean): number {
    const flags = closeOnExec ? Sys.EFD_CLOEXEC : 0;
    const added = this.#sys.notifAddFd(this.#listener.number, this.#bytes, file.number, at, flags);
    if (added >= 0) return added;
    if (added === -Errno.ENOENT) throw new VfioError('ESRCH', 'the process died during its call');
    throw new VfioError('EMFILE', 'the process has no descriptor left', { fix: 'Close some, or raise RLIMIT_NOFILE.' });
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
    this.#listener[Symbol.dispose]();
  }
}
