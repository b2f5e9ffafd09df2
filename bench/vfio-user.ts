/**
 * A device behind a socket, beside a raw echo in C in the same run. Server and client are whole
 * processes on one core, where their work alone counts; on two cores both wait for the kernel to
 * wake them up. bench/wire.c is the client, and the echo.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { median, perSecond, printRows, type Row, microseconds as us } from './harness.ts';
import { compileWire, core, pinned, runPinned, vfio, withServer } from './processes.ts';

/** Nanoseconds, by measurement. */
interface Wire {
  readonly read: number;
  readonly posted: number;
  readonly bulk: number;
  readonly map: number;
  readonly interrupt: number;
  readonly copy: number;
  readonly mapped?: number;
}

/** Starts both anew, so that each finds the machine under the same load. */
async function measure(server: readonly string[], path: string, wire: string, kind: 'client' | 'floor'): Promise<Wire> {
  return await withServer(server, path, () => JSON.parse(runPinned([wire, kind, path])) as Wire);
}

const gigabytes = (ns: number) => `${(65536 / ns).toFixed(2)} GB/s`;

export async function vfioUserBench(): Promise<void> {
  console.log(`\nA device behind a socket${pinned.length === 0 ? ' (no taskset: not on one core, so do not compare)' : `, core ${core}`}`);
  const folder = mkdtempSync(join(tmpdir(), 'vfio-bench-'));
  try {
    const wire = compileWire(folder);
    if (wire === null) {
      console.log('  SKIPPED: there is no C compiler for the other end (bench/wire.c)');
      return;
    }
    const ours: Wire[] = [];
    const floors: Wire[] = [];
    for (let round = 0; round < 3; round++) {
      const path = join(folder, `${round}.sock`);
      floors.push(await measure([wire, 'server', path], path, wire, 'floor'));
      ours.push(await measure([...vfio, 'serve', 'bench', '--socket-path', path], path, wire, 'client'));
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
    printRows([
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
