/** The output of a command: data on `out`, messages on `err`. */
import { randomUUID } from 'node:crypto';
import { closeSync, fstatSync, openSync } from 'node:fs';
import { isatty } from 'node:tty';
import pc from 'picocolors';
import { printable, printableJson } from '../base/printable.ts';
import { Exit } from './exit-codes.ts';
import type { Outputs } from './served-output.ts';

export type Paint = ReturnType<typeof pc.createColors>;

/**
 * Both take one line. Characters that a terminal would act on become escapes, but for the colours
 * of `paint`.
 */
export interface Terminal {
  out(line: string): void;
  err(line: string): void;
  readonly paint: Paint;
  /**
   * For a command that other processes depend on. Until disposed, lines that cannot be written are
   * dropped and counted. A reader that is gone, or does not read, neither ends the command nor
   * keeps it waiting. The same holds for output of models and drivers by `console` and
   * `process.stdout`, and for Node's own warnings.
   */
  serve(): Promise<Disposable>;
}

/** Stands for the escape character in painted text: a name that is not ours cannot contain it. */
const ESCAPE = `<${randomUUID()}>`;

export function processTerminal(): Terminal {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      // Standard error itself leaves no place to report this.
      if (stream === process.stderr || serving !== null) return;
      // `vfio show … | head -1`: its reader has seen enough, and that is no failure.
      if (error.code === 'EPIPE') process.exit();
      process.stderr.write(`vfio: ${error.code}: standard output cannot be written: ${error.message}\n`);
      process.exit(Exit.FAILURE);
    });
  }
  process.once('exit', leaveDeadTerminal);
  let serving: Outputs | null = null;
  const shown = (line: string) => `${printable(line).replaceAll(ESCAPE, '\u001b')}\n`;
  return {
    out: (line) => void (serving?.out ?? process.stdout).write(shown(line)),
    err: (line) => void (serving?.err ?? process.stderr).write(shown(line)),
    paint: paintFor(wantsColour(process.env, isatty(1))),
    serve: async () => {
      const { Outputs } = await import('./served-output.ts');
      const outputs = new Outputs();
      serving = outputs;
      return {
        [Symbol.dispose]: () => {
          if (serving === outputs) serving = null;
          outputs[Symbol.dispose]();
        },
      };
    },
  };
}

/** As Node itself: FORCE_COLOR before NO_COLOR before what the terminal is. */
export function wantsColour(env: Readonly<Record<string, string | undefined>>, isTerminal: boolean): boolean {
  const { FORCE_COLOR: forced = '', NO_COLOR: none = '', TERM: kind } = env;
  if (forced !== '') return forced !== '0' && forced !== 'false';
  return isTerminal && none === '' && kind !== 'dumb';
}

function paintFor(colour: boolean): Paint {
  if (!colour) return pc.createColors(false);
  const painters = Object.entries(pc.createColors(true)).map(([name, painter]) => [
    name,
    typeof painter === 'function' ? (text: string) => painter(printable(String(text))).replaceAll('\u001b', ESCAPE) : painter,
  ]);
  return Object.fromEntries(painters) as Paint;
}

/**
 * Node restores the settings of the terminals that it was started on, and crashes when one is gone
 * (ssh that was cut off). They are /dev/null then.
 */
function leaveDeadTerminal(): void {
  for (const fd of [0, 1, 2]) {
    try {
      if (isatty(fd) || !fstatSync(fd).isCharacterDevice()) continue;
      closeSync(fd);
      openSync('/dev/null', 'r+');
    } catch {
      // It is closed: Node leaves it alone.
    }
  }
}

/** A text of several lines, such as a help page. */
export function say(lines: string, speak: (line: string) => void): void {
  for (const line of lines.split('\n')) speak(line);
}

/**
 * One JSON document, indented; `bigint` as a decimal string would lose its kind, so as `0x…` text.
 */
export function json(terminal: Terminal, schema: string, body: object): void {
  const plain = (_key: string, value: unknown) => (typeof value === 'bigint' ? `0x${value.toString(16)}` : value);
  say(printableJson(JSON.stringify({ schema, ...body }, plain, 2)), terminal.out);
}
