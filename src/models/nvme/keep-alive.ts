/** The Keep Alive timer (NVMe 1.4, 7.12): a host that falls silent has its controller stop. */
import type { Clock } from '../../base/clock.ts';

/** KAS: the timer's granularity, in units of 100 ms. */
export const KEEP_ALIVE_GRANULARITY = 10;
const GRANULARITY_MS = KEEP_ALIVE_GRANULARITY * 100;

/** KATO as it is kept: rounded up to the granularity (5.21.1.15). */
export function roundKeepAlive(timeoutMs: number): number {
  return Math.min(Math.ceil(timeoutMs / GRANULARITY_MS) * GRANULARITY_MS, 0xffff_ffff);
}

export class KeepAlive {
  /** KATO in milliseconds; 0: off. */
  timeoutMs = 0;
  readonly #clock: Clock;
  readonly #expired: () => void;
  #timer: Disposable | null = null;

  constructor(clock: Clock, expired: () => void) {
    this.#clock = clock;
    this.#expired = expired;
  }

  /** Set Features, KATO. */
  set(timeoutMs: number): void {
    this.timeoutMs = timeoutMs;
    this.restart();
  }

  /** A Keep Alive command. */
  restart(): void {
    this.#timer?.[Symbol.dispose]();
    this.#timer = null;
    // A timer takes 2^31 - 1 milliseconds at most: 24 days, when KATO may say 49.
    if (this.timeoutMs > 0) {
      this.#timer = this.#clock.after(Math.min(this.timeoutMs, 0x7fff_ffff), () => {
        this.#timer = null;
        this.#expired();
      });
    }
  }

  reset(): void {
    this.timeoutMs = 0;
    this.restart();
  }
}
