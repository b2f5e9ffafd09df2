/**
 * Waiting for effects of the event loop. The test's own limit is the only bound: a machine may be
 * slow, and other processes and threads run at their own speed.
 */

export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Turns of the event loop until `done`. */
export async function until(done: () => boolean): Promise<void> {
  while (!done()) await turn();
}
