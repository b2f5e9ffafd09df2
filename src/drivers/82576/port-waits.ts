/** Callers that wait for a port: for its link, for its rings to be empty, for a frame. */
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import { keepAlive } from '../../base/keep-alive.ts';
import type { DriverDevice } from '../kit/driver-device.ts';
import type { WaitOptions } from '../kit/interrupts.ts';

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** Callers that wait for one and the same event. */
export class PortWaits {
  readonly #dev: DriverDevice;
  readonly #what: string;
  readonly #code: 'ETIMEDOUT' | 'ENETDOWN';
  readonly #waiters = new Set<Waiter>();

  /** @param what of the error after the time: `the link is down` */
  constructor(dev: DriverDevice, what: string, code: 'ETIMEDOUT' | 'ENETDOWN') {
    this.#dev = dev;
    this.#what = what;
    this.#code = code;
  }

  get any(): boolean {
    return this.#waiters.size > 0;
  }

  /** @param begin runs once the caller waits @throws VfioError after the time; as `end` says */
  async wait({ timeoutMs }: WaitOptions, begin: () => void, signal?: AbortSignal): Promise<void> {
    using _alive = keepAlive();
    using undo = new Cleanup();
    await new Promise<void>((resolve, reject) => {
      const waiter = { resolve, reject };
      this.#waiters.add(waiter);
      undo.defer(() => void this.#waiters.delete(waiter));
      if (timeoutMs !== undefined) {
        const late = () => reject(new VfioError(this.#code, `${this.#dev.name}: ${this.#what} within ${timeoutMs} ms`));
        undo.use(this.#dev.clock.after(timeoutMs, late));
      }
      if (signal !== undefined) {
        const abort = () => resolve();
        signal.addEventListener('abort', abort, { once: true });
        undo.defer(() => signal.removeEventListener('abort', abort));
      }
      begin();
    });
  }

  /** All go on. @param error they fail with it. Default: they do not fail */
  end(error: Error | null = null): void {
    const ended = [...this.#waiters];
    this.#waiters.clear();
    for (const { resolve, reject } of ended) {
      if (error === null) resolve();
      else reject(error);
    }
  }
}
