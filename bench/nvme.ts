/**
 * The NVMe model and the NVMe driver together: in one process, where the floor is the copy of the
 * same bytes, and in two, where the floor is the echo of a message on a socket. Ours and floor are
 * measured in turns; the median of the turns counts.
 */
import { mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Storage } from '../src/abi/storage.ts';
import { simulate } from '../src/api/simulation.ts';
import { loadNamespace } from '../src/cli/nvme/bench.ts';
import { DriverDevice } from '../src/drivers/kit/driver-device.ts';
import { NvmeDriver } from '../src/drivers/nvme/nvme-driver.ts';
import type { BlockSize } from '../src/models/nvme/namespace.ts';
import { nvme } from '../src/models/nvme/nvme.ts';
import { MemoryStorage } from '../src/models/storage/memory-storage.ts';
import { FileStorage } from '../src/sys/file-storage.ts';
import { MemfdMemory } from '../src/sys/memfd.ts';
import { compileWire, pinned, runPinned, vfio, withServer } from './processes.ts';
import type { Report, Row } from './report.ts';

const SIZE = 256 * 2 ** 20;
const TURNS = 3;
const SECONDS = 0.4;
const DEPTH = 32;

/** No block is a hole: a hole costs no copy. */
function fill(storage: Storage): void {
  const queue = storage.open(() => {});
  const bytes = new Uint8Array(2 ** 20);
  for (let at = 0; at < storage.size; at += bytes.length) {
    bytes.fill(at / bytes.length + 1);
    if (queue.tryWrite(at, bytes) !== 0) queue.write(at, bytes, 0, false);
    queue.submit();
    queue.drain();
  }
  queue[Symbol.dispose]();
}

async function inProcess(storage: Storage, interrupts: 'msix' | 'poll', blockSize: BlockSize = 4096): Promise<NvmeDriver> {
  const { device, owns } = simulate(nvme({ namespaces: [{ storage, blockSize }] }));
  return await NvmeDriver.start(DriverDevice.attach(device, { owns }), { interrupts, depth: DEPTH });
}

interface Load {
  readonly blockSize: number;
  readonly depth: number;
}

/** Nanoseconds a command; for depth 1 the median latency. */
async function commandNs(driver: NvmeDriver, { blockSize, depth }: Load): Promise<number> {
  const options = { rw: 'randread', blockSize, depth, seconds: SECONDS, namespace: 1 } as const;
  const { iops, latency } = await loadNamespace(driver, options);
  return depth === 1 ? latency.percentile(50) : 1e9 / iops;
}

/**
 * Nanoseconds to copy so many bytes from random places into memory like a driver's, for as many
 * commands as are in flight.
 */
function copyNs(from: Uint8Array, { blockSize, depth }: Load): number {
  using memory = MemfdMemory.allocate(depth * blockSize);
  const to = Array.from({ length: depth }, (_, i) => memory.windows[0]!.subarray(i * blockSize, (i + 1) * blockSize));
  const places = from.length / blockSize;
  let state = 0x2545_f491;
  let copies = 0;
  const begun = performance.now();
  while (performance.now() - begun < SECONDS * 500) {
    for (let i = 0; i < depth; i++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      const at = ((state >>> 0) % places) * blockSize;
      to[i]!.set(from.subarray(at, at + blockSize));
    }
    copies += depth;
  }
  return ((performance.now() - begun) * 1e6) / copies;
}

/** The same by pread, which copies from the page cache. */
function preadNs(fd: number, { blockSize }: Load): number {
  const to = new Uint8Array(blockSize);
  const places = SIZE / blockSize;
  let state = 0x2545_f491;
  let reads = 0;
  const begun = performance.now();
  while (performance.now() - begun < SECONDS * 500) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    readSync(fd, to, 0, blockSize, ((state >>> 8) % places) * blockSize);
    reads++;
  }
  return ((performance.now() - begun) * 1e6) / reads;
}

interface Figure extends Omit<Row, 'ours' | 'floor'> {
  ours(): Promise<number>;
  floor(): number | Promise<number>;
}

async function inTurns({ ours, floor, ...rest }: Figure): Promise<Row> {
  const [a, b]: [number[], number[]] = [[], []];
  for (let turn = 0; turn < TURNS; turn++) {
    b.push(await floor());
    a.push(await ours());
  }
  return { ...rest, ours: a, floor: b };
}

const perSecond = { shown: 'k/s' } as const;
const microseconds = { shown: 'µs' } as const;
const gigabytes = { shown: 'GB/s', bytes: 131_072 } as const;
type Shown = Pick<Row, 'shown' | 'bytes'>;
const small = { blockSize: 4096, depth: DEPTH };
const large = { blockSize: 131_072, depth: DEPTH };
const single = { blockSize: 4096, depth: 1 };

/** Random reads of `blockSize` bytes, where the caches hold all of the disk or nearly nothing. */
async function bySize(report: Report, mebibytes: number, blockSize: BlockSize, aim: string): Promise<void> {
  using memory = new MemoryStorage(mebibytes * 2 ** 20);
  fill(memory);
  const plain = new Uint8Array(memory.size).fill(1);
  await using driver = await inProcess(memory, 'poll', blockSize);
  const load = { blockSize, depth: DEPTH };
  const row = await inTurns({
    name: `${blockSize} B random reads over ${mebibytes} MiB, depth 32, poll`,
    floorName: `Uint8Array.set of ${blockSize} B`,
    aim,
    ...perSecond,
    ours: () => commandNs(driver, load),
    floor: () => copyNs(plain, load),
  });
  report.row(row);
}

