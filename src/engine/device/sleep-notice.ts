/**
 * SYSTEM_SLEEP, a feature of ours, for users who hear by eventfds: programs at the ioctl door and clients of a vfio-user server (S2-42). Two eventfds,
 * signalled when the machine is about to sleep and when it is awake again; SYSTEM_SLEEP_ACK acknowledges.
 */
import type { InterruptSink } from '../../abi/device.ts';
import type { DeviceFile } from './device-file.ts';

export class SleepNotice implements Disposable {
  readonly #file: DeviceFile;
  #sinks: readonly (InterruptSink | null)[] = [];
  #listening: Disposable | null = null;
  #acknowledge: (() => void) | null = null;

  constructor(file: DeviceFile) {
    this.#file = file;
  }

  get armed(): boolean {
    return this.#listening !== null;
  }

  /** In place of those of before. Without a suspend sink nothing is heard of, and nothing is waited for. */
  arm(suspend: InterruptSink | null, resume: InterruptSink | null): void {
    const sinks = [suspend, resume].map((sink) => sink?.get() ?? null);
    this[Symbol.dispose]();
    this.#sinks = sinks;
    if (suspend === null) return;
    this.#listening = this.#file.on(
      (event) => {
        if (event.kind === 'suspend') this.#acknowledge = event.acknowledge;
        this.#sinks[event.kind === 'suspend' ? 0 : 1]?.signal();
      },
      ['suspend', 'resume'],
    );
  }

  /** Nothing where nothing waits for it. */
  acknowledge(): void {
    const acknowledge = this.#acknowledge;
    this.#acknowledge = null;
    acknowledge?.();
  }

  /** Idempotent. */
  [Symbol.dispose](): void {
    this.#listening?.[Symbol.dispose]();
    this.#listening = null;
    this.#acknowledge = null;
    for (const sink of this.#sinks) sink?.put();
    this.#sinks = [];
  }
}
