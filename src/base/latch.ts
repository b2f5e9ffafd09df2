/** What several wait for: one promise, made when it is first asked for. After `settle` the next to ask waits for the next time. */
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

  /** It has come about. Nothing where nobody waits. */
  settle(): void {
    const waiting = this.#waiting;
    this.#waiting = null;
    waiting?.resolve();
  }
}
