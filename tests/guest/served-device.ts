/**
 * `vfio serve` in a process of its own, as a user would start it: a device, or a machine, which has
 * a socket for each function.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openDescriptorsAndFiles } from '../kit/open-descriptors.ts';

const VFIO = join(import.meta.dirname, '../../bin/vfio.js');

/** A server that hangs is ended after so long; a machine may have much other work. */
const PATIENCE_MS = 600_000;

const servers = new Map<ChildProcess, string>();

/** Ends every server that is still running, and removes its folder. */
export function endServers(): void {
  for (const [child, folder] of servers) {
    child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  }
}

export class ServedDevice {
  readonly socketPath: string;
  readonly #child: ChildProcess;
  readonly #folder: string;
  readonly #ended: Promise<string>;
  #said = '';

  private constructor(child: ChildProcess, folder: string, socketPath: string) {
    this.#child = child;
    this.#folder = folder;
    this.socketPath = socketPath;
    for (const stream of [child.stdout!, child.stderr!]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.#said = (this.#said + text).slice(-100_000);
      });
    }
    this.#ended = new Promise((resolve) => {
      child.on('error', (error) => resolve(error.message));
      child.on('close', (code, signal) => resolve(code === null ? `${signal}` : `status ${code}`));
    }).finally(() => servers.delete(child)) as Promise<string>;
  }

  /**
   * Starts `vfio serve WORDS` and waits until it listens.
   *
   * @param network whether the process has a network of its own, in which it may do anything
   * @throws Error with its output when it ended or took longer than `timeoutMs`
   */
  static async start(words: readonly string[], network = false, timeoutMs = PATIENCE_MS): Promise<ServedDevice> {
    const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-served-'));
    const socketPath = join(folder, 'device.sock');
    const command = [...(network ? ['unshare', '--net'] : []), process.execPath, VFIO, 'serve', ...words, '--socket-path', socketPath];
    const child = spawn(command[0]!, command.slice(1), { stdio: ['ignore', 'pipe', 'pipe'] });
    servers.set(child, folder);
    const served = new ServedDevice(child, folder, socketPath);
    const deadline = performance.now() + timeoutMs;
    while (!served.said.includes('listening at')) {
      const end = await Promise.race([served.#ended, sleep(20, null)]);
      if (end !== null || performance.now() > deadline) {
        await served.stop();
        throw new Error(`vfio serve ${words.join(' ')} gave no socket (${end ?? 'too late'}):\n${served.said}`);
      }
    }
    return served;
  }

  /** Its output, both streams. */
  get said(): string {
    return this.#said;
  }

  /** `unshare` becomes the server. */
  get pid(): number {
    return this.#child.pid!;
  }

  /** Open descriptors of the process, without those of its loader. */
  descriptors(): number {
    return openDescriptorsAndFiles(this.#child.pid);
  }

  /**
   * Waits until the process has no more than `count` descriptors open, or `timeoutMs`.
   *
   * @returns how many it has
   */
  async settledDescriptors(count: number, timeoutMs = 120_000): Promise<number> {
    const deadline = performance.now() + timeoutMs;
    while (this.descriptors() > count && performance.now() < deadline) await sleep(20);
    return this.descriptors();
  }

  /**
   * The words that attach it to QEMU: `{ addr: '9' }` is a slot of the root bus.
   *
   * @param bdf of a machine: the function
   */
  qemuDevice(place: { readonly addr?: string; readonly bus?: string }, bdf?: string): string[] {
    const path = bdf === undefined ? this.socketPath : join(this.socketPath, `${bdf}.sock`);
    return ['-device', JSON.stringify({ driver: 'vfio-user-pci', socket: { type: 'unix', path }, ...place })];
  }

  /**
   * SIGTERM, and SIGKILL when that does not end it.
   *
   * @returns its status or signal, and whether its socket is gone
   */
  async stop(timeoutMs = PATIENCE_MS): Promise<{ readonly end: string; readonly leftSocket: boolean }> {
    this.#child.kill('SIGTERM');
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), timeoutMs);
    const end = await this.#ended;
    clearTimeout(timer);
    const leftSocket = existsSync(this.socketPath);
    rmSync(this.#folder, { recursive: true, force: true });
    return { end, leftSocket };
  }
}
