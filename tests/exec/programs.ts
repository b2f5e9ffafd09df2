/** Programs in C, compiled for a test file, and run on a machine. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { type ExecOptions, execOn } from '../../src/api/exec.ts';
import type { Machine } from '../../src/engine/machine/machine.ts';

export const folder = mkdtempSync(join(tmpdir(), 'vfio-exec-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The compiler's name; null where there is none. */
export const compiler = spawnSync(process.env.CC || 'cc', ['--version']).status === 0 ? process.env.CC || 'cc' : null;

/** tests/exec/NAME.c as a program. */
export function compiled(name: string, ...flags: string[]): string {
  const program = join(folder, [name, ...flags].join(''));
  const source = join(import.meta.dirname, `${name}.c`);
  execFileSync(compiler!, ['-O1', '-Wall', '-Wextra', '-Werror', '-D_GNU_SOURCE', '-pthread', ...flags, '-o', program, source]);
  return program;
}

export interface Ended {
  readonly status: number;
  readonly lines: readonly string[];
}

/** The program's exit status, and the lines that it wrote to standard output. */
export async function runOn(machine: Machine, ...command: string[]): Promise<Ended> {
  return await runWith({}, machine, ...command);
}

/** As `runOn`. */
export async function runWith(options: ExecOptions, machine: Machine, ...command: string[]): Promise<Ended> {
  const out = join(folder, 'output');
  const status = await execOn(machine, ['sh', '-c', 'out=$1; shift; exec "$@" >"$out"', 'sh', out, ...command], options);
  const text = readFileSync(out, 'utf8');
  return { status, lines: text === '' ? [] : text.trimEnd().split('\n') };
}
