/** A terminal that keeps the lines of a command. */
import pc from 'picocolors';
import { printable } from '../../src/base/printable.ts';
import type { Terminal } from '../../src/cli/terminal.ts';

export function recordingTerminal(): Terminal & { readonly stdout: string[]; readonly stderr: string[] } {
  const stdout: string[] = [];
  const stderr: string[] = [];
  return {
    stdout,
    stderr,
    out: (line) => void stdout.push(printable(line)),
    err: (line) => void stderr.push(printable(line)),
    paint: pc.createColors(false),
    serve: async () => ({ [Symbol.dispose]: () => {} }),
  };
}
