/**
 * How much heap a run leaves behind, for code that must leave nothing: the least of a few looks,
 * since the compiler takes memory at any time, and code that is not compiled yet may take some that
 * is not the run's own. The compiler runs in threads that a busy machine may delay for long. One
 * look that finds less than `limit` is enough; many looks come before the test fails.
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
    // A negative growth proves nothing: the collector ran meanwhile.
    if (now >= 0) grown = Math.min(grown, now);
  }
  return grown;
}
