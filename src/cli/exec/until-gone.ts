/** The end of a program, and signals until then. */
import { constants } from 'node:os';
import type { StartedProgram } from '../../exec/launcher.ts';
import type { Terminal } from '../terminal.ts';

/** So long after the end of the program, a line says what is waited for: milliseconds. */
const WAIT_SAID_MS = 1000;

/**
 * The exit status, once the program and all programs that it has started are gone. Ctrl-C reaches
 * them by the terminal; other signals to this process alone are handed on. When the program itself
 * has ended, any of these signals ends the wait for the others.
 */
export async function untilGone({ program, exited, status }: StartedProgram, name: string, terminal: Terminal): Promise<number> {
  let stop: (() => void) | null = null;
  const handlers = (['SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGHUP'] as const).map((signal) => {
    const handler = () => {
      if (stop !== null) stop();
      else if (signal === 'SIGTERM' || signal === 'SIGHUP') program.kill(constants.signals[signal]);
    };
    process.on(signal, handler);
    return () => void process.off(signal, handler);
  });
  let said: NodeJS.Timeout | null = null;
  try {
    const first = await exited;
    const stopped = new Promise<void>((settle) => {
      stop = settle;
    });
    said = setTimeout(() => {
      terminal.err(
        `${name} has ended. Programs that it started go on, and have the devices until they end; Ctrl-C takes the devices away.`,
      );
    }, WAIT_SAID_MS);
    await Promise.race([status, stopped]);
    return first;
  } finally {
    if (said !== null) clearTimeout(said);
    for (const off of handlers) off();
  }
}
