/**
 * Served devices in a process of their own, and the resources of that process. It ends after
 * `seconds`, even when its parent is gone.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { typescript } from '../kit/typescript.ts';

export interface Figures {
  /** Clients that are connected; of threads, their descriptors. */
  readonly open: number;
  /** Clients so far. */
  readonly clients: number;
  /** Messages of those clients, as the server counted them. */
  readonly messages: number;
  readonly descriptors: number;
  /** Lines of /proc/self/maps; of those, files in memory: memory that clients share. */
  readonly mappings: number;
  readonly sharedMappings: number;
  /** Bytes, after garbage collection. */
  readonly rss: number;
  readonly heap: number;
  /** Lines that the server logged as errors: its own faults. */
  readonly errorCount: number;
  readonly errors: readonly string[];
}

/**
 * A server notices the end of a client within a moment; two minutes and more are for a machine with
 * other work.
 */
const IDLE_TRIES = 6000;

export class WireServer implements AsyncDisposable {
  readonly directory: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  #how: string | null = null;

  private constructor(directory: string, child: ChildProcess) {
    this.directory = directory;
    this.#child = child;
    this.#ended = once(child, 'exit').then(([code, signal]) => {
      this.#how = `the server ended with ${signal ?? code}`;
    });
  }

  static async start(
    seconds: number,
    { watched = false, threads = false }: { watched?: boolean; threads?: boolean } = {},
  ): Promise<WireServer> {
    const directory = mkdtempSync(join(tmpdir(), 'vfio-ts-soak-'));
    const file = fileURLToPath(new URL('./wire-server-child.ts', import.meta.url));
    const args = [
      '--expose-gc',
      ...typescript,
      file,
      directory,
      String(Math.ceil(seconds)),
      ...(watched ? ['watched'] : []),
      ...(threads ? ['threads'] : []),
    ];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    const server = new WireServer(directory, child);
    await server.#answer();
    return server;
  }

  /** Paths to connect to: the educational device, and one with every kind of region. */
  get paths(): readonly string[] {
    return [join(this.directory, 'edu.sock'), join(this.directory, 'card.sock')];
  }

  /**
   * Its resources when no client is connected.
   *
   * @throws Error when it crashed, or a client stays connected
   */
  async figures(): Promise<Figures> {
    for (let i = 0; i < IDLE_TRIES; i++) {
      if (this.#how !== null) throw new Error(this.#how);
      const answer = this.#answer();
      this.#child.send({});
      const figures = await answer;
      if (figures.open === 0) return figures;
      await sleep(20);
    }
    throw new Error('a client that is gone is still connected, as the server sees it');
  }

  async #answer(): Promise<Figures> {
    const answered = once(this.#child, 'message');
    const first = await Promise.race([answered, this.#ended]);
    if (first === undefined) throw new Error(this.#how!);
    return (first as [Figures])[0];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#ended;
    rmSync(this.directory, { recursive: true, force: true });
  }
}
