/**
 * Commands that end by themselves, or earlier at a signal: they release what they hold in order.
 */
import { Exit } from './exit-codes.ts';
import { endingSignals } from './until-stopped.ts';

/** Ends a command early, as its signal does: the computer asks for a device back. */
export type GiveBack = (device: string) => void;

/**
 * Run `run`, whose signal is aborted by Ctrl-C, SIGTERM and SIGHUP. A second one ends the process,
 * in case the orderly end takes too long.
 *
 * @param run its second argument aborts the signal, too, when the device is to be unplugged
 * @param say prints a line. Default: nothing is printed
 * @returns the exit status: 130 after a signal, 5 after `giveBack`, else the status that `run` gave
 * @throws the error of `run`, unless a signal came, which then is its cause
 */
export async function interruptible(
  run: (signal: AbortSignal, giveBack: GiveBack) => Promise<number>,
  say: (line: string) => void = () => {},
): Promise<number> {
  const stop = new AbortController();
  let after: number = Exit.INTERRUPTED;
  const listener = () => {
    off();
    stop.abort();
  };
  const giveBack = (device: string) => {
    if (stop.signal.aborted) return;
    say(`${device} is to be removed: its machine asks for it, and the command ends`);
    after = Exit.GONE;
    stop.abort();
  };
  const off = () => {
    for (const [signal] of endingSignals) process.off(signal, listener);
  };
  for (const [signal] of endingSignals) process.once(signal, listener);
  try {
    const status = await run(stop.signal, giveBack);
    return stop.signal.aborted ? after : status;
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    return after;
  } finally {
    off();
  }
}
