/** The log of a program that gives none. */
import type { Logger } from '../base/log.ts';
import { printableLines } from '../base/printable.ts';

/** Prints warnings and errors on stderr: only data goes to stdout. */
export const stderrLogger: Logger = {
  log: (level, message) => {
    if (level === 'warn' || level === 'error') console.error(printableLines(`${level}: ${message}`).join('\n'));
  },
};
