/**
 * Time for commands, in ticks: a command notes the tick it began at and no clock is read for it.
 * Ticks come while something is in flight.
 */
import type { Clock } from '../../base/clock.ts';

/** Ticks in the driver's timeout: a command is late after that long and at most a tick more. */
const TICKS = 4;

export class Watchdog implements Disposable {
  readonly intervalMs: number;
  readonly #clock: Clock;
  readonly #look: () => void;
  readonly #timeoutMs: number;
  #timer: Disposable | null = null;
  #disposed = false;
  tick = 0;

  /** @param look called at each tick; whether to go on is asked by `awake` */
  constructor(clock: Clock, timeoutMs: number, look: () => void) {
    this.#clock = clock;
    this.#look = look;
    this.#timeoutMs = timeoutMs;
    this.intervalMs = Math.max(1, timeoutMs / TICKS);
  }

  /** Ticks that so many milliseconds are; those of the driver's timeout unless told. */
  ticks(ms = this.#timeoutMs): number {
    return Math.max(1, Math.ceil(ms / this.intervalMs));
  }

  /** Tick from now on, until nobody asks for it within a tick. */
  wake(): void {
    if (this.#timer === null && !this.#disposed) this.#timer = this.#clock.after(this.intervalMs, () => this.#tick());
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    this.#timer?.[Symbol.dispose]();
    this.#timer = null;
  }

  #tick(): void {
    this.#timer = null;
    this.tick++;
    this.#look();
  }
}
