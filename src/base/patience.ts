/**
 * Patience: how long a part may make its callers wait, at once and in all. Waiting takes from it,
 * and it comes back with a share of the time that passes.
 */
export class Patience {
  readonly #mostMs: number;
  readonly #share: number;
  readonly #now: () => number;
  #leftMs: number;
  #atMs: number;

  /**
   * @param mostMs  at once
   * @param share  of all time, between 0 and 1
   * @param now  milliseconds
   */
  constructor(mostMs: number, share: number, now: () => number = () => performance.now()) {
    this.#mostMs = mostMs;
    this.#share = share;
    this.#now = now;
    this.#leftMs = mostMs;
    this.#atMs = now();
  }

  /** Milliseconds that a wait may take now. */
  get leftMs(): number {
    const now = this.#now();
    this.#leftMs = Math.min(this.#mostMs, this.#leftMs + (now - this.#atMs) * this.#share);
    this.#atMs = now;
    return this.#leftMs;
  }

  /** Run `wait` with the milliseconds that it may take; the time that it took is gone. */
  during(wait: (ms: number) => void): void {
    const ms = this.leftMs;
    const before = this.#atMs;
    wait(ms);
    this.#atMs = this.#now();
    this.#leftMs = Math.max(0, ms - (this.#atMs - before));
  }
}
