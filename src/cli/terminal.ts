/** The output of a command: data on `out`, messages on `err`. */
import { randomUUID } from 'node:crypto';
import { closeSync, fstatSync, openSync } from 'node:fs';
import { Writable } from 'node:stream';
import { isatty } from 'node:tty';
import pc from 'picocolors';
import { Cleanup } from '../base/cleanup.ts';
import { printable, printableJson } from '../base/printable.ts';
import { LineOutput } from '../sys/line-output.ts';
import { Exit } from './exit-codes.ts';

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
  serve(): Disposable;
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
    serve: () => {
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
export function wantsColour(env: NodeJS.ProcessEnv, isTerminal: boolean): boolean {
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

/** Standard output and standard error of a server, for all code of the process. */
class Outputs implements Disposable {
  readonly #cleanup = new Cleanup();
  readonly out: LineOutput;
  readonly err: LineOutput;

  constructor() {
    const missing = (count: number) => `(${count} ${count === 1 ? 'line is' : 'lines are'} missing here)`;
    this.out = this.#cleanup.use(new LineOutput(1, { missing }));
    this.err = this.#cleanup.use(new LineOutput(2, { missing }));
    const streams = { stdout: streamTo(this.out), stderr: streamTo(this.err) };
    this.#replace(globalThis, 'console', new globalThis.console.Console(streams));
    this.#replace(process, 'stdout', streams.stdout);
    this.#replace(process, 'stderr', streams.stderr);
    // Node itself writes them to the descriptor.
    const before = process.listeners('warning');
    process.removeAllListeners('warning').on('warning', (warning) => this.err.write(`${printable(String(warning))}\n`));
    this.#cleanup.defer(() => {
      process.removeAllListeners('warning');
      for (const listener of before) process.on('warning', listener);
    });
  }

  [Symbol.dispose](): void {
    this.#cleanup[Symbol.dispose]();
  }

  #replace(owner: object, name: string, value: unknown): void {
    const before = Object.getOwnPropertyDescriptor(owner, name)!;
    Object.defineProperty(owner, name, { configurable: true, enumerable: true, writable: true, value });
    this.#cleanup.defer(() => void Object.defineProperty(owner, name, before));
  }
}

function streamTo(output: LineOutput): Writable {
  return new Writable({
    decodeStrings: false,
    write(text: string, _encoding, done) {
      output.write(text);
      done();
    },
  });
}

/** Node restores the settings of the terminals that it was started on, and crashes when one is gone (ssh that was cut off). They are /dev/null then. */
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

/** One JSON document, indented; `bigint` as a decimal string would lose its kind, so as `0x…` text. */
export function json(terminal: Terminal, schema: string, body: object): void {
  const plain = (_key: string, value: unknown) => (typeof value === 'bigint' ? `0x${value.toString(16)}` : value);
  say(printableJson(JSON.stringify({ schema, ...body }, plain, 2)), terminal.out);
}
