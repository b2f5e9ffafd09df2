/**
 * The server's machine sleeps and wakes (S2-42): two eventfds of ours that the server signals, by a feature of ours (`Feature.SYSTEM_SLEEP`). Other servers do
 * not have it, and streams without descriptors cannot carry it: there are no such events then.
 */
import { EventFd } from '../../sys/eventfd.ts';

export interface SleepHooks {
  /** Give the server the two, or with null take them away. @throws VfioError what the server answers */
  arm(eventFds: readonly [suspend: EventFd, resume: EventFd] | null): void;
  acknowledge(): void;
  /** Ask whoever wants to be asked; `done` once all have acknowledged. */
  suspending(done: () => void): void;
  asleep(): void;
  awake(): void;
}

export class ClientSleep implements Disposable {
  readonly #hooks: SleepHooks;
  #fds: readonly [EventFd, EventFd] | null = null;
  #listening: Disposable[] = [];
  #asleep = false;
  #waiting: { readonly promise: Promise<void>; readonly resolve: () => void } | null = null;
  /** Counts suspends: an acknowledgement of one that is over does nothing. */
  #round = 0;

  constructor(hooks: SleepHooks) {
    this.#hooks = hooks;
  }

  /** Settles when the machine is awake; null while it is. */
  awake(): Promise<void> | null {
    if (!this.#asleep) return null;
    if (this.#waiting === null) {
      let resolve = (): void => {};
      const promise = new Promise<void>((done) => {
        resolve = done;
      });
      this.#waiting = { promise, resolve };
    }
    return this.#waiting.promise;
  }

  /** Whether anybody listens. @throws VfioError what the server answers */
  setWanted(wanted: boolean): void {
    if (wanted === (this.#fds !== null)) return;
    if (!wanted) {
      this.#hooks.arm(null);
      this.#drop();
      return;
    }
    const fds = [EventFd.create(), EventFd.create()] as const;
    this.#fds = fds;
    this.#listening = [fds[0].listen(() => this.#suspend()), fds[1].listen(() => this.#resume())];
    try {
      this.#hooks.arm(fds);
    } catch (error) {
      this.#drop();
      throw error;
    }
  }

  #suspend(): void {
    const round = ++this.#round;
    this.#hooks.suspending(() => {
      if (round !== this.#round || this.#asleep) return;
      this.#hooks.acknowledge();
      this.#asleep = true;
      this.#hooks.asleep();
    });
  }

  #resume(): void {
    // Of one that came and went before this process had its turn.
    this.#fds?.[0].read();
    this.#round++;
    this.#settle();
    this.#hooks.awake();
  }

  #settle(): void {
    this.#asleep = false;
    const waiting = this.#waiting;
    this.#waiting = null;
    waiting?.resolve();
  }

  #drop(): void {
    for (const each of this.#listening) each[Symbol.dispose]();
    this.#listening = [];
    for (const fd of this.#fds ?? []) fd[Symbol.dispose]();
    this.#fds = null;
  }

  /** The connection has ended. Idempotent. */
  [Symbol.dispose](): void {
    this.#round++;
    this.#settle();
    this.#drop();
  }
}
