/**
 * An event that several callers wait for: one promise, made for the first caller. After `settle`
 * the next caller waits for the next event.
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

  /** The event has happened. No effect where no caller waits. */
  settle(): void {
    const waiting = this.#waiting;
    this.#waiting = null;
    waiting?.resolve();
  }
}
