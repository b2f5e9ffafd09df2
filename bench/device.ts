/**
 * Register access through the gate, and interrupts to their sinks: on the edu model, opened as a
 * user opens it.
 */
import type { InterruptSink } from '../src/abi/device.ts';
import type { Model } from '../src/abi/device-host.ts';
import { PASS_THROUGH } from '../src/abi/mediator.ts';
import { IrqIndex } from '../src/abi/vfio.ts';
import { simulate } from '../src/api/simulation.ts';
import { DriverDevice } from '../src/drivers/kit/driver-device.ts';
import { Mediators } from '../src/engine/mediation/mediators.ts';
import { edu } from '../src/models/edu/edu.ts';
import type { DeviceModel } from '../src/pci/declaration.ts';
import { EventFd } from '../src/sys/eventfd.ts';
import { type Figure, kept } from './harness.ts';
import type { Report, Row } from './report.ts';

const N = 4096;

/** The smallest device: one array behind a BAR. A measurement of it is one of the gate alone. */
function plainDevice(): DeviceModel {
  return {
    declaration: {
      name: 'plain',
      vendor: 0x1234,
      device: 1,
      classCode: 0xff0000,
      bars: [{ index: 0, size: 4096, type: 'mem32' }],
    },
    create(): Model {
      const view = new DataView(new ArrayBuffer(4096));
      return {
        read: (_bar, offset) => view.getUint32(offset, true),
        write: (_bar, offset, _width, value) => view.setUint32(offset, value, true),
        reset: () => {},
      };
    },
  };
}

function registerFigures(): Figure[] {
  const { device } = simulate(plainDevice());
  device.region(7).write16(4, 0x2);
  const region = device.region(0);
  const mapping = region.map();
  const { device: eduDevice } = simulate(edu());
  eduDevice.region(7).write16(4, 0x2);
  const eduRegion = eduDevice.region(0);
  const config = eduDevice.region(7);
  // A mediator with a hook on another region: an access to this region must cost no more than
  // without it.
  const mediators = new Mediators();
  mediators.register({ name: 'elsewhere', open: () => ({ handle: 0, regions: { 7: { read: () => PASS_THROUGH } } }), release: () => {} });
  const { device: mediated } = simulate(plainDevice(), { mediators });
  mediated.region(7).write16(4, 0x2);
  const unhooked = mediated.region(0);
  // Two devices of one age: V8 makes code for the first of its kind, and later ones are an eighth
  // slower.
  const { device: alike } = simulate(plainDevice());
  alike.region(7).write16(4, 0x2);
  const unmediated = alike.region(0);
  const view = new DataView(new ArrayBuffer(4096));
  const bare = () => {
    for (let i = 0; i < N; i++) kept[0] ^= view.getUint32((i & 63) * 4, true);
  };
  const floorName = 'a bare DataView read';
  const buffer = new Uint8Array(4);
  return [
    {
      name: 'register read through the whole gate',
      operations: N,
      aim: '< 60 ns',
      floorName,
      floor: bare,
      ours: () => {
        for (let i = 0; i < N; i++) kept[0] ^= region.read32((i & 63) * 4);
      },
    },
    {
      name: 'the same of a mediated device, in a region without a hook',
      operations: N,
      aim: 'no slower than without a mediator',
      floorName: 'without a mediator',
      floor: () => {
        for (let i = 0; i < N; i++) kept[0] ^= unmediated.read32((i & 63) * 4);
      },
      ours: () => {
        for (let i = 0; i < N; i++) kept[0] ^= unhooked.read32((i & 63) * 4);
      },
    },
    {
      name: 'register read through a mapping',
      operations: N,
      floorName,
      floor: bare,
      ours: () => {
        for (let i = 0; i < N; i++) kept[0] ^= mapping.read32((i & 63) * 4);
      },
    },
    {
      name: 'register write through the whole gate',
      operations: N,
      floorName: 'a bare DataView write',
      floor: () => {
        for (let i = 0; i < N; i++) view.setUint32((i & 63) * 4, i, true);
      },
      ours: () => {
        for (let i = 0; i < N; i++) region.write32((i & 63) * 4, i);
      },
    },
    {
      name: 'register read of a device by declaration (edu)',
      operations: N,
      aim: '< 60 ns',
      floorName,
      floor: bare,
      ours: () => {
        for (let i = 0; i < N; i++) kept[0] ^= eduRegion.read32(0);
      },
    },
    {
      name: 'pread of 4 bytes',
      operations: N,
      floorName,
      floor: bare,
      ours: () => {
        for (let i = 0; i < N; i++) kept[0] ^= region.read((i & 63) * 4, buffer);
      },
    },
    {
      name: 'config space read of 2 bytes',
      operations: N,
      floorName,
      floor: bare,
      ours: () => {
        for (let i = 0; i < N; i++) kept[0] ^= config.read16(4);
      },
    },
  ];
}

