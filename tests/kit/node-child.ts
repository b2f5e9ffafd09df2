/** Another Node process with a TypeScript file, and its output line by line. */
import { type ChildProcess, spawn } from 'node:child_process';
import { typescript } from './typescript.ts';

export class NodeChild {
  readonly process: ChildProcess;
  readonly lines: string[] = [];
  /** Its exit code, or the signal that ended it. */
  readonly ended: Promise<number | string>;
  #wake = (): void => {};

  /**
   * @param fileSizeKiB RLIMIT_FSIZE
   * @param env added to our own environment
   */
  constructor(
    file: string,
    args: readonly string[],
    options: { readonly fileSizeKiB?: number; readonly env?: NodeJS.ProcessEnv; readonly stdin?: 'pipe' } = {},
  ) {
    const { fileSizeKiB, env, stdin = 'ignore' } = options;
    const command = [process.execPath, ...typescript, file, ...args];
    // Only a shell can set a limit before the program starts.
    const [program, ...rest] =
      fileSizeKiB === undefined ? command : ['bash', '-c', `ulimit -f ${fileSizeKiB}; exec "$@"`, 'bash', ...command];
    this.process = spawn(program!, rest, { stdio: [stdin, 'pipe', 'inherit'], env: { ...process.env, ...env } });
    let text = '';
    this.process.stdout!.setEncoding('utf8').on('data', (more: string) => {
      text += more;
      for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n')) {
        this.lines.push(text.slice(0, at));
        text = text.slice(at + 1);
      }
      this.#wake();
    });
    this.ended = new Promise((resolve) => this.process.once('close', (code, signal) => resolve(code ?? signal!)));
    void this.ended.then(() => this.#wake());
  }

  /** Line `index`, when it is there. @throws when the process ended without it */
  async line(index: number): Promise<string> {
    while (this.lines.length <= index) {
      if (this.process.exitCode !== null || this.process.signalCode !== null) {
        await this.ended;
        if (this.lines.length > index) break;
        throw new Error(`the child ended with ${this.process.exitCode ?? this.process.signalCode} after: ${this.lines.join(' | ')}`);
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.lines[index]!;
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    this.process.kill(signal);
    await this.ended;
  }
}
