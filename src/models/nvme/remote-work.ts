/**
 * Accesses in flight to remote memory. A sent access cannot be cancelled, so a reset waits for it.
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
   * Settles when no access is in flight, those without a waiter included. Null: none is.
   */
  quiet(): Promise<void> | null {
    return this.#count === 0 ? null : new Promise((resolve) => this.#whenQuiet.push(resolve));
  }
}
