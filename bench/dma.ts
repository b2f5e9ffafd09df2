/** DMA: translating, copying, mapping and unmapping, and the memory that a mapping takes. */
import { DmaPlace } from '../src/abi/device-host.ts';
import { Access } from '../src/abi/memory.ts';
import { Extension } from '../src/abi/vfio.ts';
import { ManualClock } from '../src/base/clock.ts';
import { defaultParams, type EngineContext } from '../src/engine/context.ts';
import { Container } from '../src/engine/dma/container.ts';
import type { AttachableGroup } from '../src/engine/dma/iommu-properties.ts';
import { Process } from '../src/engine/dma/process.ts';
import { FaultPlan } from '../src/engine/fault-plan.ts';
import { linuxRules } from '../src/engine/linux-version.ts';
import { EventStream } from '../src/events/stream.ts';
import { HostDma } from '../src/hardware/host-dma.ts';
import { IommuDomain, Translation } from '../src/hardware/iommu-domain.ts';
import { MemfdMemory } from '../src/sys/memfd.ts';
import { type Figure, heapGrowth, kept } from './harness.ts';
import type { Report } from './report.ts';

const GIB = 2 ** 30;
const PAGE = 4096;

function context(): EngineContext {
  const clock = new ManualClock();
  const stream = new EventStream({ clock });
  return {
    clock,
    stream,
    events: stream.source('0000:00:04.0'),
    params: { ...defaultParams, dmaEntryLimit: 1 << 20 },
    linux: linuxRules(),
    pageSize: PAGE,
    faults: new FaultPlan(),
    allocate: MemfdMemory.allocate,
  };
}

/** A container with one group of a full IOMMU, TYPE1v2 set, which takes 2^20 mappings. */
export function readyContainer(): { container: Container; group: AttachableGroup } {
  const container = new Container(context());
  const group: AttachableGroup = {
    id: 0,
    domain: null,
    iommu: {
      unit: {},
      kind: 'full',
      isolatedMsi: true,
      coherent: true,
      pageSizes: 0x1000n,
      apertureFirst: 0n,
      apertureLast: 2n ** 48n - 1n,
      reserved: [],
    },
  };
  container.attachGroup(group);
  container.setIommu(Extension.TYPE1v2_IOMMU);
  return { container, group };
}

const memory = MemfdMemory.allocate(16 * 2 ** 20);

/** A domain with `count` one-page mappings, every second page. */
function domainOf(count: number): IommuDomain {
  const domain = new IommuDomain({ unit: {}, coherent: true, enforcesCoherency: false, pageSizes: 0x1000n });
  for (let i = 0; i < count; i++) domain.map(i * 2, i * 2, memory, (i % 4096) * PAGE, Access.READ_WRITE);
  return domain;
}

function translation(count: number, locality: 'random' | 'local'): Figure {
  const domain = domainOf(count);
  const N = 4096;
  // Random: another mapping each time. Local: sixteen accesses to one mapping before the next, as a
  // queue entry and its data make.
  const pfns = new Float64Array(N);
  let state = 12345;
  for (let i = 0; i < N; i++) {
    if (locality === 'random' || i % 16 === 0) state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    pfns[i] = (state % count) * 2;
  }
  const out = new Translation();
  const table = new Map<number, number>();
  for (let i = 0; i < count; i++) table.set(i * 2, i);
  return {
    name: `translate, ${count} mapping${count === 1 ? '' : 's'}, ${locality}`,
    operations: N,
    ours: () => {
      for (let i = 0; i < N; i++) {
        domain.translate(pfns[i]!, 16, Access.READ, out);
        kept[0] ^= out.offset;
      }
    },
    floorName: 'Map.get(page)',
    floor: () => {
      for (let i = 0; i < N; i++) kept[0] ^= table.get(pfns[i]!)!;
    },
  };
}

function mapUnmapIndex(count: number): Figure {
  const domain = domainOf(count);
  const N = 512;
  const table = new Map<number, number>();
  for (let i = 0; i < count; i++) table.set(i * 2, i);
  return {
    name: `map + unmap a page, index only, ${count} mappings`,
    operations: N,
    shown: 'M/s',
    aim: '> 1 M/s',
    ours: () => {
      for (let i = 0; i < N; i++) {
        const pfn = ((i * 127) % count) * 2 + 1;
        domain.map(pfn, pfn, memory, 0, Access.READ_WRITE);
        domain.unmap(pfn, pfn);
      }
    },
    floorName: 'Map.set + Map.delete',
    floor: () => {
      for (let i = 0; i < N; i++) {
        const pfn = ((i * 127) % count) * 2 + 1;
        table.set(pfn, i);
        table.delete(pfn);
      }
    },
  };
}

