/** As `Cleanup`, for steps that take time. */
export class AsyncCleanup implements AsyncDisposable {
  #steps: (() => void | Promise<void>)[] = [];

  /** Have dispose run `step`. */
  defer(step: () => void | Promise<void>): void {
    this.#steps.push(step);
  }

  /** Have dispose release `resource`. @returns `resource` */
  use<T extends Disposable | AsyncDisposable>(resource: T): T {
    this.#steps.push(() =>
      Symbol.asyncDispose in resource ? Promise.resolve(resource[Symbol.asyncDispose]()) : resource[Symbol.dispose](),
    );
    return resource;
  }

  /** Hand all steps over to a new one. This one has no steps any more. */
  move(): AsyncCleanup {
    const to = new AsyncCleanup();
    to.#steps = this.#steps;
    this.#steps = [];
    return to;
  }

  /** Runs every step, newest first, even when some fail, and rejects with the first error. */
  async [Symbol.asyncDispose](): Promise<void> {
    const errors: unknown[] = [];
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        await step();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }
}
