/** Calls `call`, and gives its result. */
type Around = <T>(call: () => T) => T;

function within<V, R>(around: Around, callback: ((value: V) => R) | null | undefined): ((value: V) => R) | null | undefined {
  return typeof callback === 'function' ? (value) => around(() => callback(value)) : callback;
}

/**
 * A promise to hand to code that is not ours. When the promise rejects and that code has not looked
 * at it (a forgotten `await`), the rejection is reported instead of ending the process as
 * unhandled. The same holds for every promise that `then`, `catch` and `finally` make from it.
 */
export class WatchedPromise<T> extends Promise<T> {
  #looked = false;
  #forgotten: ((error: unknown) => void) | null = null;
  #around: Around | null = null;

  /**
   * @param forgotten reports a rejection of `work` that no code looked at. It must not throw
   * @param around  calls each callback of this promise. Default: nothing surrounds them
   */
  static of<T>(work: Promise<T>, forgotten: (error: unknown) => void, around: Around | null = null): WatchedPromise<T> {
    const watched = new WatchedPromise<T>((resolve, reject) => void work.then(resolve, reject));
    watched.#watch(forgotten);
    watched.#around = around;
    return watched;
  }

  // biome-ignore lint/suspicious/noThenProperty: a promise has one
  override then<R = T, E = never>(
    onFulfilled?: ((value: T) => R | PromiseLike<R>) | null,
    onRejected?: ((error: unknown) => E | PromiseLike<E>) | null,
  ): Promise<R | E> {
    this.#looked = true;
    const around = this.#around;
    const next = (
      around === null ? super.then(onFulfilled, onRejected) : super.then(within(around, onFulfilled), within(around, onRejected))
    ) as WatchedPromise<R | E>;
    if (this.#forgotten !== null) next.#watch(this.#forgotten);
    return next;
  }

  #watch(forgotten: (error: unknown) => void): void {
    this.#forgotten = forgotten;
    super.then(undefined, (error: unknown) => {
      if (!this.#looked) forgotten(error);
    });
  }
}
