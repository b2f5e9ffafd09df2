/**
 * Undo steps, run newest first. Node 20 knows `using` only through a transpiler and has no
 * `DisposableStack`; this is the part of it we need.
 *
 *     using undo = new Cleanup();
 *     const fd = undo.use(openIt());
 *     undo.defer(() => detach());
 *     return new Thing(fd, undo.move());       // success: the steps now belong to Thing
 */
export class Cleanup implements Disposable {
  #steps: (() => void)[] = [];

  /** Run `step` at dispose. */
  defer(step: () => void): void {
    this.#steps.push(step);
  }

  /** Dispose `resource` at dispose; returns it. */
  use<T extends Disposable>(resource: T): T {
    this.#steps.push(() => resource[Symbol.dispose]());
    return resource;
  }

  /** Hand all steps over to a new Cleanup; this one has nothing left to do. */
  move(): Cleanup {
    const to = new Cleanup();
    to.#steps = this.#steps;
    this.#steps = [];
    return to;
  }

  get pending(): number {
    return this.#steps.length;
  }

  /** Runs every step even when some throw; the first error is rethrown at the end. Idempotent. */
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
