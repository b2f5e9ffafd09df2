/**
 * Fault injection: every step of the engine that can fail in a kernel asks here first, so that a
 * test or a user can make exactly that step fail. Costs one map look-up on control paths, nothing
 * on data paths.
 */
import { type ErrnoName, VfioError } from '../base/errno.ts';

/** Hears of faults that are injected. */
export type FaultListener = (step: string, errno: ErrnoName) => void;

/** Faults that a test asks the engine for. */
export class FaultPlan {
  readonly #armed = new Map<string, { errno: ErrnoName; skip: number }>();
  readonly #seen = new Map<string, number>();
  readonly #listeners = new Set<FaultListener>();

  /** Make `step` fail with `errno` once, after letting it succeed `skip` times. */
  failNext(step: string, errno: ErrnoName = 'EIO', skip = 0): void {
    this.#armed.set(step, { errno, skip });
  }

  /** Called by the engine at each step; throws when the plan says so. */
  step(step: string): void {
    this.#seen.set(step, (this.#seen.get(step) ?? 0) + 1);
    const fault = this.#armed.get(step);
    if (fault === undefined) return;
    if (fault.skip-- > 0) return;
    this.#armed.delete(step);
    for (const listener of this.#listeners) listener(step, fault.errno);
    throw new VfioError(fault.errno, `injected fault at step '${step}'`);
  }

  /**
   * Calls `listener` at each fault before it is thrown, until the result is disposed: machines emit
   * their events here. `listener` must not throw.
   */
  on(listener: FaultListener): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** Steps passed so far, with counts: the names that a plan may use. */
  get seen(): ReadonlyMap<string, number> {
    return this.#seen;
  }

  /** Forgets every fault that is still to come. `seen` stays. */
  clear(): void {
    this.#armed.clear();
  }
}
