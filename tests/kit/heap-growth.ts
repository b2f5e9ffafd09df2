/**
 * How much a run leaves on the heap, for what must leave nothing: the least of a few looks, since the compiler takes memory when it likes, and what is not
 * compiled yet may take some that is not the run's own. It compiles in threads that a busy machine may keep waiting for long: one look that finds less than
 * `limit` is enough, and there are many before it is said that there was none.
 */
const LOOKS = 40;
/** For the compiler, between looks that found too much. */
const PAUSE_MS = 20;

export function heapGrowth(run: () => void, limit: number): number {
  const pause = new Int32Array(new SharedArrayBuffer(4));
  run();
  let grown = Number.POSITIVE_INFINITY;
  for (let look = 0; look < LOOKS && grown >= limit; look++) {
    if (look > 0) Atomics.wait(pause, 0, 0, PAUSE_MS);
    const before = process.memoryUsage().heapUsed;
    run();
    const now = process.memoryUsage().heapUsed - before;
    // Less than nothing: garbage was collected meanwhile, which tells nothing.
    if (now >= 0) grown = Math.min(grown, now);
  }
  return grown;
}
