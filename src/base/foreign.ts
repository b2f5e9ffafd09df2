/**
 * Code that is not ours: models, mediators, listeners, sinks, hypervisors, storage, timers'
 * callbacks. Such code may throw, reject or never return. `failed` gets the failure, with a name.
 * The failure reaches neither the caller nor the process, which an unhandled rejection would end.
 *
 * The type checker accepts an `async` function where one without a result is asked for, so this
 * module checks each result.
 */

import type { Clock } from './clock.ts';
import { VfioError } from './errno.ts';

/** Reports a failure of code that is not ours. Must not throw. */
export type Failed = (what: string, error: unknown) => void;

/**
 * The stack of an error, with its `fix` where it has one, or the value as text. Never throws, also
 * for objects without prototype and getters that throw.
 */
export function textOf(error: unknown): string {
  try {
    if (!(error instanceof Error)) return String(error);
    const text = String(error.stack ?? error.message);
    return error instanceof VfioError && error.fix !== undefined ? `${text}\n    ${error.fix}` : text;
  } catch {
    return `a value of type ${typeof error} that has no text`;
  }
}

/** Whether `value` has a `then`; false when looking at it throws. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  if ((typeof value !== 'object' || value === null) && typeof value !== 'function') return false;
  try {
    return typeof (value as { then?: unknown }).then === 'function';
  } catch {
    return false;
  }
}

/** Report what `result` rejects with, when it is a promise. @returns whether it is a promise */
export function settle(what: string, result: unknown, failed: Failed): boolean {
  if (!isThenable(result)) return false;
  // A promise of this package calls the foreign `then`, which may throw or call back twice.
  Promise.resolve(result).then(undefined, (error: unknown) => failed(what, error));
  return true;
}

/**
 * Call the function, and report an error that it throws or rejects with.
 *
 * @returns its result; undefined when it threw, or is async
 */
export function callForeign<T>(what: string, call: () => T, failed: Failed): T | undefined {
  try {
    const result = call();
    return result !== undefined && settle(what, result, failed) ? undefined : result;
  } catch (error) {
    failed(what, error);
    return undefined;
  }
}

/**
 * The resources that the model `name` owns, if any. Their dispose is code that is not ours, so this
 * dispose never throws, and does not wait for theirs.
 */
export function ownedBy(name: string, owns: Disposable | undefined, failed: Failed): Disposable {
  return { [Symbol.dispose]: () => void callForeign(`dispose of what ${name} owns`, () => owns?.[Symbol.dispose](), failed) };
}

/**
 * `clock` for code that is not ours: its callbacks run in the event loop, where a failure would end
 * the process.
 */
export function guardedClock(clock: Clock, failed: Failed): Clock {
  return {
    nowNs: () => clock.nowNs(),
    after: (delayMs, callback) => clock.after(delayMs, () => void callForeign('a timer', callback, failed)),
  };
}

/**
 * The failure of a listener or callback whose author runs this process, as the user of a driver
 * does: an uncaught error, like that of a timer's callback.
 */
export function surface(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}
