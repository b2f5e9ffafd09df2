/** How a command that goes on until it is told to stop is told: SIGTERM is the orderly end, SIGINT is somebody's Ctrl-C. */
import { Exit } from './exit-codes.ts';

export interface Stop extends Disposable {
  /** The exit status to end with. */
  readonly told: Promise<number>;
}

/** From now on signals end the command instead of the process; until disposed. A second one ends the process, in case the end takes too long. */
export function untilStopped(): Stop {
  const signals: [NodeJS.Signals, number][] = [
    ['SIGTERM', Exit.OK],
    ['SIGINT', Exit.INTERRUPTED],
  ];
  const listeners: (() => void)[] = [];
  const told = new Promise<number>((resolve) => {
    for (const [signal, status] of signals) {
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
