/** Counts what `npm run test:package` checks, and prints a line for each. */
import { spawnSync } from 'node:child_process';

export interface Result {
  readonly status: number | null;
  /** Standard output, then standard error. */
  readonly text: string;
}

/** Run a program to its end. @param env added to the environment */
export function run(command: string, args: readonly string[], cwd: string, env: NodeJS.ProcessEnv = {}): Result {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd,
    encoding: 'utf8',
    env: { ...process.env, NO_COLOR: '1', ...env },
    timeout: 300_000,
  });
  return { status, text: `${stdout ?? ''}${stderr ?? ''}${error === undefined ? '' : String(error)}` };
}

export class Checks {
  passed = 0;
  failed = 0;
  readonly #started = performance.now();

  /** One check: `problem` is null when it passed. */
  note(name: string, problem: string | null): void {
    const seconds = ((performance.now() - this.#started) / 1000).toFixed(0).padStart(3);
    if (problem === null) this.passed++;
    else this.failed++;
    console.log(`${seconds} s  ${problem === null ? 'ok  ' : 'FAIL'}  ${name}`);
    if (problem !== null) console.log(problem.replace(/^/gm, '        '));
  }

  /** The program ends well, and what it prints contains every one of `texts`. */
  runs(name: string, result: Result, ...texts: readonly string[]): void {
    const missing = texts.filter((text) => !result.text.includes(text));
    const failure =
      result.status === 0 && missing.length === 0 ? null : `status ${result.status}; not there: ${missing.join(', ')}\n${result.text}`;
    this.note(name, failure);
  }

  /** The program fails, and its message contains every one of `texts`. */
  refuses(name: string, result: Result, ...texts: readonly string[]): void {
    const missing = texts.filter((text) => !result.text.includes(text));
    const failure =
      result.status !== 0 && missing.length === 0 ? null : `status ${result.status}; not there: ${missing.join(', ')}\n${result.text}`;
    this.note(name, failure);
  }

  summary(): string {
    return `${this.passed} passed, ${this.failed} failed`;
  }
}
