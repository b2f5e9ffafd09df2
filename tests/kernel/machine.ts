/** Programs in TypeScript that use our client of Linux's VFIO, on machines of `vfio exec`. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { type ExecOptions, execOn } from '../../src/api/exec.ts';
import type { Machine } from '../../src/engine/machine/machine.ts';

/** For files of one test file. */
export const folder = mkdtempSync(join(tmpdir(), 'vfio-kernel-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const hooks = join(import.meta.dirname, '../../bin/typescript.js');

/**
 * Run tests/kernel/NAME.ts on a machine.
 *
 * @returns the value that it writes to standard output as JSON; the status when it is not 0
 */
export async function answersOf(machine: Machine, name: string, args: readonly string[] = [], options: ExecOptions = {}): Promise<unknown> {
  const out = join(folder, 'output');
  const program = join(import.meta.dirname, `${name}.ts`);
  const command = [process.execPath, '--import', hooks, program, ...args];
  const status = await execOn(machine, ['sh', '-c', 'out=$1; shift; exec "$@" >"$out"', 'sh', out, ...command], options);
  return status === 0 ? JSON.parse(readFileSync(out, 'utf8')) : `exit status ${status}`;
}
