/** Servers and clients as processes of their own, on named cores where `taskset` is there. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';

const hasTaskset = spawnSync('taskset', ['--version']).status === 0;
const onCore = (core: number): readonly string[] => (hasTaskset ? ['taskset', '-c', String(core)] : []);
const last = availableParallelism() - 1;

/** The words before a command that keep it on one core, the last; empty without `taskset`. */
export const pinned = onCore(last);

/** Where a server and its client run: the words before the command of each. */
export interface Place {
  readonly name: 'one core' | 'two cores';
  readonly server: readonly string[];
  readonly client: readonly string[];
}

/** One core for both, and a core for each where there are two. */
export const places: readonly Place[] = [
  { name: 'one core', server: pinned, client: pinned },
  ...(hasTaskset && last > 0 ? [{ name: 'two cores', server: pinned, client: onCore(last - 1) } as const] : []),
];

/** The command of this checkout. */
export const vfio: readonly string[] = [process.execPath, join(import.meta.dirname, '../bin/vfio.js')];

/**
 * Run `act` while `server` listens at `path`. Ends the server by its pid.
 * @param on the words before the command: `pinned`, or nothing for all cores
 */
export async function withServer<T>(server: readonly string[], path: string, act: () => T | Promise<T>, on = pinned): Promise<T> {
  const [command, ...args] = [...on, ...server];
  const child = spawn(command!, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr!.on('data', (text) => (said += text));
  try {
    while (!existsSync(path)) {
      if (child.exitCode !== null) throw new Error(`the server did not start: ${said}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return await act();
  } finally {
    child.kill('SIGTERM');
    await new Promise((resolve) => (child.exitCode === null && child.signalCode === null ? child.once('close', resolve) : resolve(null)));
    rmSync(path, { force: true });
  }
}

/** The command's standard output. */
export function runPinned(words: readonly string[], on = pinned): string {
  const [command, ...args] = [...on, ...words];
  return execFileSync(command!, args, { encoding: 'utf8', timeout: 120_000, stdio: ['ignore', 'pipe', 'inherit'] });
}

/** bench/wire.c as a program in `folder`; null where there is no compiler. */
export function compileWire(folder: string): string | null {
  const wire = join(folder, 'wire');
  try {
    execFileSync('cc', ['-O2', '-Wall', '-o', wire, join(import.meta.dirname, 'wire.c')]);
    return wire;
  } catch {
    return null;
  }
}
