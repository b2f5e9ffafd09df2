/**
 * Commands that end by themselves, or earlier at a signal: they release what they hold in order.
 */
import { Exit } from './exit-codes.ts';
import { endingSignals } from './until-stopped.ts';

/**
 * Run `run`, whose signal is aborted by Ctrl-C, SIGTERM and SIGHUP. A second one ends the process,
 * in case the orderly end takes too long.
 *
 * @returns the exit status: 130 after a signal, else the status that `run` gave
 * @throws the error of `run`, unless a signal came, which then is its cause
 */
export async function interruptible(run: (signal: AbortSignal) => Promise<number>): Promise<number> {
  const stop = new AbortController();
  const listener = () => {
    off();
    stop.abort();
  };
  const off = () => {
    for (const [signal] of endingSignals) process.off(signal, listener);
  };
  for (const [signal] of endingSignals) process.once(signal, listener);
  try {
    const status = await run(stop.signal);
    return stop.signal.aborted ? Exit.INTERRUPTED : status;
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    return Exit.INTERRUPTED;
  } finally {
    off();
  }
}
