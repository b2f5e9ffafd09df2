/**
 * A vfio-user server in a process of its own, with a model in a machine behind it: for clients,
 * which block their own thread while they wait for it. The process ends after `seconds`, even when
 * its parent is gone.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { typescript } from './typescript.ts';

export interface ServerProcessOptions {
  /**
   * A model of the package, or the path of a module whose default export makes one. Default: `edu`.
   */
  readonly model?: string;
  readonly seconds?: number;
}

/**
 * A question to the child and its answer: the number of the question, and the child's descriptors
 * when the question asks for them.
 */
export interface Question {
  readonly number: number;
  readonly ask: 'fresh' | 'descriptors' | 'stop';
}
export interface Answer {
  readonly number: number;
  readonly descriptors: number;
  readonly sessions: number;
}

export class ServerProcess implements AsyncDisposable {
  readonly path: string;
  readonly #child: ChildProcess;
  readonly #directory: string;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  readonly #ended: Promise<void>;
  #questions = 0;

  private constructor(child: ChildProcess, directory: string) {
    this.#child = child;
    this.#directory = directory;
    this.path = join(directory, 'device.sock');
    this.#ended = new Promise((resolve) => child.once('exit', () => resolve()));
    child.on('message', (answer: Answer) => {
      this.#waiting.get(answer.number)?.(answer);
      this.#waiting.delete(answer.number);
    });
  }

  /** Resolves when the child listens. */
  static async start(options: ServerProcessOptions = {}): Promise<ServerProcess> {
    const directory = mkdtempSync(join(tmpdir(), 'vfio-ts-server-'));
    const file = fileURLToPath(new URL('./server-process-child.ts', import.meta.url));
    const args = [join(directory, 'device.sock'), options.model ?? 'edu', String(options.seconds ?? 7200)];
    const child = spawn(process.execPath, [...typescript, file, ...args], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    const server = new ServerProcess(child, directory);
    await new Promise<void>((resolve, reject) => {
      server.#waiting.set(0, () => resolve());
      child.once('error', reject);
      child.once('exit', (code, signal) => reject(new Error(`the server ended with ${code ?? signal}`)));
    });
    return server;
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /**
   * Another machine, with its device as after power-on. The server disconnects the client of the
   * old one.
   */
  async fresh(): Promise<void> {
    await this.#ask('fresh');
  }

  /** Open descriptors of the process, and its clients. */
  async look(): Promise<{ readonly descriptors: number; readonly sessions: number }> {
    return this.#ask('descriptors');
  }

  /** Stop the process at any point: it answers nothing from now on. */
  freeze(): void {
    this.#child.kill('SIGSTOP');
  }

  /** End it at once. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#ended;
  }

  #ask(ask: Question['ask']): Promise<Answer> {
    const number = ++this.#questions;
    return new Promise((resolve, reject) => {
      this.#waiting.set(number, resolve);
      this.#child.send({ number, ask } satisfies Question, (error) => error && reject(error));
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
