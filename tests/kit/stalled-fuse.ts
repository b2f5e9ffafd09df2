/** A file of a file system that does not answer: `stalled-fuse.c`, compiled and mounted. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, closeSync, constants, mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { OwnedFd } from '../../src/sys/owned-fd.ts';
import { until } from './event-loop.ts';

/** enum fuse_opcode */
export const Fuse = { GETATTR: 3, READ: 15, WRITE: 16, STATFS: 17, FLUSH: 25 } as const;

/** Why this computer can have none; null when it can. */
export function whyNoFuse(): string | null {
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
  } catch {
    return '/dev/fuse cannot be opened';
  }
  return process.geteuid!() === 0 ? null : 'only root may mount';
}

export class StalledFile implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  readonly #opened: number[] = [];
  readonly #path: string;
  #said = '';

  private constructor(child: ChildProcess, path: string) {
    this.#child = child;
    this.#path = path;
    this.#ended = once(child, 'exit');
    child.stdout!.setEncoding('utf8').on('data', (text: string) => {
      this.#said += text;
    });
  }

  /**
   * @param directory is made by this function
   * @param opcodes requests that get no answer
   * @throws Error when it cannot be mounted
   */
  static async mount(directory: string, opcodes: readonly number[]): Promise<StalledFile> {
    const program = join(directory, 'stalled-fuse');
    const mnt = join(directory, 'mnt');
    mkdirSync(mnt, { recursive: true });
    const source = fileURLToPath(new URL('stalled-fuse.c', import.meta.url));
    const compiled = spawnSync(process.env.CC || 'cc', ['-O1', '-Wall', '-Wextra', '-Werror', '-o', program, source], { encoding: 'utf8' });
    if (compiled.status !== 0) throw new Error(`stalled-fuse.c does not compile: ${compiled.error?.message ?? compiled.stderr}`);
    const child = spawn(program, [mnt, ...opcodes.map(String)], { stdio: ['pipe', 'pipe', 'inherit'] });
    const file = new StalledFile(child, join(mnt, 'file'));
    await until(() => file.#said.startsWith('ready') || child.exitCode !== null);
    if (child.exitCode !== null) throw new Error('the file system cannot be mounted');
    return file;
  }

  /** A descriptor, open for as long as this object: closing it earlier would stall, too. */
  open(): OwnedFd {
    const number = openSync(this.#path, 'r+');
    this.#opened.push(number);
    return { number } as OwnedFd;
  }

  /** Requests that came and have no answer. */
  get stalled(): number {
    return this.#said.split('\n').length - 2;
  }

  /** A process that waits for an answer gets an error, and goes on. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin!.end();
    await this.#ended;
    for (const number of this.#opened.splice(0)) {
      try {
        closeSync(number);
      } catch {
        // The descriptor is closed all the same.
      }
    }
  }
}
