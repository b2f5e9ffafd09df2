/** Handlers that run one at a time. */
import { isThenable } from '../../base/foreign.ts';
import { forLater } from './async-causes.ts';
import type { Handler } from './handlers.ts';

interface Turn {
  /** Called once more when the one that runs is done. */
  again: (() => unknown) | null;
}

/**
 * The handler, one at a time on each device. Calls that come while it runs are one more call
 * afterwards, with the arguments of the last. A reset ends a run together with its device's life.
 */
export function serial(handler: Handler): Handler {
  // A device has another `dev` after each reset.
  const running = new WeakMap<object, Turn>();
  return (dev, written, before) => {
    const turn = running.get(dev);
    if (turn !== undefined) {
      turn.again = forLater(() => handler(dev, written, before));
      return undefined;
    }
    const result = handler(dev, written, before);
    if (!isThenable(result)) return result;
    const own: Turn = { again: null };
    running.set(dev, own);
    return drain(own, result, () => void running.delete(dev));
  };
}

/** @param ended called with the last look at `turn`: a call that comes afterwards is a new run */
async function drain(turn: Turn, first: PromiseLike<unknown>, ended: () => void): Promise<void> {
  let failure: { readonly error: unknown } | null = null;
  for (let result: unknown = first; ; ) {
    try {
      await result;
    } catch (error) {
      failure ??= { error };
    }
    const { again } = turn;
    if (again === null) break;
    turn.again = null;
    try {
      result = again();
    } catch (error) {
      failure ??= { error };
      result = undefined;
    }
  }
  ended();
  if (failure !== null) throw failure.error;
}
