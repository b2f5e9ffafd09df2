/** Standard output and standard error of a command that other processes depend on. */
import { Writable } from 'node:stream';
import { Cleanup } from '../base/cleanup.ts';
import { printable } from '../base/printable.ts';
import { LineOutput } from '../sys/line-output.ts';

/** Standard output and standard error of a server, for all code of the process. */
export class Outputs implements Disposable {
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
