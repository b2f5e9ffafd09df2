/**
 * Work that can never be done: a promise that nothing will settle leaves node with nothing to do,
 * and node then ends without a word.
 */

/**
 * `work`, or the error that `error` makes, once nothing is left in this process that could settle
 * `work`.
 *
 * @param rank of several waits, those of the lowest rank fail first; the others learn of the
 * failure from them
 */
export function orNever<T>(work: Promise<T>, error: () => Error, rank: 0 | 1 = 0): Promise<T> {
  return new Promise((resolve, reject) => {
    let turns = rank;
    // Each check at a turn of the event loop keeps node running for one more turn; then node asks
    // again.
    const ends = () => {
      if (turns-- > 0) setImmediate(() => {});
      else reject(error());
    };
    process.on('beforeExit', ends);
    work.then(resolve, reject).finally(() => process.off('beforeExit', ends));
  });
}
