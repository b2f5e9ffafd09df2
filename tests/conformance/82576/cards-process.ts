/** Two cards that are served by vfio-user in a process of their own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { typescript } from '../../kit/typescript.ts';

export interface Question {
  readonly number: number;
  readonly ask: 'fresh' | 'vfs';
  /** Virtual functions of card 0. */
  readonly count?: number;
}
export interface Answer {
  readonly number: number;
}

export class CardsProcess implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #folder: string;
  readonly #waiting = new Map<number, () => void>();
  readonly #ended: Promise<void>;
  #questions = 0;

  private constructor(child: ChildProcess, folder: string) {
    this.#child = child;
    this.#folder = folder;
    this.#ended = new Promise((resolve) => child.once('exit', () => resolve()));
    child.on('message', ({ number }: Answer) => {
      this.#waiting.get(number)?.();
      this.#waiting.delete(number);
    });
  }

  /** Resolves when the child listens. The process ends after two hours by itself. */
  static async start(): Promise<CardsProcess> {
    const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-cards-'));
    const file = fileURLToPath(new URL('./cards-process-child.ts', import.meta.url));
    const child = spawn(process.execPath, [...typescript, file, folder, '7200'], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    const cards = new CardsProcess(child, folder);
    await new Promise<void>((resolve, reject) => {
      cards.#waiting.set(0, resolve);
      child.once('error', reject);
      child.once('exit', (code, signal) => reject(new Error(`the server ended with ${code ?? signal}`)));
    });
    return cards;
  }

  /** @param name `card0`, `card1`, `vf0` to `vf6` */
  path(name: string): string {
    return join(this.#folder, `${name}.sock`);
  }

  /** Other cards, as after power-on. */
  fresh(): Promise<void> {
    return this.#ask({ ask: 'fresh' });
  }

  enableVfs(count: number): Promise<void> {
    return this.#ask({ ask: 'vfs', count });
  }

  /** End it at once. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#ended;
  }

  #ask(question: Omit<Question, 'number'>): Promise<void> {
    const number = ++this.#questions;
    return new Promise((resolve, reject) => {
      this.#waiting.set(number, resolve);
      this.#child.send({ number, ...question } satisfies Question, (error) => error && reject(error));
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
