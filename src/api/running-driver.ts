/**
 * The driver that `vfio run` runs in this process. Its devices stop waiting when the driver has to
 * end.
 */

/**
 * A driver may import a copy of the package of its own, which reads the signal here: a variable of
 * this module would not reach that copy.
 */
const RUNNING = Symbol.for('vfio-ts.running-driver');
const running = globalThis as { [RUNNING]?: AbortSignal | null };

/** The signal of the driver that runs; null when none does. */
export function runSignal(): AbortSignal | null {
  return running[RUNNING] ?? null;
}

/** Run `work` as the driver that the abort of `of` ends. */
export async function duringRun<T>(of: AbortSignal, work: () => Promise<T>): Promise<T> {
  const before = runSignal();
  running[RUNNING] = of;
  try {
    return await work();
  } finally {
    running[RUNNING] = before;
  }
}
