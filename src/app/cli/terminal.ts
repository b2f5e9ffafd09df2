/** Where a command speaks: data on `out`, talk on `err`. Colour only on a terminal that wants it (NO_COLOR). */
import pc from 'picocolors';
import { Exit } from './exit-codes.ts';

export interface Terminal {
  out(line: string): void;
  err(line: string): void;
  readonly paint: ReturnType<typeof pc.createColors>;
}

export function processTerminal(): Terminal {
  const colour = process.stdout.isTTY === true && (process.env.NO_COLOR ?? '') === '' && process.env.TERM !== 'dumb';
  // `vfio show … | head -1`: whoever reads has seen enough, and that is no failure.
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') process.exit();
      // A full disk, mostly. There is nobody to tell when it is standard error.
      if (stream === process.stdout) process.stderr.write(`vfio: ${error.code}: standard output cannot be written: ${error.message}\n`);
      process.exit(Exit.FAILURE);
    });
  }
  return {
    out: (line) => void process.stdout.write(`${line}\n`),
    err: (line) => void process.stderr.write(`${line}\n`),
    paint: pc.createColors(colour),
  };
}

/** Keeps what was said: for tests. */
export function recordingTerminal(): Terminal & { readonly stdout: string[]; readonly stderr: string[] } {
  const stdout: string[] = [];
  const stderr: string[] = [];
  return { stdout, stderr, out: (line) => void stdout.push(line), err: (line) => void stderr.push(line), paint: pc.createColors(false) };
}

/** One JSON document, indented; `bigint` as a decimal string would lose its kind, so as `0x…` text. */
export function json(terminal: Terminal, schema: string, body: object): void {
  const plain = (_key: string, value: unknown) => (typeof value === 'bigint' ? `0x${value.toString(16)}` : value);
  terminal.out(JSON.stringify({ schema, ...body }, plain, 2));
}
