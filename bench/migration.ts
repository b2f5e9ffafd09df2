/**
 * Moving a device: the cost of noting its writes, the cost of reporting them, and the time that the
 * device stands still.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Access } from '../src/abi/memory.ts';
import { moveDevice } from '../src/api/migrate/move.ts';
import { open } from '../src/api/open.ts';
import { ManualClock } from '../src/base/clock.ts';
import { EventStream } from '../src/events/stream.ts';
import { DmaLog } from '../src/hardware/dma-log.ts';
import { HostDma } from '../src/hardware/host-dma.ts';
import { IommuDomain } from '../src/hardware/iommu-domain.ts';
import { MemfdMemory } from '../src/sys/memfd.ts';
import { PageHashes } from '../src/sys/page-hashes.ts';
import { UnixSocket } from '../src/sys/unix-socket.ts';
import { type Figure, kept } from './harness.ts';
import { vfio, withServer } from './processes.ts';
import type { Report } from './report.ts';

const PAGE = 4096;
const GIB = 2 ** 30;
const TIB = 2 ** 40;
const TURNS = 3;

/** Pages in random order. */
function pagesOf(count: number, below: number): Float64Array {
  let state = 0x2545_f491;
  return Float64Array.from({ length: count }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  });
}

function marking(name: string, below: number): Figure {
  const N = 65_536;
  const pages = Int32Array.from(pagesOf(N, below));
  const log = new DmaLog([{ first: 0, last: 2 ** 28 - 1 }]);
  const floor = new Uint32Array(2 ** 28 / 32);
  return {
    name,
    operations: N,
    aim: '< 15 ns',
    ours: () => {
      for (let i = 0; i < N; i++) log.markPage(pages[i]!);
    },
    floorName: 'a bit in one large bitmap',
    floor: () => {
      for (let i = 0; i < N; i++) floor[pages[i]! >>> 5]! |= 1 << (pages[i]! & 31);
    },
  };
}

/** The same writes of a device with and without a log. */
function writes(): Figure {
  const memory = MemfdMemory.allocate(2 ** 24);
  const make = (): HostDma => {
    const domain = new IommuDomain({ unit: {}, coherent: true, enforcesCoherency: false, pageSizes: 0x1000n });
    domain.map(0, 4095, memory, 0, Access.READ_WRITE);
    return new HostDma({ busMaster: true, powered: true, domain }, new EventStream({ clock: new ManualClock() }).source('device'));
  };
  const [logged, plain] = [make(), make()];
  logged.writes = new DmaLog([{ first: 0, last: 4095 }]);
  const N = 4096;
  const places = pagesOf(N, 4096);
  const bytes = new Uint8Array(64);
  return {
    name: 'DMA write of 64 B, logged',
    operations: N,
    ours: () => {
      for (let i = 0; i < N; i++) logged.tryWrite(places[i]! * PAGE, bytes);
    },
    floorName: 'the same, not logged',
    floor: () => {
      for (let i = 0; i < N; i++) plain.tryWrite(places[i]! * PAGE, bytes);
    },
  };
}

/** @param dirty pages that were written */
function reporting(what: string, dirty: Float64Array): Figure {
  const log = new DmaLog([{ first: 0, last: TIB / PAGE - 1 }]);
  const bitmap = new Uint8Array(TIB / PAGE / 8);
  return {
    name: `report of 1 TiB, ${what}`,
    operations: 1,
    aim: '< 5 ms',
    beforeEach: () => {
      for (const page of dirty) log.mark(page, page);
      bitmap.fill(0);
    },
    ours: () => log.take(0, TIB / PAGE - 1, 1, bitmap),
    floorName: 'as many bits set, one by one',
    floor: () => {
      for (const page of dirty) bitmap[page >>> 3]! |= 1 << (page & 7);
    },
  };
}

