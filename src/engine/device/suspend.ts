/**
 * The machine goes to sleep (S2-42). Linux tells nobody; we do what the thread asked for: users hear of it and may save their device's state, then
 * DMA is blocked and the device is powered down; at resume its configuration is back and they hear of that.
 */
import type { DeviceFile } from './device-file.ts';
import type { VfioPciDevice } from './pci-device.ts';

export class Suspension {
  readonly #device: VfioPciDevice;
  /** Files whose acknowledgement is missing. */
  readonly #waiting = new Set<DeviceFile>();
  #pending: Promise<void> | null = null;
  #finish: ((sleep: boolean) => void) | null = null;
  #asleep = false;
  #wasInD3 = false;

  constructor(device: VfioPciDevice) {
    this.#device = device;
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
    const files = this.#device.files.filter((file) => file.listening);
    for (const file of files) this.#waiting.add(file);
    for (const file of files) file.emit({ kind: 'suspend', acknowledge: () => this.forget(file) });
    if (this.#waiting.size === 0) this.#finish?.(true);
  }

  /** Nothing more is waited for from this file: it has acknowledged, or is closed. */
  forget(file: DeviceFile): void {
    if (this.#waiting.delete(file) && this.#waiting.size === 0) this.#finish?.(true);
  }

  #sleep(): void {
    const device = this.#device;
    if (device.openCount === 0) return;
    this.#asleep = true;
    device.host.dmaBlocked = true;
    if (device.power.asleep) return;
    device.openState.interrupts.sleep();
    this.#wasInD3 = device.power.state === 'D3hot';
    device.power.setState('D3hot');
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
    device.host.dmaBlocked = false;
    for (const file of device.files) file.emit({ kind: 'resume' });
  }

  /** The device is being closed or taken away: nothing is left to resume. */
  end(): void {
    this.#asleep = false;
    this.#device.host.dmaBlocked = false;
    this.#finish?.(false);
  }
}
