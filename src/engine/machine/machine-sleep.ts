/** Suspend and resume of a whole machine (S2-42). */
import { VfioError } from '../../base/errno.ts';
import { keepAlive } from '../../base/keep-alive.ts';
import type { EventSource } from '../../events/source.ts';
import type { PciFunction } from './pci-function.ts';

export class MachineSleep {
  readonly #name: string;
  readonly #functions: ReadonlyMap<string, PciFunction>;
  readonly #events: EventSource;
  #sleep: Promise<void> | null = null;

  /**
   * @param functions  those of the machine, as they come and go
   * @param events  the machine's own
   */
  constructor(name: string, functions: ReadonlyMap<string, PciFunction>, events: EventSource) {
    this.#events = events;
    this.#name = name;
    this.#functions = functions;
  }

  /** The machine sleeps, or is about to. */
  get suspended(): boolean {
    return this.#sleep !== null;
  }

  /** Resolves when every device has powered down; the same promise while it lasts. */
  suspend(): Promise<void> {
    if (this.#sleep === null) {
      const bound = [...this.#functions.values()].flatMap((fn) => (fn.vfio === null ? [] : [fn.vfio]));
      // Timers do not keep the process alive, and a process that waits for the sleep is not done.
      const alive = keepAlive();
      const sleep = Promise.all(bound.map((device) => device.suspend())).then(() => {
        alive[Symbol.dispose]();
        if (this.#sleep === sleep && this.#events.on) this.#events.emit('power', { state: 'suspended' });
      });
      this.#sleep = sleep;
    }
    return this.#sleep;
  }

  resume(): void {
    if (this.#sleep === null) return;
    this.#sleep = null;
    const seq = this.#events.on ? this.#events.emit('power', { state: 'resumed' }) : 0;
    this.#events.during(seq, () => {
      for (const fn of this.#functions.values()) fn.vfio?.resume();
    });
  }

  /** @throws VfioError EBUSY */
  checkAwake(): void {
    if (this.#sleep !== null) throw new VfioError('EBUSY', `${this.#name} is suspended`, { fix: 'Resume it first.' });
  }
}