/** A sink that only counts: it shows the cost of the way to a sink. */
class Counter implements InterruptSink {
  count = 0;
  signal(): void {
    this.count++;
  }
  get(): this {
    return this;
  }
  put(): void {}
}

/** Raise edu's interrupt and acknowledge it; the message goes to `sink`. */
function eduInterrupts(sink: InterruptSink, drain: () => void): () => void {
  const { device } = simulate(edu());
  device.region(7).write16(4, 0x6);
  device.setIrqs({ index: IrqIndex.MSI, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [sink] });
  const region = device.region(0);
  return () => {
    for (let i = 0; i < 256; i++) {
      region.write32(0x60, 1);
      region.write32(0x64, 1);
      drain();
    }
  };
}

function interruptFigures(): Figure[] {
  const counter = new Counter();
  const direct = new Counter();
  const eventfd = EventFd.create();
  const bareFd = EventFd.create();
  return [
    {
      name: 'raise + acknowledge, to a sink in this process',
      operations: 256,
      ours: eduInterrupts(counter, () => {}),
      floorName: 'the call of the sink',
      floor: () => {
        for (let i = 0; i < 256; i++) direct.signal();
      },
    },
    {
      name: 'raise + acknowledge, to an eventfd, and its read',
      operations: 256,
      ours: eduInterrupts(eventfd, () => eventfd.read()),
      floorName: 'eventfd write + read',
      floor: () => {
        for (let i = 0; i < 256; i++) {
          bareFd.signal();
          bareFd.read();
        }
      },
    },
  ];
}

/** From the device to the code after `await irq.next()`. */
async function awaited(): Promise<Row> {
  const { device, owns } = simulate(edu());
  using dev = DriverDevice.attach(device, { owns });
  dev.busMaster = true;
  using irq = dev.msi.enable(1);
  const registers = dev.bar(0);
  const steps = 20_000;
  const perStep = async (step: () => Promise<unknown>) => {
    for (let i = 0; i < 2000; i++) await step();
    const begun = performance.now();
    for (let i = 0; i < steps; i++) await step();
    return ((performance.now() - begun) * 1e6) / steps;
  };
  const ours: number[] = [];
  const floor: number[] = [];
  for (let round = 0; round < 5; round++) {
    floor.push(await perStep(() => new Promise<void>((resolve) => queueMicrotask(resolve))));
    ours.push(
      await perStep(() => {
        const next = irq.next(0, { timeoutMs: 1000 });
        registers.write32(0x60, 1);
        registers.write32(0x64, 1);
        return next;
      }),
    );
  }
  return { name: 'raise to the driver awaiting it', ours, floor, floorName: 'a microtask' };
}

export async function deviceBench(report: Report): Promise<void> {
  await report.measure('Registers', registerFigures());
  await report.measure('Interrupts', interruptFigures());
  report.row(await awaited());
}
