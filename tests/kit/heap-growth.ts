/** How much a run leaves on the heap, for what must leave nothing: the least of a few looks, since the compiler takes memory when it likes. */
export function heapGrowth(run: () => void, looks = 6): number {
  run();
  let grown = Number.POSITIVE_INFINITY;
  for (let look = 0; look < looks; look++) {
    const before = process.memoryUsage().heapUsed;
    run();
    const now = process.memoryUsage().heapUsed - before;
    // Less than nothing: garbage was collected meanwhile, which tells nothing.
    if (now >= 0) grown = Math.min(grown, now);
  }
  return grown;
}
