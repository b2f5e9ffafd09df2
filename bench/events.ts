/**
 * The stream of events: the cost of a device that is watched beside one that is not, and the memory
 * of a reader that never reads.
 */
import type { InterruptSink } from '../src/abi/device.ts';
import { Access } from '../src/abi/memory.ts';
import { IrqIndex } from '../src/abi/vfio.ts';
import { simulate } from '../src/api/simulation.ts';
import { ManualClock } from '../src/base/clock.ts';
import { RING_RECORDS } from '../src/events/ring.ts';
import { type EventSource, Irq, Step } from '../src/events/source.ts';
import { EventStream } from '../src/events/stream.ts';
import { HostDma } from '../src/hardware/host-dma.ts';
import { IommuDomain } from '../src/hardware/iommu-domain.ts';
import { edu } from '../src/models/edu/edu.ts';
import { HeapMemory } from '../src/sys/fake.ts';
import { type Figure, heapGrowth, kept } from './harness.ts';
import type { Report } from './report.ts';

const N = 4096;

class Quiet implements InterruptSink {
  signal(): void {
    kept[0]++;
  }
  get(): this {
    return this;
  }
  put(): void {}
}

/** Two machines of one kind: the second has a reader, which never reads. */
function pair<T>(make: (events: EventStream) => T): { readonly off: T; readonly on: T } {
  const off = make(new EventStream());
  const stream = new EventStream();
  const on = make(stream);
  stream.read();
  return { off, on };
}

function registers(events: EventStream) {
  const { device } = simulate(edu(), { events });
  device.region(7).write16(4, 0x6);
  return device.region(0);
}

function interrupts(events: EventStream) {
  const { device } = simulate(edu(), { events });
  device.region(7).write16(4, 0x6);
  device.setIrqs({ index: IrqIndex.MSI, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [new Quiet()] });
  return device.region(0);
}

function dma(events: EventStream): HostDma {
  const domain = new IommuDomain({ unit: {}, coherent: true, enforcesCoherency: true, pageSizes: 4096n });
  domain.map(0, 255, HeapMemory.allocate(256 * 4096), 0, Access.READ_WRITE);
  return new HostDma({ busMaster: true, powered: true, domain }, events.source('0000:00:04.0'));
}

function intoMemory(name: string, source: EventSource): Figure {
  return {
    name,
    operations: N,
    aim: '≤ 150 ns',
    floorName: 'performance.now()',
    floor: () => {
      for (let i = 0; i < N; i++) kept[0] ^= performance.now();
    },
    ours: () => {
      for (let i = 0; i < N; i++) source.interrupt(Step.raised, Irq.msix, i);
    },
  };
}

function figures(): Figure[] {
  const read = pair(registers);
  const raise = pair(interrupts);
  const copy = pair(dma);
  const bytes = new Uint8Array(64);
  const readAll = (region: typeof read.on) => () => {
    for (let i = 0; i < N; i++) kept[0] ^= region.read32(0);
  };
  const raiseAll = (region: typeof raise.on) => () => {
    for (let i = 0; i < N; i++) {
      region.write32(0x60, 1);
      region.write32(0x64, 1);
    }
  };
  const copyAll = (port: HostDma) => () => {
    for (let i = 0; i < N; i++) port.tryRead((i & 255) * 4096, bytes);
  };
  const stream = new EventStream();
  const source = stream.source('0000:00:04.0');
  stream.read();
  const clock = new EventStream({ clock: new ManualClock() });
  const simulated = clock.source('0000:00:04.0');
  clock.read();
  const floorName = 'the same without a reader';
  return [
    intoMemory('an event into memory', source),
    intoMemory('an event into memory, with a simulated clock', simulated),
    { name: 'register read, watched', operations: N, aim: '≤ 150 ns more', floorName, floor: readAll(read.off), ours: readAll(read.on) },
    {
      name: 'DMA read of 64 B, watched',
      operations: N,
      aim: '≤ 150 ns more',
      floorName,
      floor: copyAll(copy.off),
      ours: copyAll(copy.on),
    },
    {
      name: 'raise + acknowledge, watched (6 events or more)',
      operations: N,
      aim: '≤ 150 ns more for each event',
      floorName,
      floor: raiseAll(raise.off),
      ours: raiseAll(raise.on),
    },
  ];
}

/** A million events to a reader that sleeps. */
function sleeping(report: Report): void {
  const stream = new EventStream();
  const source = stream.source('0000:00:04.0');
  const reader = stream.read();
  for (let i = 0; i < RING_RECORDS; i++) source.interrupt(Step.raised, Irq.msix, i);
  let dropped = 0;
  const { bytes } = heapGrowth(() => {
    for (let i = 0; i < 1e6; i++) source.interrupt(Step.raised, Irq.msix, i);
  });
  const [first] = reader.take(1);
  if (first?.kind === 'dropped') dropped = first.count;
  report.section('A reader that sleeps');
  report.row({
    name: 'heap for each of 1 000 000 events',
    ours: [Math.max(0, bytes) / 1e6],
    floor: null,
    floorName: '',
    unit: 'bytes',
    aim: '0',
  });
  report.note(`${dropped} of them are counted as dropped`);
}

export async function eventsBench(report: Report): Promise<void> {
  await report.measure('Events', figures());
  sleeping(report);
}
