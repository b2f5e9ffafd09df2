/**
 * Time for commands, in ticks: A command notes the tick of its start, without reading a clock.
 * Ticks come while a command is in flight.
 */
import type { Clock } from '../../base/clock.ts';

/** Ticks in the driver's timeout: a command is late after that time and at most a tick more. */
const TICKS = 4;

export class Watchdog implements Disposable {
  readonly intervalMs: number;
  readonly #clock: Clock;
  readonly #look: () => void;
  readonly #timeoutMs: number;
  #timer: Disposable | null = null;
  #disposed = false;
  tick = 0;

  /** @param look called at each tick. Ticks go on while `awake` is called. */
  constructor(clock: Clock, timeoutMs: number, look: () => void) {
    this.#clock = clock;
    this.#look = look;
    this.#timeoutMs = timeoutMs;
    this.intervalMs = Math.max(1, timeoutMs / TICKS);
  }

  /** Ticks of `ms` milliseconds. Default: those of the driver's timeout. */
  ticks(ms = this.#timeoutMs): number {
    return Math.max(1, Math.ceil(ms / this.intervalMs));
  }

  /** Tick from now on. Ticks end when a whole tick passes without a call. */
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
