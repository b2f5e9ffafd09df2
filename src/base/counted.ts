/**
 * A counted reference, with the field's get and put. Each holder of a thing has one reference. When
 * the last holder drops it, the resources behind the thing are released. The creator's reference
 * ends with dispose.
 */
import { VfioError } from './errno.ts';

export abstract class Counted implements Disposable {
  #references = 1;
  #disposed = false;
  readonly #what: string;

  /** @param what  for messages: 'the eventfd' */
  protected constructor(what: string) {
    this.#what = what;
  }

  /**
   * Called once, when the last reference is gone. `put` returns its result, which is a promise
   * where a hypervisor's own code releases the resource.
   */
  protected released(): unknown {
    return undefined;
  }

  /** Number of holders, the creator included; 0 after the release. */
  get references(): number {
    return this.#references;
  }

  /** Take a reference. @throws VfioError EBADF after the release */
  get(): this {
    if (this.#references === 0) throw new VfioError('EBADF', `${this.#what} is closed`);
    this.#references++;
    return this;
  }

  /**
   * Drops one reference. The last `put` releases what the object holds, and returns the result of
   * that release.
   */
  put(): unknown {
    if (this.#references === 0) throw new Error(`put of ${this.#what}, which has no references`);
    return --this.#references === 0 ? this.released() : undefined;
  }

  /** Drops the creator's reference. Idempotent. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.put();
  }
}
