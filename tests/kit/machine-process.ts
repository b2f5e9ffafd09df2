/**
 * A machine of a file behind sockets, in a process of its own: for clients, which block their own
 * thread while they wait for it. The process ends after `seconds`, even when its parent is gone.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { typescript } from './typescript.ts';

export type Order = { readonly number: number } & Ask;
type Ask =
  | { readonly ask: 'fresh' | 'look' | 'suspend' | 'suspend-again' | 'resume' | 'resume-later' }
  | { readonly ask: 'numvfs'; readonly bdf: string; readonly count: number }
  /** From vfio-pci, and back to it. */
  | { readonly ask: 'rebind'; readonly bdf: string };

export interface Report {
  readonly number: number;
  readonly functions: readonly string[];
  readonly served: readonly string[];
  /** All that was logged, servers' lines included. */
  readonly lines: readonly string[];
}

export class MachineProcess implements AsyncDisposable {
  readonly directory: string;
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (report: Report) => void>();
  readonly #ended: Promise<void>;
  #orders = 0;

  private constructor(child: ChildProcess, directory: string) {
    this.#child = child;
    this.directory = directory;
    this.#ended = new Promise((resolve) => child.once('exit', () => resolve()));
    child.on('message', (report: Report) => {
      this.#waiting.get(report.number)?.(report);
      this.#waiting.delete(report.number);
    });
  }

  /** @param yaml the machine */
  static async start(yaml: string, seconds = 7200): Promise<MachineProcess> {
    const directory = mkdtempSync(join(tmpdir(), 'vfio-ts-machine-'));
    const file = join(directory, 'machine.yaml');
    writeFileSync(file, yaml);
    const script = fileURLToPath(new URL('./machine-process-child.ts', import.meta.url));
    const child = spawn(process.execPath, [...typescript, script, directory, file, String(seconds)], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    const machine = new MachineProcess(child, directory);
    await new Promise<void>((resolve, reject) => {
      machine.#waiting.set(0, () => resolve());
      child.once('error', reject);
      child.once('exit', (code, signal) => reject(new Error(`the machine ended with ${code ?? signal}`)));
    });
    return machine;
  }

  pathOf(bdf: string): string {
    return join(this.directory, `${bdf}.sock`);
  }

  ask(what: Ask): Promise<Report> {
    const number = ++this.#orders;
    return new Promise((resolve, reject) => {
      this.#waiting.set(number, resolve);
      this.#child.send({ number, ...what } satisfies Order, (error) => error && reject(error));
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#ended;
    rmSync(this.directory, { recursive: true, force: true });
  }
}
