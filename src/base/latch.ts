/**
 * An event that several callers wait for: one promise, made for the first caller. A caller after
 * `settle` waits for the next event.
 */
export class Latch {
  #waiting: { readonly promise: Promise<void>; readonly resolve: () => void } | null = null;

  get promise(): Promise<void> {
    if (this.#waiting === null) {
      let resolve = (): void => {};
      const promise = new Promise<void>((done) => {
        resolve = done;
      });
      this.#waiting = { promise, resolve };
    }
    return this.#waiting.promise;
  }

  /** The event has happened: wake the callers. Without callers it has no effect. */
  settle(): void {
    const waiting = this.#waiting;
    this.#waiting = null;
    waiting?.resolve();
  }
}
