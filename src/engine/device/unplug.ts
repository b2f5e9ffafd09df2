/**
 * The engine asks users to release a device (S2-41): at once, then every ten seconds until the last
 * file is closed. Where the machine says so, the engine then revokes the device.
 *
 * @see linux/drivers/vfio/vfio_main.c, vfio_unregister_group_dev(); vfio_pci_core_request()
 */
import { keepAlive } from '../../base/keep-alive.ts';
import type { EventSource } from '../../events/source.ts';
import type { EngineContext } from '../context.ts';

/** How often Linux repeats the request. */
const REQUEST_INTERVAL_MS = 10_000;

export interface ReleaseTarget {
  readonly bdf: string;
  readonly host: { readonly events: EventSource };
  /** Ask all users once more. False when no user listens. */
  request(): boolean;
  /** Take the device from its users. */
  revoke(reason: string): void;
}

export class ReleaseRequest {
  readonly promise: Promise<void>;
  /** Requests made so far. */
  count = 0;
  readonly #ctx: EngineContext;
  readonly #target: ReleaseTarget;
  #resolve: () => void = () => {};
  #again: Disposable | null = null;
  #force: Disposable | null = null;
  #alive: Disposable | null = null;
  #done = false;

  constructor(target: ReleaseTarget, ctx: EngineContext) {
    this.#target = target;
    this.#ctx = ctx;
    this.promise = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  start(): void {
    // Timers do not keep the process alive, and a process that waits for the release is not done.
    this.#alive = keepAlive();
    const after = this.#ctx.params.forceRevokeAfterMs;
    if (after !== null) {
      this.#force = this.#ctx.clock.after(after, () => {
        if (!this.#done) this.#target.revoke(`its user did not close it within ${after} ms of the request`);
      });
    }
    this.#request();
  }

  #request(): void {
    const { bdf, host } = this.#target;
    const seq = host.events.on ? host.events.emit('plug', { step: 'asked to leave' }) : 0;
    const told = host.events.during(seq, () => this.#target.request());
    if (this.#done) return;
    if (!told && this.count === 0) {
      host.events.note('warn', 'no request channel', `${bdf}: no user listens for release requests; blocked until it is released`);
    }
    this.count++;
    this.#again = this.#ctx.clock.after(REQUEST_INTERVAL_MS, () => this.#request());
  }

  /** The last file is closed. Idempotent. */
  released(): void {
    if (this.#done) return;
    this.#done = true;
    this.#alive?.[Symbol.dispose]();
    this.#again?.[Symbol.dispose]();
    this.#force?.[Symbol.dispose]();
    this.#resolve();
  }
}
