/** Servers and clients as processes of their own, on one core where `taskset` is there. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';

export const core = String(availableParallelism() - 1);
export const pinned: readonly string[] = spawnSync('taskset', ['--version']).status === 0 ? ['taskset', '-c', core] : [];

/** The command of this checkout. */
export const vfio: readonly string[] = [process.execPath, join(import.meta.dirname, '../bin/vfio.js')];

/**
 * Run `act` while `server` listens at `path`. Ends the server by its pid.
 * @param on what the command begins with: `pinned`, or nothing for all cores
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
