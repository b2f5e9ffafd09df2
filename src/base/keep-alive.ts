/** Longer than any program runs; what it does when it fires is nothing. */
const EVER_MS = 2 ** 30;

/**
 * A wait keeps the process alive: clocks and in-process interrupts do not, and a driver that waits
 * for one is not done.
 */
export function keepAlive(): Disposable {
  const timer = setInterval(() => {}, EVER_MS);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}

/**
 * The same for waits that come and go by the hundred thousand: counted, and nothing is allocated
 * for one.
 */
export class KeepAlive implements Disposable {
  #timer: NodeJS.Timeout | null = null;
  #holds = 0;

  /** How many waits there are. */
  get holds(): number {
    return this.#holds;
  }

  hold(): void {
    if (this.#holds++ > 0) return;
    if (this.#timer === null) this.#timer = setInterval(() => {}, EVER_MS);
    else this.#timer.ref();
  }

  /** Once for each `hold`. */
  release(): void {
    if (--this.#holds === 0) this.#timer?.unref();
  }

  [Symbol.dispose](): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }
}
