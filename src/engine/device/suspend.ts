/**
 * The machine goes to sleep (S2-42). Linux tells nobody; we do what the thread asked for: users hear of it and may save their device's state, then
 * the device stands still and is powered down; at resume its configuration is back, it goes on where it stood, and they hear of that.
 */
import type { DeviceFile, Listener } from './device-file.ts';
import type { VfioPciDevice } from './pci-device.ts';

export class Suspension {
  readonly #device: VfioPciDevice;
  /** Listeners whose acknowledgement is missing. */
  readonly #waiting = new Set<Listener>();
  #pending: Promise<void> | null = null;
  #finish: ((sleep: boolean) => void) | null = null;
  #asleep = false;
  #wasInD3 = false;
  /** PME, or the administrator, while it slept. */
  #wakeLater = false;
  #awake: { readonly promise: Promise<void>; readonly resolve: () => void } | null = null;

  constructor(device: VfioPciDevice) {
    this.#device = device;
  }

  get asleep(): boolean {
    return this.#asleep;
  }

  /** Settles when it is awake again; null while it is. */
  awake(): Promise<void> | null {
    if (!this.#asleep) return null;
    if (this.#awake === null) {
      let resolve = (): void => {};
      const promise = new Promise<void>((done) => {
        resolve = done;
      });
      this.#awake = { promise, resolve };
    }
    return this.#awake.promise;
  }

  /** To be woken from low power, once the machine is awake. */
  wakeLater(): void {
    this.#wakeLater = true;
  }

  suspend(): Promise<void> {
    if (this.#pending !== null) return this.#pending;
    if (this.#device.openCount === 0 || this.#asleep) return Promise.resolve();
    this.#pending = new Promise((resolve) => this.#ask(resolve));
    const pending = this.#pending;
    if (this.#finish === null) this.#pending = null;
    return pending;
  }

  #ask(resolve: () => void): void {
    const { bdf, ctx } = this.#device;
    const timeoutMs = ctx.params.suspendTimeoutMs;
    const timer = ctx.clock.after(timeoutMs, () => {
      const text = `${bdf}: ${this.#waiting.size} of its users did not acknowledge suspend within ${timeoutMs} ms`;
      ctx.log.log('warn', `${bdf} suspend`, text);
      this.#finish?.(true);
    });
    this.#finish = (sleep) => {
      this.#finish = null;
      this.#pending = null;
      this.#waiting.clear();
      timer[Symbol.dispose]();
      if (sleep) this.#sleep();
      resolve();
    };
    const asked = this.#device.files.flatMap((file) =>
      file.listeners('suspend').map((listener): [DeviceFile, Listener] => [file, listener]),
    );
    for (const [, listener] of asked) this.#waiting.add(listener);
    for (const [file, listener] of asked) file.tell(listener, { kind: 'suspend', acknowledge: () => this.forget(listener) });
    if (this.#waiting.size === 0) this.#finish?.(true);
  }

  /** Nothing more is waited for from this listener: it has acknowledged, or is gone. */
  forget(listener: Listener): void {
    if (this.#waiting.delete(listener) && this.#waiting.size === 0) this.#finish?.(true);
  }

  #sleep(): void {
    const device = this.#device;
    if (device.openCount === 0) return;
    this.#asleep = true;
    device.host.stand(true);
    if (!device.power.asleep) {
      device.openState.interrupts.sleep();
      this.#wasInD3 = device.power.state === 'D3hot';
      device.power.setState('D3hot');
    }
    for (const file of device.files) file.emit({ kind: 'asleep' });
  }

  resume(): void {
    const device = this.#device;
    if (!this.#asleep) {
      // Woken before everybody acknowledged: those who were asked hear that it is over.
      if (this.#finish === null) return;
      this.#finish(false);
      for (const file of device.files) file.emit({ kind: 'resume' });
      return;
    }
    this.#asleep = false;
    if (!device.power.asleep) {
      if (!this.#wasInD3) device.power.setState('D0');
      device.openState.interrupts.wake();
    }
    device.host.stand(false);
    this.#settleAwake();
    for (const file of device.files) file.emit({ kind: 'resume' });
    const wake = this.#wakeLater;
    this.#wakeLater = false;
    if (wake) device.wake();
  }

  #settleAwake(): void {
    const awake = this.#awake;
    this.#awake = null;
    awake?.resolve();
  }

  /** The device is being closed or taken away: nothing is left to resume. */
  end(): void {
    this.#asleep = false;
    this.#wakeLater = false;
    this.#device.host.stand(false);
    this.#settleAwake();
    this.#finish?.(false);
  }
}
