/**
 * Counted references, the field's get and put: whoever keeps a thing holds one, and the last to let
 * go releases what it is made of. The creator's goes with dispose.
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
   * Called once, when the last reference is gone. Its result goes to the caller of `put`: that of a
   * hypervisor's own code may be a promise.
   */
  protected released(): unknown {
    return undefined;
  }

  /** Holders, the creator included; 0 = gone. */
  get references(): number {
    return this.#references;
  }

  /** @throws VfioError EBADF when it is gone */
  get(): this {
    if (this.#references === 0) throw new VfioError('EBADF', `${this.#what} is closed`);
    this.#references++;
    return this;
  }

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
