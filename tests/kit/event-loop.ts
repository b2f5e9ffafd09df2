/** Waiting for what the event loop brings. No bound but the test's own: a machine may be slow, and other processes and threads have their own time. */

export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Turns of the event loop until `done`. */
export async function until(done: () => boolean): Promise<void> {
  while (!done()) await turn();
}
