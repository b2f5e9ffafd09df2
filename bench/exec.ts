/** Costs of programs under `vfio exec`, beside the same calls outside. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pinned, runPinned, vfio } from './processes.ts';
import type { Report, Row } from './report.ts';

const ROUNDS = 3;

/** Nanoseconds, by call. */
interface Outside {
  readonly untrapped: number;
  readonly pread: number;
  readonly open: number;
  readonly roundTrip: number;
  /** Absent where no instructions are emulated. */
  readonly mapped?: number;
}

interface Inside extends Outside {
  readonly version: number;
  readonly info: number;
  readonly config: number;
  readonly bar: number;
  readonly map: number;
}

function compiled(folder: string): string | null {
  const program = join(folder, 'exec');
  try {
    execFileSync('cc', ['-O2', '-Wall', '-o', program, join(import.meta.dirname, 'exec.c')]);
    return program;
  } catch {
    return null;
  }
}

export async function execBench(report: Report): Promise<void> {
  report.section('Programs under vfio exec, p50');
  const folder = mkdtempSync(join(tmpdir(), 'vfio-bench-'));
  try {
    const program = compiled(folder);
    if (program === null) {
      report.note('SKIPPED: there is no C compiler for the program (bench/exec.c)');
      return;
    }
    const outside: Outside[] = [];
    const inside: Inside[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      outside.push(JSON.parse(runPinned([program])) as Outside);
      inside.push(JSON.parse(runPinned([...vfio, 'exec', '--device', 'edu', '--', program, '/dev/vfio/1', '0000:01:00.0'])) as Inside);
    }
    const beside = (name: string, call: Exclude<keyof Outside, 'mapped'>, aim?: string): Row => ({
      name,
      ours: inside.map((each) => each[call]),
      floor: outside.map((each) => each[call]),
      floorName: 'outside',
      ...(aim === undefined ? {} : { aim }),
    });
    const answered = (name: string, call: Exclude<keyof Inside, 'mapped'>, aim?: string): Row => ({
      name,
      ours: inside.map((each) => each[call]),
      floor: outside.map((each) => each.roundTrip),
      floorName: 'two processes that wake each other up',
      shown: 'µs',
      ...(aim === undefined ? {} : { aim }),
    });
    report.row(beside('a call that the filter does not look at', 'untrapped'));
    report.row(beside('pread of a file', 'pread', '0.3 µs more'));
    report.row(beside('open and close of a file', 'open'));
    report.row(answered('GET_API_VERSION', 'version', '9 µs'));
    report.row(answered('DEVICE_GET_INFO', 'info'));
    report.row(answered('pread of config space', 'config'));
    report.row(answered('pread of a register', 'bar'));
    if (outside[0]!.mapped !== undefined) {
      report.row({
        name: 'load from a mapped register',
        ours: inside.map((each) => each.mapped!),
        floor: outside.map((each) => each.mapped!),
        floorName: 'a tracer in C that skips the load',
        shown: 'µs',
      });
    }
    report.row(answered('MAP_DMA and UNMAP_DMA, 64 KiB', 'map'));
    if (pinned.length > 0) report.note('Program and supervisor have one core.');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
