/**
 * The driver that `vfio run` runs in this process. Its devices stop waiting when the driver has to
 * end.
 */

let signal: AbortSignal | null = null;

/** The signal of the driver that runs; null when none does. */
export function runSignal(): AbortSignal | null {
  return signal;
}

export async function duringRun<T>(of: AbortSignal, work: () => Promise<T>): Promise<T> {
  const before = signal;
  signal = of;
  try {
    return await work();
  } finally {
    signal = before;
  }
}
