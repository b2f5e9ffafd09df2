/**
 * Accesses under way to memory that answers only later. A sent access cannot be called back: a
 * reset waits for it.
 */
export class RemoteWork {
  #count = 0;
  #whenQuiet: (() => void)[] = [];

  /** `end` follows, whatever comes of it. */
  begin(): void {
    this.#count++;
  }

  end(): void {
    if (--this.#count === 0) for (const resolve of this.#whenQuiet.splice(0)) resolve();
  }

  /**
   * Settles when nothing is under way, work without a waiter included. Null: nothing is.
   */
  quiet(): Promise<void> | null {
    return this.#count === 0 ? null : new Promise((resolve) => this.#whenQuiet.push(resolve));
  }
}