function mapUnmapContainer(count: number): Figure {
  const { container } = readyContainer();
  const process = Process.root();
  for (let i = 0; i < count; i++) {
    container.mapMemory({ process, iova: BigInt(i * 2 * PAGE), memory, offset: (i % 4096) * PAGE, size: PAGE, access: Access.READ_WRITE });
  }
  const N = 256;
  const iovas = Array.from({ length: N }, (_, i) => BigInt((((i * 127) % count) * 2 + 1) * PAGE));
  const domain = domainOf(count);
  return {
    name: `map + unmap a page through the container, ${count} mappings`,
    operations: N,
    shown: 'M/s',
    ours: () => {
      for (const iova of iovas) {
        container.mapMemory({ process, iova, memory, offset: 0, size: PAGE, access: Access.READ_WRITE });
        container.unmapDma({ iova, size: BigInt(PAGE), flags: 0 });
      }
    },
    floorName: 'the index alone',
    floor: () => {
      for (let i = 0; i < N; i++) {
        const pfn = ((i * 127) % count) * 2 + 1;
        domain.map(pfn, pfn, memory, 0, Access.READ_WRITE);
        domain.unmap(pfn, pfn);
      }
    },
  };
}

/** A look-up as a model makes it, through all gates. */
function lookUp(): Figure {
  const domain = new IommuDomain({ unit: {}, coherent: true, enforcesCoherency: false, pageSizes: 0x1000n });
  domain.map(256, 256 + 4095, memory, 0, Access.READ_WRITE);
  const clock = new ManualClock();
  const dma = new HostDma({ busMaster: true, powered: true, domain }, new EventStream({ clock }).source('device'));
  const place = new DmaPlace();
  const N = 4096;
  const table = new Map<number, number>();
  for (let i = 0; i < 64; i++) table.set(256 + i, i);
  return {
    name: 'look up 4 KiB: locate',
    operations: N,
    aim: '≤ 21 ns (three times as long as C)',
    ours: () => {
      for (let i = 0; i < N; i++) if (dma.locate((256 + (i & 63)) * PAGE, PAGE, Access.READ, place)) kept[0] ^= place.offset;
    },
    floorName: 'Map.get(page)',
    floor: () => {
      for (let i = 0; i < N; i++) kept[0] ^= table.get(256 + (i & 63))!;
    },
  };
}

function copy(size: number, direction: 'read' | 'write', aim?: string): Figure {
  const domain = new IommuDomain({ unit: {}, coherent: true, enforcesCoherency: false, pageSizes: 0x1000n });
  domain.map(256, 256 + 4095, memory, 0, Access.READ_WRITE);
  const clock = new ManualClock();
  const dma = new HostDma({ busMaster: true, powered: true, domain }, new EventStream({ clock: clock }).source('device'));
  const buffer = new Uint8Array(size);
  const bytes = memory.windows[0]!;
  const N = Math.max(16, Math.min(2048, Math.floor(2 ** 20 / size)));
  const span = 8 * 2 ** 20;
  return {
    name: `DMA ${direction} of ${size < 1024 ? `${size} B` : `${size / 1024} KiB`} through the domain`,
    operations: N,
    ...(aim === undefined ? {} : { aim }),
    ours: () => {
      for (let i = 0; i < N; i++) {
        const iova = 2 ** 20 + ((i * size) % span);
        if (direction === 'read') dma.tryRead(iova, buffer);
        else dma.tryWrite(iova, buffer);
      }
    },
    floorName: 'plain copy',
    floor: () => {
      for (let i = 0; i < N; i++) {
        const at = (i * size) % span;
        if (direction === 'read') buffer.set(bytes.subarray(at, at + size));
        else bytes.set(buffer, at);
      }
    },
  };
}

/** Two figures of memory; no time. */
function heap(report: Report): void {
  report.section('Heap');
  const memoryRow = { floor: null, floorName: '', unit: 'bytes' } as const;
  {
    const { container } = readyContainer();
    const process = Process.root();
    const big = MemfdMemory.allocate(64 * GIB);
    const { bytes } = heapGrowth(() =>
      container.mapMemory({ process, iova: 0n, memory: big, offset: 0, size: 64 * GIB, access: Access.READ_WRITE }),
    );
    report.row({ ...memoryRow, name: 'heap for a mapping of 64 GiB in one call', ours: [Math.max(0, bytes)], aim: '< 1024 KiB' });
    container.close();
    big[Symbol.dispose]();
  }
  {
    const { container } = readyContainer();
    const process = Process.root();
    const count = 65535;
    const { bytes } = heapGrowth(() => {
      for (let i = 0; i < count; i++) {
        container.mapMemory({ process, iova: BigInt(i * 2 * PAGE), memory, offset: 0, size: PAGE, access: Access.READ_WRITE });
      }
    });
    report.row({ ...memoryRow, name: `heap for each of ${count} mappings`, ours: [bytes / count], aim: '< 200 B' });
    container.close();
  }
}

export async function dmaBench(report: Report): Promise<void> {
  await report.measure(
    'IOVA translation',
    [1, 64, 4096, 65535].flatMap((n) => [translation(n, 'local'), translation(n, 'random')]),
  );
  await report.measure('Mapping', [mapUnmapIndex(65535), mapUnmapContainer(65535)]);
  await report.measure('DMA', [
    lookUp(),
    copy(4, 'read'),
    copy(64, 'read'),
    copy(4096, 'read'),
    copy(65536, 'read', 'ratio ≤ 1.18 (0.85 of the plain copy’s speed)'),
    copy(65536, 'write', 'ratio ≤ 1.18'),
  ]);
  heap(report);
}
