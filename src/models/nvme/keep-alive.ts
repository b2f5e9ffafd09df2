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
  #dueNs = 0.5;
  /** Until it expires, while it stands still. */
  #leftMs = 0.5;
  #paused = false;

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
    // A timer takes 2^31 - 1 milliseconds at most: 24 days, when KATO may say 49.
    this.leftMs = Math.min(this.timeoutMs, 0x7fff_ffff);
  }

  /** Time stands still for it. */
  pause(): void {
    const left = this.leftMs;
    this.#paused = true;
    this.leftMs = left;
  }

  goOn(): void {
    this.#paused = false;
    this.leftMs = this.#leftMs;
  }

  /** Until it expires; what it is while it is off does not matter. */
  get leftMs(): number {
    return this.#timer === null ? this.#leftMs : Math.max(0, (this.#dueNs - this.#clock.nowNs()) / 1e6);
  }

  set leftMs(left: number) {
    this.#timer?.[Symbol.dispose]();
    this.#timer = null;
    this.#leftMs = left;
    if (this.#paused || this.timeoutMs === 0) return;
    this.#dueNs = this.#clock.nowNs() + left * 1e6;
    this.#timer = this.#clock.after(left, () => {
      this.#timer = null;
      this.#expired();
    });
  }

  reset(): void {
    this.timeoutMs = 0;
    this.restart();
  }
}
