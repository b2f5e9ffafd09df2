/**
 * A limit of resets. A controller that needs the next reset after each one makes no progress, and
 * neither does a driver that keeps resetting it.
 */

/** Number of resets within the interval, besides those that the user asks for. */
const RESETS_MAX = 10;
const INTERVAL_MS = 60_000;

export class ResetLimit {
  /** When the last resets were, in ns. */
  readonly #times: number[] = [];

  /**
   * Count a reset at `nowNs`.
   * @returns the limit that it exceeds, in words; null when it exceeds none
   */
  count(nowNs: number): string | null {
    while (this.#times.length > 0 && nowNs - this.#times[0]! > INTERVAL_MS * 1e6) this.#times.shift();
    this.#times.push(nowNs);
    return this.#times.length > RESETS_MAX ? `it needed more than ${RESETS_MAX} resets within ${INTERVAL_MS / 1000} s` : null;
  }

  /** The user asks for a reset: counting begins anew. */
  forget(): null {
    this.#times.length = 0;
    return null;
  }
}
