/**
 * Detects work that can never end. When a promise that no code will settle is all that remains,
 * node has nothing left to do and ends without a message.
 */

/**
 * `work`, or the error that `error` makes when nothing in this process can settle `work` any more.
 *
 * @param rank among several waits those of the lowest rank fail first; the others learn of the
 *   failure from them
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
