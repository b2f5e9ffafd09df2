/** Mappings of a container, 16 to 2^20, and dirty pages of 16 GiB and 1 TiB. */
import { Access, type DirectMemory, WINDOW_BYTES } from '../src/abi/memory.ts';
import { DirtyFlags, DmaUnmapFlags } from '../src/abi/vfio.ts';
import { Counted } from '../src/base/counted.ts';
import { Process } from '../src/engine/dma/process.ts';
import { DmaLog } from '../src/hardware/dma-log.ts';
import { Translation } from '../src/hardware/iommu-domain.ts';
import { MemfdMemory } from '../src/sys/memfd.ts';
import { readyContainer } from './dma.ts';
import { heapGrowth, kept } from './harness.ts';
import type { Report } from './report.ts';
import { inTurns, nanoseconds } from './turns.ts';

const PAGE = 4096;
const GIB = 2 ** 30;
const MAPPINGS = [16, 4096, 65_535, 2 ** 20];
const LOOK_UPS = 65_536;
const PAIRS = 4096;

/** Numbers below `below`, all over it, the same in every run. */
function scattered(count: number, below: number): Float64Array {
  let state = 0x2545_f491;
  return Float64Array.from({ length: count }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  });
}

export function mappings(report: Report): void {
  const process = Process.root();
  using memory = MemfdMemory.allocate(16 * 2 ** 20);
  const request = { process, memory, size: PAGE, access: Access.READ_WRITE } as const;
  const out = new Translation();
  const costs = (count: number) => {
    // Every size has 4096 mappings or more in all: fewer would measure V8's first calls.
    const containers = Array.from({ length: Math.ceil(4096 / count) }, readyContainer);
    const total = count * containers.length;
    const mapAll = () => {
      for (const { container } of containers) {
        // Every second page, so that each mapping stays an entry of its own.
        for (let i = 0; i < count; i++) container.mapMemory({ ...request, iova: BigInt(i * 2 * PAGE), offset: (i % 4096) * PAGE });
      }
    };
    const mapped = nanoseconds(mapAll) / total;
    const { container, group } = containers[0]!;
    const table = group.domain!;
    const pages = scattered(LOOK_UPS, count).map((i) => i * 2);
    const looked =
      nanoseconds(() => {
        for (let i = 0; i < LOOK_UPS; i++) {
          table.translate(pages[i]!, 16, Access.READ, out);
          kept[0]! ^= out.offset;
        }
      }) / LOOK_UPS;
    const remapped =
      nanoseconds(() => {
        for (let i = 0; i < PAIRS; i++) {
          const iova = BigInt(pages[i]! * PAGE);
          container.unmapDma({ iova, size: BigInt(PAGE), flags: 0 });
          container.mapMemory({ ...request, iova, offset: 0 });
        }
      }) / PAIRS;
    const gone =
      nanoseconds(() => {
        for (const one of containers) one.container.unmapDma({ iova: 0n, size: 0n, flags: DmaUnmapFlags.ALL });
      }) / total;
    const { bytes } = heapGrowth(mapAll);
    for (const one of containers) one.container.close();
    return { mapped, looked, remapped, gone, bytes: Math.max(1, bytes / total) };
  };
  const found = inTurns(MAPPINGS, 3, costs);
  report.sizes('Mappings of a container', ['16', '4096', '65535', '1048576']);
  report.growth({ name: 'map', work: 'mapping', rounds: found.mapped });
  report.growth({ name: 'look up, at random', work: 'look-up', rounds: found.looked });
  report.growth({ name: 'unmap one at random and map it again', work: 'pair', rounds: found.remapped });
  report.growth({ name: 'unmap all in one call', work: 'mapping', rounds: found.gone });
  report.growth({ name: 'heap and buffers', work: 'mapping', rounds: found.bytes, unit: 'bytes' });
}

/** So many bytes of memory with the pages of one window: every window is the same. */
class RepeatedMemory extends Counted implements DirectMemory {
  readonly kind = 'direct';
  readonly size: number;
  readonly windows: readonly Uint8Array[];

  constructor(size: number, window: Uint8Array) {
    super('the memory');
    this.size = size;
    this.windows = Array.from({ length: size / WINDOW_BYTES }, () => window);
  }

  protected override released(): void {}
}

/** One page in so many is written. */
const SPARSE = 256;

/**
 * Every 256th page of `size` bytes, in an order that jumps. In all windows these are the same 4096
 * pages, so memory that repeats one window has no more.
 */
function sparsePages(size: number): Float64Array {
  const count = size / PAGE / SPARSE;
  return Float64Array.from({ length: count }, (_, i) => ((i * 2_654_435_761) % count) * SPARSE);
}

export function dirtyPages(report: Report): void {
  using window = MemfdMemory.allocate(WINDOW_BYTES);
  const process = Process.root();
  const bytes = new Uint8Array(8);
  const costs = (size: number) => {
    const pages = sparsePages(size);
    using memory = new RepeatedMemory(size, window.windows[0]!);
    const { container, group } = readyContainer();
    container.mapMemory({ process, iova: 0n, memory, offset: 0, size, access: Access.READ_WRITE });
    const bitmap = { pageSize: BigInt(PAGE), data: new Uint8Array(size / PAGE / 8) };
    const query = () => container.dirtyPages(DirtyFlags.GET_BITMAP, { iova: 0n, size: BigInt(size), bitmap });
    const table = group.domain!;
    for (const page of pages) table.copyIn(page, 0, bytes);
    const started = nanoseconds(() => container.dirtyPages(DirtyFlags.START));
    const marked = nanoseconds(() => {
      for (let i = 0; i < pages.length; i++) table.copyIn(pages[i]!, 0, bytes);
    });
    const queried = nanoseconds(query);
    bitmap.data.fill(0);
    const clean = nanoseconds(query);
    container.dirtyPages(DirtyFlags.STOP);
    container.close();

    let log = new DmaLog([{ first: 0, last: 0 }]);
    const logged = nanoseconds(() => {
      log = new DmaLog([{ first: 0, last: size / PAGE - 1 }]);
    });
    const noted = nanoseconds(() => {
      for (let i = 0; i < pages.length; i++) log.mark(pages[i]!, pages[i]!);
    });
    const reported = nanoseconds(() => log.take(0, size / PAGE - 1, 1, bitmap.data));
    return {
      started,
      marked: marked / pages.length,
      queried: queried / pages.length,
      clean: clean / (size / GIB),
      logged,
      noted: noted / pages.length,
      reported: reported / pages.length,
    };
  };
  const found = inTurns([16 * GIB, 1024 * GIB], 5, costs);
  report.sizes('Dirty pages, one page of 256', ['16 GiB', '1 TiB']);
  const page = { work: 'page written' } as const;
  report.growth({ name: 'container: start', work: 'call', rounds: found.started, shown: 'µs' });
  report.growth({ name: 'container: a write of 8 bytes, noted', ...page, rounds: found.marked });
  report.growth({ name: 'container: query', ...page, rounds: found.queried });
  report.growth({ name: 'container: query when nothing was written', work: 'GiB', rounds: found.clean });
  report.growth({ name: 'device log: start', work: 'call', rounds: found.logged, shown: 'µs' });
  report.growth({ name: 'device log: note a page', ...page, rounds: found.noted });
  report.growth({ name: 'device log: report', ...page, rounds: found.reported });
}
