/**
 * A device behind a socket, beside a raw echo in C in the same run: server and client are whole processes on one core, where nothing but their work
 * counts (on two, both wait for the kernel to wake them up). bench/wire.c is the client, and the echo.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';

/** Nanoseconds, by what was measured. */
interface Wire {
  readonly read: number;
  readonly posted: number;
  readonly bulk: number;
  readonly map: number;
  readonly interrupt: number;
  readonly copy: number;
  readonly mapped?: number;
}

interface Row {
  readonly name: string;
  readonly ours: number;
  readonly floor: number;
  readonly floorName: string;
  readonly aim: string;
  /** How a time is told: as itself, as operations a second, as bytes a second. */
  readonly shown?: (ns: number) => string;
}

const core = String(availableParallelism() - 1);
const pinned = spawnSync('taskset', ['--version']).status === 0 ? ['taskset', '-c', core] : [];

/** Both, started anew, so that each finds the machine in the same mood. Ends the server by its pid. */
async function measure(server: readonly string[], path: string, wire: string, kind: 'client' | 'floor'): Promise<Wire> {
  const [command, ...args] = [...pinned, ...server];
  const child = spawn(command!, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr!.on('data', (text) => (said += text));
  try {
    while (!existsSync(path)) {
      if (child.exitCode !== null) throw new Error(`the server did not start: ${said}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    const [client, ...rest] = [...pinned, wire, kind, path];
    return JSON.parse(execFileSync(client!, rest, { encoding: 'utf8', timeout: 120_000 })) as Wire;
  } finally {
    child.kill('SIGTERM');
    await new Promise((resolve) => (child.exitCode === null && child.signalCode === null ? child.once('close', resolve) : resolve(null)));
    rmSync(path, { force: true });
  }
}

const median = (values: readonly number[]) => [...values].sort((a, b) => a - b)[values.length >> 1]!;

const us = (ns: number) => `${(ns / 1000).toFixed(1)} µs`;
const perSecond = (ns: number) => `${(1e6 / ns).toFixed(0)} k/s`;
const gigabytes = (ns: number) => `${(65536 / ns).toFixed(2)} GB/s`;

export async function vfioUserBench(): Promise<void> {
  console.log(
    `\nA device behind a socket${pinned.length === 0 ? ' (no taskset: not on one core, so read nothing into it)' : `, core ${core}`}`,
  );
  const folder = mkdtempSync(join(tmpdir(), 'vfio-bench-'));
  try {
    const wire = join(folder, 'wire');
    try {
      execFileSync('cc', ['-O2', '-Wall', '-o', wire, join(import.meta.dirname, 'wire.c')]);
    } catch {
      console.log('  SKIPPED: there is no C compiler for the other end (bench/wire.c)');
      return;
    }
    const bin = join(import.meta.dirname, '../bin/vfio.js');
    const ours: Wire[] = [];
    const floors: Wire[] = [];
    for (let round = 0; round < 3; round++) {
      const path = join(folder, `${round}.sock`);
      floors.push(await measure([wire, 'server', path], path, wire, 'floor'));
      ours.push(await measure([process.execPath, bin, 'serve', 'bench', '--socket-path', path], path, wire, 'client'));
    }
    const of = (runs: readonly Wire[], what: keyof Wire) => median(runs.map((run) => run[what]!));
    const row = (what: keyof Wire, name: string, floorName: string, aim: string, shown = us): Row => ({
      name,
      ours: of(ours, what),
      floor: of(floors, what === 'mapped' ? 'copy' : what),
      floorName,
      aim,
      shown,
    });
    print([
      row('read', 'region read of 4 bytes, p50', 'an echo of the same sizes', 'ratio ≤ 1.25'),
      row('posted', 'posted writes of 4 bytes', 'as many receives', '≥ 300 k/s', perSecond),
      row('bulk', 'region reads of 64 KiB', 'an echo of the same sizes', '≥ 2.5 GB/s', gigabytes),
      row('map', 'map + unmap of a 2 MiB memfd', 'mmap, munmap and two echoes', '≥ 20 k/s', perSecond),
      row('copy', 'DMA of 64 KiB, looked up each time', 'memcpy', 'ratio ≤ 1.18', gigabytes),
      row('mapped', 'DMA of 64 KiB, looked up once', 'memcpy', 'ratio ≤ 1.18', gigabytes),
      row('interrupt', 'interrupt by eventfd, p50', 'the same in C', 'ratio ≤ 1.3'),
    ]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function print(rows: readonly Row[]): void {
  console.log(`  ${'figure'.padEnd(58)}${'ours'.padStart(12)}${'floor'.padStart(12)}${'ratio'.padStart(9)}  floor is / aim`);
  for (const { name, ours, floor, floorName, aim, shown = us } of rows) {
    console.log(
      `  ${name.padEnd(58)}${shown(ours).padStart(12)}${shown(floor).padStart(12)}${(ours / floor).toFixed(2).padStart(9)}  ${floorName}; aim ${aim}`,
    );
  }
}
