/** Looks at intervals whether a peer is too slow; runs only while something waits for a peer. */
import type { Clock } from '../../base/clock.ts';

export class Watchdog implements Disposable {
  readonly #clock: Clock;
  readonly #periodMs: number;
  readonly #look: () => boolean;
  #timer: Disposable | null = null;
  #disposed = false;

  /** @param look  true to be asked again after another period */
  constructor(clock: Clock, periodMs: number, look: () => boolean) {
    this.#clock = clock;
    this.#periodMs = periodMs;
    this.#look = look;
  }

  /** There is something to look at. */
  wake(): void {
    if (this.#timer !== null || this.#disposed) return;
    this.#timer = this.#clock.after(this.#periodMs, () => {
      this.#timer = null;
      if (this.#look()) this.wake();
    });
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    this.#timer?.[Symbol.dispose]();
    this.#timer = null;
  }
}