async function oneProcess(report: Report, folder: string): Promise<void> {
  report.section('NVMe, model and driver in one process');
  const aim256 = '≥ 1 M/s, or 0.75 of a floor below 1.3 M/s';
  await bySize(report, 256, 4096, aim256);
  await bySize(report, 256, 512, aim256);
  await bySize(report, 1, 4096, '≥ 2.5 M/s');
  await bySize(report, 1, 512, '≥ 2.5 M/s');
  const memory = new MemoryStorage(SIZE);
  fill(memory);
  const plain = new Uint8Array(SIZE).fill(1);
  for (const interrupts of ['poll', 'msix'] as const) {
    await using driver = await inProcess(memory, interrupts);
    const row = (load: Load, name: string, floorName: string, aim: string, shown: Shown) =>
      inTurns({
        name: `${name}, ${interrupts}`,
        floorName,
        aim,
        ...shown,
        ours: () => commandNs(driver, load),
        floor: () => copyNs(plain, load),
      });
    if (interrupts === 'msix') report.row(await row(small, '4 KiB random reads, depth 32', 'Uint8Array.set of 4 KiB', '', perSecond));
    report.row(await row(large, '128 KiB random reads, depth 32', 'Uint8Array.set of 128 KiB', 'ratio ≤ 1.25', gigabytes));
    report.row(await row(single, '4 KiB random reads, depth 1, p50', 'Uint8Array.set of 4 KiB', '', microseconds));
  }
  const path = join(folder, 'disk.img');
  using file = FileStorage.open(path, { size: SIZE, create: true });
  fill(file);
  await using driver = await inProcess(file, 'poll');
  const fd = openSync(path, 'r');
  for (const [load, name, shown] of [
    [small, '4 KiB random reads of a file, depth 32, poll', perSecond],
    [large, '128 KiB random reads of a file, depth 32, poll', gigabytes],
  ] as const) {
    const ours = () => commandNs(driver, load);
    report.row(await inTurns({ name, floorName: 'pread, page cache', ...shown, ours, floor: () => preadNs(fd, load) }));
  }
}

/** The part of `vfio nvme bench --json` that this file reads. */
interface BenchDocument {
  readonly iops: number;
  readonly latencyNs: { readonly p50: number };
}

async function twoProcesses(report: Report, folder: string): Promise<void> {
  report.section(
    `NVMe, the model behind a socket, the driver in another process${pinned.length === 0 ? ' (no taskset: not on one core)' : ''}`,
  );
  const wire = compileWire(folder);
  if (wire === null) {
    report.note('SKIPPED: there is no C compiler for the floor (bench/wire.c)');
    return;
  }
  let servers = 0;
  const served = async <T>(server: (path: string) => readonly string[], on: readonly string[], act: (path: string) => T): Promise<T> => {
    const path = join(folder, `${servers++}.sock`);
    return await withServer(server(path), path, () => act(path), on);
  };
  const model = (doorbells: string) => (path: string) => {
    const name = `nvme,size=${SIZE >> 20}M,blockSize=4096,doorbells=${doorbells}`;
    return [...vfio, 'serve', name, '--socket-path', path];
  };
  const driven = (on: readonly string[], words: readonly string[]) => (path: string) => {
    const fillIt = ['nvme', 'bench', `unix:${path}`, '--rw', 'write', '-b', '128K', '-d', '8', '-t', '0.2', '--overwrite', '--json'];
    runPinned([...vfio, ...fillIt], on);
    const bench = ['nvme', 'bench', `unix:${path}`, '-t', String(SECONDS), '--json', ...words];
    const { iops, latencyNs } = JSON.parse(runPinned([...vfio, ...bench], on)) as BenchDocument;
    return words.includes('1') ? latencyNs.p50 : 1e9 / iops;
  };
  const echo = async () => {
    const read = (path: string) => (JSON.parse(runPinned([wire, 'floor', path])) as { read: number }).read;
    return await served((path) => [wire, 'server', path], pinned, read);
  };
  const places = [[pinned, 'one core'] as const, ...(pinned.length === 0 ? [] : [[[], 'all cores'] as const])];
  for (const [on, where] of places) {
    for (const doorbells of ['shadow', 'registers', 'mapped'] as const) {
      const mapped = doorbells === 'mapped';
      const server = model(mapped ? doorbells : 'registers');
      // The driver maps doorbells where it can.
      const more = mapped ? [] : ['--doorbells', doorbells];
      const row = (depth: string, name: string, aim: string, shown: Shown) =>
        inTurns({
          name: `${name}, doorbells: ${doorbells}, ${where}`,
          floorName: 'an echo of 4 bytes, p50',
          aim,
          ...shown,
          ours: () => served(server, on, driven(on, ['-d', depth, ...more])),
          floor: echo,
        });
      report.row(await row('32', '4 KiB, depth 32', '≥ 100 k/s', perSecond));
      report.row(await row('1', '4 KiB, depth 1, p50', '', microseconds));
    }
  }
}

export async function nvmeBench(report: Report): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'nvme-bench-'));
  try {
    await oneProcess(report, folder);
    await twoProcesses(report, folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
