/**
 * The end of a command that goes on until a signal: SIGTERM, and SIGHUP of a terminal that is gone,
 * are the orderly end; SIGINT is Ctrl-C.
 */
import { readFileSync } from 'node:fs';
import { Exit } from './exit-codes.ts';

export interface Stop extends Disposable {
  /** The exit status to end with. */
  readonly status: Promise<number>;
  /** Aborted then. */
  readonly signal: AbortSignal;
}

/** Signals that end a command, and its exit status then. */
export const endingSignals: readonly (readonly [NodeJS.Signals, number])[] = [
  ['SIGTERM', Exit.OK],
  ['SIGHUP', Exit.OK],
  ['SIGINT', Exit.INTERRUPTED],
];

/**
 * From now on signals end the command instead of the process; until disposed. A second one ends the
 * process, in case the end takes too long.
 */
export function untilStopped(): Stop {
  const listeners: (() => void)[] = [];
  const abort = new AbortController();
  const stopped = new Promise<number>((settle) => {
    const resolve = (status: number) => {
      settle(status);
      abort.abort();
    };
    for (const [signal, status] of endingSignals) {
      const listener = () => resolve(status);
      process.once(signal, listener);
      listeners.push(() => void process.off(signal, listener));
    }
    listeners.push(onLauncherGone(() => resolve(Exit.OK)));
  });
  return {
    status: stopped,
    signal: abort.signal,
    [Symbol.dispose]: () => {
      for (const off of listeners) off();
    },
  };
}

/**
 * The result of `start`, which gets the signal; null when a signal stopped the command before.
 *
 * @throws the error of `start` (rejects)
 */
export async function unlessStopped<T>({ signal }: Stop, start: (signal: AbortSignal) => Promise<T>): Promise<T | null> {
  try {
    return await start(signal);
  } catch (error) {
    if (signal.aborted) return null;
    throw error;
  }
}

const LOOK_MS = 500;

/**
 * npm and npx start a shell that starts us, and no signal that ends either of them reaches us. So a
 * command that they started ends when one of them is gone;
 * any other command stays, as it does under nohup or setsid.
 */
function onLauncherGone(gone: () => void): () => void {
  if (process.env.npm_command === undefined) return () => {};
  const begun = launchers();
  const timer = setInterval(() => {
    if (launchers() !== begun) gone();
  }, LOOK_MS);
  timer.unref();
  return () => clearInterval(timer);
}

/** Our parent; and that one's, where our parent is only the shell between us and npm. */
function launchers(): string {
  const { ppid } = process;
  try {
    // Behind the name, which may have blanks and brackets: the state, and the parent.
    const [, name, parent] = /^\d+ \((.*)\) \S (\d+)/s.exec(readFileSync(`/proc/${ppid}/stat`, 'utf8'))!;
    return /^(ba|da|a|z|k)?sh$/.test(name!) ? `${ppid} ${parent}` : String(ppid);
  } catch {
    return String(ppid);
  }
}
