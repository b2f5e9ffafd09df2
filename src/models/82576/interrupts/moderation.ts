/**
 * Interrupt throttling (7.3.3, 8.8.12): between two messages of a vector lie at least EITR's
 * microseconds. A timer exists only while a message waits.
 */
import { Eitr, Reg } from '../../../abi/82576.ts';
import type { Clock } from '../../../base/clock.ts';
import type { RegisterSpace } from '../register-space.ts';

/** Of the card: PF and virtual functions together (7.3.1.1). */
export const VECTORS = 25;

export class Moderation {
  readonly #words: Uint32Array;
  readonly #clock: Clock;
  readonly #due: (vector: number) => void;
  /** When each vector may send again. */
  readonly #openNs = new Float64Array(VECTORS);
  readonly #timers: (Disposable | null)[] = new Array(VECTORS).fill(null);
  #paused = false;
  /** Vectors whose message waits. */
  waiting = 0;

  /** @param due a message that had to wait may go out now, if its cause is still there */
  constructor(registers: RegisterSpace, clock: Clock, due: (vector: number) => void) {
    this.#words = registers.words;
    this.#clock = clock;
    this.#due = due;
  }

  /** Whether vector `vector` may send now. False: `due` is called when it may. */
  open(vector: number): boolean {
    if (((this.waiting >>> vector) & 1) !== 0) return false;
    const interval = (this.#words[(Reg.EITR >>> 2) + vector]! & Eitr.INTERVAL) >>> Eitr.INTERVAL_SHIFT;
    const until = this.#openNs[vector]!;
    if (interval === 0 && until === 0) return true;
    const now = this.#clock.nowNs();
    if (now < until) {
      this.#arm(vector, until - now);
      return false;
    }
    this.#openNs[vector] = interval === 0 ? 0 : now + interval * 1000;
    return true;
  }

  #arm(vector: number, leftNs: number): void {
    this.waiting |= 1 << vector;
    if (this.#paused) return;
    this.#timers[vector] = this.#clock.after(leftNs / 1e6, () => {
      this.#timers[vector] = null;
      this.#openNs[vector] = 0;
      this.waiting &= ~(1 << vector);
      this.#due(vector);
    });
  }

  /** EITR was written: without CNT_INGR the counter begins anew at 0 (8.8.12). */
  restart(vector: number): void {
    const waits = ((this.waiting >>> vector) & 1) !== 0;
    this.#stop(vector);
    if (waits) this.#due(vector);
  }

  /** Nothing waits any more. */
  reset(): void {
    for (let vector = 0; vector < VECTORS; vector++) this.#stop(vector);
  }

  #stop(vector: number): void {
    this.#timers[vector]?.[Symbol.dispose]();
    this.#timers[vector] = null;
    this.#openNs[vector] = 0;
    this.waiting &= ~(1 << vector);
  }

  /** Time stands still for a migration. */
  pause(): void {
    this.#paused = true;
    const now = this.#clock.nowNs();
    for (let vector = 0; vector < VECTORS; vector++) {
      this.#timers[vector]?.[Symbol.dispose]();
      this.#timers[vector] = null;
      this.#openNs[vector] = Math.max(0, this.#openNs[vector]! - now);
    }
  }

  goOn(): void {
    this.#paused = false;
    const now = this.#clock.nowNs();
    for (let vector = 0; vector < VECTORS; vector++) {
      const left = this.#openNs[vector]!;
      if (left > 0) this.#openNs[vector] = now + left;
      if (((this.waiting >>> vector) & 1) !== 0) this.#arm(vector, left);
    }
  }

  /** While it is paused: nanoseconds until each vector may send. */
  get left(): Float64Array {
    return this.#openNs;
  }
}
