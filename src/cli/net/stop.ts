/** The end of a loop over frames: so many, so long, or a signal. */

export interface StopOptions {
  readonly count?: number;
  readonly seconds?: number;
}

/** Aborts when `signal` does, after `seconds`, or when `took` has been called `count` times. */
export class Stopwatch implements Disposable {
  readonly #abort = new AbortController();
  readonly #count: number;
  readonly #timer: NodeJS.Timeout | null;
  readonly #signal: AbortSignal;
  readonly #off = () => this.#abort.abort();
  #taken = 0;

  constructor({ count = Number.POSITIVE_INFINITY, seconds }: StopOptions, signal: AbortSignal) {
    this.#count = count;
    this.#signal = signal;
    this.#timer = seconds === undefined ? null : setTimeout(this.#off, seconds * 1000);
    if (signal.aborted) this.#off();
    else signal.addEventListener('abort', this.#off, { once: true });
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  end(): void {
    this.#off();
  }

  /** One more. */
  took(): void {
    if (++this.#taken >= this.#count) this.#off();
  }

  [Symbol.dispose](): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#signal.removeEventListener('abort', this.#off);
  }
}
