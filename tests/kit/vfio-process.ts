/**
 * The command in a process of its own, as a user starts it. It is bounded in time, and the test
 * ends it by its pid.
 */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { join } from 'node:path';

const VFIO = join(import.meta.dirname, '../../bin/vfio.js');
/** An operation that never takes a second takes this long on a machine with much other work. */
const PATIENCE_MS = 170_000;

export class VfioProcess implements AsyncDisposable {
  readonly child: ChildProcess;
  stdout = '';
  stderr = '';
  /** Resolves to the exit status, or the signal that it died of. */
  readonly ended: Promise<number | NodeJS.Signals>;
  #heard = () => {};

  constructor(args: readonly string[], options: { readonly env?: NodeJS.ProcessEnv; readonly extraFds?: readonly number[] } = {}) {
    const stdio: StdioOptions = ['pipe', 'pipe', 'pipe', ...(options.extraFds ?? [])];
    this.child = spawn(process.execPath, [VFIO, ...args], { stdio, env: { ...process.env, NO_COLOR: '1', ...options.env } });
    this.child.stdout!.on('data', (data: Buffer) => {
      this.stdout += data.toString('latin1');
      this.#heard();
    });
    this.child.stderr!.on('data', (data: Buffer) => {
      this.stderr += data.toString();
      this.#heard();
    });
    this.ended = new Promise((resolve, reject) => {
      this.child.on('error', reject);
      this.child.on('close', (status, signal) => {
        resolve(status ?? signal!);
        this.#heard();
      });
    });
  }

  /** `vfio serve DEVICE` at `path`, once its socket is there. */
  static async serve(device: string, path: string, ...more: string[]): Promise<VfioProcess> {
    const served = new VfioProcess(['serve', device, '--socket-path', path, ...more]);
    await served.says('listening at');
    return served;
  }

  /** Run it to its end. */
  static async run(...args: string[]): Promise<VfioProcess & { readonly status: number | NodeJS.Signals }> {
    const running = new VfioProcess(args);
    const timer = setTimeout(() => running.child.kill('SIGKILL'), PATIENCE_MS);
    const status = await running.ended;
    clearTimeout(timer);
    return Object.assign(running, { status });
  }

  /**
   * Wait until it has printed `text` on stderr.
   *
   * @throws Error with all its output when it ends, or takes too long, before
   */
  async says(text: string | RegExp): Promise<void> {
    const said = () => (typeof text === 'string' ? this.stderr.includes(text) : text.test(this.stderr));
    if (said()) return;
    await new Promise<void>((resolve, reject) => {
      const fail = () => reject(new Error(`'vfio' did not say ${String(text)}:\n${this.stderr}${this.stdout}`));
      const timer = setTimeout(fail, PATIENCE_MS);
      this.#heard = () => {
        const over = this.child.exitCode !== null || this.child.signalCode !== null;
        if (!said() && !over) return;
        clearTimeout(timer);
        this.#heard = () => {};
        if (said()) resolve();
        else fail();
      };
    });
  }

  /** @returns the exit status or signal */
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | NodeJS.Signals> {
    this.child.kill(signal);
    const timer = setTimeout(() => this.child.kill('SIGKILL'), PATIENCE_MS);
    const status = await this.ended;
    clearTimeout(timer);
    return status;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) await this.end('SIGKILL');
  }
}
