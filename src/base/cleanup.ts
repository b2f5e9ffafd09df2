/**
 * Undo steps, run newest first. Node 20 has no `DisposableStack`, and knows `using` only through a
 * transpiler. This class is the part of `DisposableStack` that the package needs.
 *
 *     using undo = new Cleanup();
 *     const fd = undo.use(openIt());
 *     undo.defer(() => detach());
 *     return new Thing(fd, undo.move());       // success: the steps now belong to Thing
 */
export class Cleanup implements Disposable {
  #steps: (() => void)[] = [];

  /** Have dispose run `step`. */
  defer(step: () => void): void {
    this.#steps.push(step);
  }

  /** Have dispose release `resource`. @returns `resource` */
  use<T extends Disposable>(resource: T): T {
    this.#steps.push(() => resource[Symbol.dispose]());
    return resource;
  }

  /** Hand all steps over to a new Cleanup. This one has no steps any more. */
  move(): Cleanup {
    const to = new Cleanup();
    to.#steps = this.#steps;
    this.#steps = [];
    return to;
  }

  get pending(): number {
    return this.#steps.length;
  }

  /** Runs every step, even when some throw, and rethrows the first error at the end. Idempotent. */
  [Symbol.dispose](): void {
    let failed = false;
    let first: unknown;
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        step();
      } catch (error) {
        if (!failed) first = error;
        failed = true;
      }
    }
    if (failed) throw first;
  }
}
