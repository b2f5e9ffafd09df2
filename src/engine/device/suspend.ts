/**
 * The machine goes to sleep (S2-42). Linux does not say so to users of a device. Here users hear of
 * it and may save their device's state; then the device stands still and is powered down. At resume
 * its configuration is back, the device goes on where it stood, and the users hear of that.
 */
import { Latch } from '../../base/latch.ts';
import { SuspendRound } from '../../device/device-events.ts';
import type { EventSource } from '../../events/source.ts';
import type { EngineContext } from '../context.ts';
import type { OpenFile } from './hosted-function.ts';

/** The device that goes to sleep; `VfioPciDevice` is one. */
interface SleepingDevice {
  readonly bdf: string;
  readonly ctx: Pick<EngineContext, 'clock' | 'params'>;
  readonly openCount: number;
  readonly files: readonly OpenFile[];
  readonly power: { suspend(): void; resume(): void };
  /**
   * `stand`: the model does nothing from now on, or goes on; `cut`: DMA in flight lands nowhere.
   */
  readonly host: { stand(still: boolean): void; readonly dma: { cut(): void }; readonly events: EventSource };
  /** Wake the device from low power. */
  wake(): void;
}

export class Suspension {
  readonly #device: SleepingDevice;
  #pending: Promise<void> | null = null;
  #finish: ((sleep: boolean) => void) | null = null;
  #asleep = false;
  /** A PME or the administrator woke the device while it slept. */
  #wakeLater = false;
  readonly #awake = new Latch();

  constructor(device: SleepingDevice) {
    this.#device = device;
  }

  get asleep(): boolean {
    return this.#asleep;
  }

  /** Settles when the machine is awake again; null while it is. */
  awake(): Promise<void> | null {
    return this.#asleep ? this.#awake.promise : null;
  }

  /** Wake the device from low power once the machine is awake. */
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
    const { bdf, ctx, host } = this.#device;
    const timeoutMs = ctx.params.suspendTimeoutMs;
    const timer = ctx.clock.after(timeoutMs, () => {
      const text = `${bdf}: ${round.missing} of its users did not acknowledge suspend within ${timeoutMs} ms`;
      host.events.note('warn', 'suspend', text);
      this.#finish?.(true);
    });
    const round = new SuspendRound(() => this.#finish?.(true));
    this.#finish = (sleep) => {
      this.#finish = null;
      this.#pending = null;
      round.end();
      timer[Symbol.dispose]();
      if (sleep) this.#sleep();
      resolve();
    };
    round.ask(this.#device.files.map(({ listeners }) => listeners));
  }

  #sleep(): void {
    const device = this.#device;
    if (device.openCount === 0) return;
    this.#asleep = true;
    device.host.stand(true);
    device.power.suspend();
    for (const file of device.files) file.listeners.emit({ kind: 'asleep' });
  }

  resume(): void {
    const device = this.#device;
    if (!this.#asleep) {
      // Woken before every listener acknowledged: the listeners hear that the suspend is over.
      if (this.#finish === null) return;
      this.#finish(false);
      for (const file of device.files) file.listeners.emit({ kind: 'resume' });
      return;
    }
    this.#asleep = false;
    device.power.resume();
    device.host.stand(false);
    this.#awake.settle();
    for (const file of device.files) file.listeners.emit({ kind: 'resume' });
    const wake = this.#wakeLater;
    this.#wakeLater = false;
    if (wake) device.wake();
  }

  /** The device is being closed or taken away: nothing is left to resume. */
  end(): void {
    this.#asleep = false;
    this.#wakeLater = false;
    // DMA that the device asked for must not reach the memory of its next user.
    this.#device.host.dma.cut();
    this.#device.host.stand(false);
    this.#awake.settle();
    this.#finish?.(false);
  }
}
