/** How a command that goes on until it is stopped is stopped: SIGTERM, and SIGHUP of a terminal that is gone, are the orderly end; SIGINT is Ctrl-C. */
import { Exit } from './exit-codes.ts';

export interface Stop extends Disposable {
  /** The exit status to end with. */
  readonly told: Promise<number>;
}

/** Signals that end a command, and its exit status then. */
export const endingSignals: readonly (readonly [NodeJS.Signals, number])[] = [
  ['SIGTERM', Exit.OK],
  ['SIGHUP', Exit.OK],
  ['SIGINT', Exit.INTERRUPTED],
];

/** From now on signals end the command instead of the process; until disposed. A second one ends the process, in case the end takes too long. */
export function untilStopped(): Stop {
  const listeners: (() => void)[] = [];
  const told = new Promise<number>((resolve) => {
    for (const [signal, status] of endingSignals) {
      const listener = () => resolve(status);
      process.once(signal, listener);
      listeners.push(() => void process.off(signal, listener));
    }
  });
  return {
    told,
    [Symbol.dispose]: () => {
      for (const off of listeners) off();
    },
  };
}
