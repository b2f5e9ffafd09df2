/** Promises of drivers whose clock a run moves. */
import type { ManualClock } from '../../src/base/clock.ts';

/** A driver's waits, with the time that they need. */
const PATIENCE_STEPS = 20_000;

/** One turn of the event loop. */
export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A driver's promise, while its clock goes on. */
export async function settled<T>(clock: ManualClock, promise: Promise<T>): Promise<T> {
  let over = false;
  const watched = promise.finally(() => (over = true));
  watched.catch(() => {});
  for (let step = 0; step < PATIENCE_STEPS && !over; step++) {
    await turn();
    clock.advance(1);
  }
  if (!over) throw new Error('a driver waits for ever');
  return await watched;
}
