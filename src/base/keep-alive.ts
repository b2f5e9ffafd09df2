/** A timeout longer than any program runs. Its callback does nothing. */
const EVER_MS = 2 ** 30;

/**
 * A wait that keeps the process alive. Clocks and in-process interrupts do not, but a driver that
 * waits for one is not done yet.
 */
export function keepAlive(): Disposable {
  const timer = setInterval(() => {}, EVER_MS);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}

/**
 * The same for waits that come and go by the hundred thousand. They are counted, and none allocates
 * anything.
 */
export class KeepAlive implements Disposable {
  #timer: NodeJS.Timeout | null = null;
  #holds = 0;

  /** Number of waits. */
  get holds(): number {
    return this.#holds;
  }

  hold(): void {
    if (this.#holds++ > 0) return;
    if (this.#timer === null) this.#timer = setInterval(() => {}, EVER_MS);
    else this.#timer.ref();
  }

  /** End one wait: once for each `hold`. */
  release(): void {
    if (--this.#holds === 0) this.#timer?.unref();
  }

  [Symbol.dispose](): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }
}