function comparing(): Figure {
  const memory = MemfdMemory.allocate(2 ** 26);
  memory.windows[0]!.fill(7);
  const pages = 2 ** 26 / PAGE;
  const hashes = new PageHashes(memory.windows[0]!, 0, pages);
  const copy = new Uint8Array(2 ** 26);
  hashes.take(0, pages, copy);
  return {
    name: 'compare 64 MiB with their hashes, a page',
    operations: pages,
    ours: () => {
      kept[0]! ^= hashes.scan(0, pages);
    },
    floorName: 'copy them',
    floor: () => copy.set(memory.windows[0]!),
  };
}

async function timed(act: () => unknown): Promise<number> {
  const begun = performance.now();
  await act();
  return (performance.now() - begun) * 1e6;
}

/**
 * Nanoseconds for so many bytes through a socket into untouched memory, both ends in this thread.
 */
async function socketCopy(bytes: number): Promise<number> {
  const [one, other] = UnixSocket.pair();
  const chunk = new Uint8Array(65_536).fill(1);
  using memory = MemfdMemory.allocate(bytes);
  const into = memory.windows[0]!;
  const result = await timed(() => {
    for (let at = 0; at < bytes; ) {
      const end = at + one.send(chunk, 0, Math.min(chunk.length, bytes - at));
      while (at < end) at += other.receive(into, at, end, []);
    }
  });
  one[Symbol.dispose]();
  other[Symbol.dispose]();
  return result;
}

/** A disk in use, and 1 GiB of its client's memory, all of it written. */
async function downtime(report: Report): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-bench-'));
  const [a, b] = [join(folder, 'a.sock'), join(folder, 'b.sock')];
  const serve = (path: string): readonly string[] => [
    ...vfio,
    'serve',
    'nvme',
    '--size',
    '64M',
    '--memlock',
    'unlimited',
    '--socket-path',
    path,
  ];
  const stops: number[] = [];
  const wholes: number[] = [];
  let copies: number[] = [];
  let sockets: number[] = [];
  try {
    await withServer(
      serve(a),
      a,
      () =>
        withServer(
          serve(b),
          b,
          async () => {
            let client = await open(`unix:${a}`);
            const { bytes } = client.dma.alloc(GIB);
            for (let at = 0; at < GIB; at += PAGE) bytes.fill(1 + ((at / PAGE) % 255), at, at + PAGE);
            for (let turn = 0; turn < TURNS; turn++) {
              const [from, to] = turn % 2 === 0 ? [a, b] : [b, a];
              let figures: Awaited<ReturnType<typeof moveDevice>> = null;
              wholes.push(
                await timed(async () => {
                  figures = await moveDevice(from, { kind: 'server', path: to });
                }),
              );
              stops.push(figures!.downtimeMs * 1e6);
              client.close();
              client = await open(`unix:${to}`, { adopt: true });
              copies = [...copies, 2 * (await timed(() => client.adopted[0]!.bytes.copyWithin(GIB / 2, 0, GIB / 2)))];
              sockets = [...sockets, await socketCopy(GIB)];
            }
            client.close();
          },
          [],
        ),
      [],
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  report.section('A disk with 1 GiB of memory, between two servers of this machine');
  report.row({ name: 'it stands still', ours: stops, floor: copies, floorName: 'memcpy of 1 GiB', aim: '< 100 ms', shown: 'ms' });
  report.row({
    name: 'the whole move',
    ours: wholes,
    floor: sockets,
    floorName: '1 GiB through a socket into new memory',
    shown: 'ms',
  });
}

export async function migrationBench(report: Report): Promise<void> {
  await report.measure('Writes of a device that is logged', [
    marking('note a write, pages in a row of 128 MiB', 32_768),
    marking('note a write, pages all over 16 GiB', 2 ** 22),
    marking('note a write, pages all over 1 TiB', 2 ** 28),
    writes(),
    reporting('100 000 writes to 4 GiB of it', pagesOf(100_000, 2 ** 20)),
    reporting('10 000 writes all over it', pagesOf(10_000, TIB / PAGE)),
  ]);
  await report.measure('Stores of its client', [comparing()]);
  await downtime(report);
}
