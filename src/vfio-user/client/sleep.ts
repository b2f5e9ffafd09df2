/**
 * The server's machine sleeps and wakes (S2-42): the server signals two eventfds of ours, by a
 * feature of ours (`Feature.SYSTEM_SLEEP`). Other servers do not have the feature, and streams
 * without descriptors cannot carry it; then there are no such events.
 */

import { VfioError } from '../../base/errno.ts';
import { Latch } from '../../base/latch.ts';
import { EventFd } from '../../sys/eventfd.ts';

export interface SleepHooks {
  /**
   * Give the server the two eventfds, or with null take them away.
   *
   * @throws VfioError the error that the server answers
   */
  arm(eventFds: readonly [suspend: EventFd, resume: EventFd] | null): void;
  /**
   * @param count the value that the suspend eventfd has counted since `arm`
   * @throws VfioError EAGAIN when the server has signalled it again since
   */
  acknowledge(count: bigint): void;
  /** Ask every listener; `done` once all have acknowledged. */
  suspending(done: () => void): void;
  asleep(): void;
  awake(): void;
}

export class ClientSleep implements Disposable {
  readonly #hooks: SleepHooks;
  #fds: readonly [EventFd, EventFd] | null = null;
  #listening: Disposable[] = [];
  #asleep = false;
  readonly #awake = new Latch();
  /**
   * The counts of the eventfds since `arm`. One suspend more than resumes: the machine is about to
   * sleep. Two more: the machine sleeps without an acknowledgement.
   */
  #suspends = 0n;
  #resumes = 0n;

  constructor(hooks: SleepHooks) {
    this.#hooks = hooks;
  }

  /** Settles when the machine is awake; null while it is. */
  awake(): Promise<void> | null {
    return this.#asleep ? this.#awake.promise : null;
  }

  /** Whether a listener exists. @throws VfioError the error that the server answers */
  setWanted(wanted: boolean): void {
    if (wanted === (this.#fds !== null)) return;
    if (!wanted) {
      this.#hooks.arm(null);
      this.#drop();
      return;
    }
    const fds = [EventFd.create(), EventFd.create()] as const;
    this.#fds = fds;
    this.#suspends = this.#resumes = 0n;
    this.#listening = fds.map((fd) => fd.listen((count) => this.#signalled(fd === fds[0] ? count : 0n, fd === fds[1] ? count : 0n)));
    try {
      this.#hooks.arm(fds);
    } catch (error) {
      this.#drop();
      throw error;
    }
  }

  /**
   * Read both counters, whichever eventfd woke this process: several suspends may have come and
   * gone before its turn.
   */
  #signalled(suspends: bigint, resumes: bigint): void {
    const [suspend, resume] = this.#fds!;
    const before = this.#suspends;
    const resumed = resumes + (resume.read() ?? 0n);
    this.#suspends += suspends + (suspend.read() ?? 0n);
    this.#resumes += resumed;
    if (resumed > 0n) {
      this.#settle();
      this.#hooks.awake();
    }
    if (this.#suspends === before) return;
    if (this.#suspends - this.#resumes === 1n) this.#suspending();
    else if (this.#suspends - this.#resumes === 2n) this.#sleeps();
  }

  #sleeps(): void {
    if (this.#asleep) return;
    this.#asleep = true;
    this.#hooks.asleep();
  }

  #suspending(): void {
    const count = this.#suspends;
    this.#hooks.suspending(() => {
      if (count !== this.#suspends || count <= this.#resumes || this.#asleep) return;
      try {
        this.#hooks.acknowledge(count);
      } catch (error) {
        // This process is about to hear of it.
        if (error instanceof VfioError && error.code === 'EAGAIN') return;
        throw error;
      }
      this.#sleeps();
    });
  }

  #settle(): void {
    this.#asleep = false;
    this.#awake.settle();
  }

  #drop(): void {
    for (const each of this.#listening) each[Symbol.dispose]();
    this.#listening = [];
    for (const fd of this.#fds ?? []) fd[Symbol.dispose]();
    this.#fds = null;
  }

  /** The connection has ended. Idempotent. */
  [Symbol.dispose](): void {
    this.#settle();
    this.#drop();
  }
}
