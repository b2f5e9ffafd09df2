/**
 * A device behind a socket, beside a raw echo in C in the same run. Server and client are whole
 * processes: on one core, where their work alone counts, and on a core each, where both wait for
 * the kernel to wake them up or spin. bench/wire.c is the client, and the echo.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compileWire, type Place, pinned, places, runPinned, vfio, withServer } from './processes.ts';
import type { Report, Row } from './report.ts';

const ROUNDS = 3;

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
async function measure(server: readonly string[], path: string, words: readonly string[], place: Place): Promise<Wire> {
  return await withServer(server, path, () => JSON.parse(runPinned(words, place.client)) as Wire, place.server);
}

const microseconds = { shown: 'µs' } as const;
const perSecond = { shown: 'k/s' } as const;
const gigabytes = { shown: 'GB/s', bytes: 65_536 } as const;

async function onPlace(report: Report, place: Place, wire: string, folder: string): Promise<void> {
  const ours: Wire[] = [];
  const floors: Wire[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const path = join(folder, `${place.server === place.client ? 1 : 2}-${round}.sock`);
    floors.push(await measure([wire, 'server', path], path, [wire, 'floor', path], place));
    ours.push(await measure([...vfio, 'serve', 'bench', '--socket-path', path], path, [wire, 'client', path], place));
  }
  /** @param aim of one core; two cores have none, for they are as fast as the kernel's wake-ups */
  const row = (what: keyof Wire, name: string, floorName: string, aim: string, shown: Pick<Row, 'shown' | 'bytes'> = microseconds) =>
    report.row({
      name: `${name}, ${place.name}`,
      ours: ours.map((run) => run[what]!),
      floor: floors.map((run) => run[what === 'mapped' ? 'copy' : what]!),
      floorName,
      ...(place.name === 'one core' ? { aim } : {}),
      ...shown,
    });
  row('read', 'region read of 4 bytes, p50', 'an echo of the same sizes', 'ratio ≤ 1.25');
  row('posted', 'posted writes of 4 bytes', 'as many receives', '≥ 300 k/s', perSecond);
  row('bulk', 'region reads of 64 KiB', 'an echo of the same sizes', '≥ 2.5 GB/s', gigabytes);
  row('map', 'map + unmap of a 2 MiB memfd', 'mmap, munmap and two echoes', '≥ 20 k/s', perSecond);
  row('copy', 'DMA of 64 KiB, looked up each time', 'memcpy', 'ratio ≤ 1.18', gigabytes);
  row('mapped', 'DMA of 64 KiB, looked up once', 'memcpy', 'ratio ≤ 1.18', gigabytes);
  row('interrupt', 'interrupt by eventfd, p50', 'the same in C', 'ratio ≤ 1.3');
}

export async function vfioUserBench(report: Report): Promise<void> {
  report.section('A device behind a socket');
  if (pinned.length === 0) report.note('There is no taskset, so nothing is on one core: do not compare.');
  const folder = mkdtempSync(join(tmpdir(), 'vfio-bench-'));
  try {
    const wire = compileWire(folder);
    if (wire === null) {
      report.note('SKIPPED: there is no C compiler for the other end (bench/wire.c)');
      return;
    }
    for (const place of places) await onPlace(report, place, wire, folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
