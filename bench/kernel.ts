/** Costs of our client of Linux's VFIO, beside the same work in C. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pinned, runPinned, vfio } from './processes.ts';
import type { Report, Row } from './report.ts';

const ROUNDS = 5;

type Alone = Readonly<Record<'load32' | 'store32' | 'load64' | 'store64' | 'calls', number>>;
/** `mapped` is absent where no instructions are emulated. */
type Calls = Readonly<Record<'bar' | 'shared', number>> & { readonly mapped?: number };

const ours = [
  process.execPath,
  '--import',
  join(import.meta.dirname, '../bin/typescript.js'),
  join(import.meta.dirname, 'kernel-program.ts'),
];

function compiled(folder: string, name: string): string | null {
  const program = join(folder, name);
  try {
    execFileSync('cc', ['-O2', '-Wall', '-o', program, join(import.meta.dirname, `${name}.c`)]);
    return program;
  } catch {
    return null;
  }
}

/** Runs of two programs in turns, and their values. */
function inTurns<T>(our: readonly string[], floor: readonly string[]): { readonly ours: readonly T[]; readonly floor: readonly T[] } {
  const values: { readonly ours: T[]; readonly floor: T[] } = { ours: [], floor: [] };
  for (let round = 0; round < ROUNDS; round++) {
    values.floor.push(JSON.parse(runPinned(floor)) as T);
    values.ours.push(JSON.parse(runPinned(our)) as T);
  }
  return values;
}

export async function kernelBench(report: Report): Promise<void> {
  report.section("Drivers on Linux's VFIO");
  const folder = mkdtempSync(join(tmpdir(), 'vfio-bench-'));
  try {
    const [loop, calls] = [compiled(folder, 'kernel'), compiled(folder, 'exec')];
    if (loop === null || calls === null) {
      report.note('SKIPPED: there is no C compiler for the programs (bench/kernel.c, bench/exec.c)');
      return;
    }
    const accesses = inTurns<Alone>([...ours, 'alone'], [loop]);
    const access = (name: string, which: keyof Alone, aim?: string): Row => ({
      name,
      ours: accesses.ours.map((each) => each[which]),
      floor: accesses.floor.map((each) => each[which]),
      floorName: 'a loop in C',
      ...(aim === undefined ? {} : { aim }),
    });
    report.row(access('load of a mapped register, 32 bits', 'load32', '40 ns more'));
    report.row(access('store to a mapped register, 32 bits', 'store32'));
    report.row(access('load of a mapped register, 64 bits', 'load64'));
    report.row(access('store to a mapped register, 64 bits', 'store64'));

    report.row({ ...access('map and unmap of 64 KiB for DMA, without a kernel', 'calls'), floorName: 'two calls that do nothing, in C' });

    const exec = [...vfio, 'exec', '--device', 'edu', '--'];
    const inside = inTurns<Calls>([...exec, ...ours, 'device', '0000:01:00.0'], [...exec, calls, '/dev/vfio/1', '0000:01:00.0']);
    const call = (name: string, which: keyof Calls): Row => ({
      name,
      ours: inside.ours.map((each) => each[which]!),
      floor: inside.floor.map((each) => each[which]!),
      floorName: 'the same in C',
      shown: 'µs',
    });
    report.row(call('pread of a register, under vfio exec, p50', 'bar'));
    if (inside.floor[0]!.mapped !== undefined) report.row(call('load of a mapped register, under vfio exec, p50', 'mapped'));
    report.row(call('map and unmap of 64 KiB of a memfd for DMA, under vfio exec, p50', 'shared'));
    if (pinned.length > 0) report.note('Each program has one core, with the supervisor.');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
