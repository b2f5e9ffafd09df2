/**
 * One stream from a driver to its device and back: the doorbell, the command that it starts, the
 * command's DMA and interrupt, and the driver's wait have one root.
 */
import { expect, it } from 'vitest';
import type { VfioEvent } from '../src/abi/event.ts';
import { simulate } from '../src/api/simulation.ts';
import { ManualClock } from '../src/base/clock.ts';
import { EduDriver } from '../src/drivers/edu/edu-driver.ts';
import { DriverDevice } from '../src/drivers/kit/driver-device.ts';
import { NvmeDriver } from '../src/drivers/nvme/nvme-driver.ts';
import { EventStream } from '../src/events/stream.ts';
import { edu } from '../src/models/edu/edu.ts';
import { nvme } from '../src/models/nvme/nvme.ts';
import { MemoryStorage } from '../src/models/storage/memory-storage.ts';
import type { DeviceModel } from '../src/pci/declaration.ts';

function attach(model: DeviceModel) {
  const clock = new ManualClock();
  const events = new EventStream({ clock });
  const simulation = simulate(model, { clock, events });
  const dev = DriverDevice.attach(simulation.device, { owns: simulation.owns, clock });
  return { clock, events, dev };
}

/** The event that led, over others, to `event`. */
function rootOf(events: readonly VfioEvent[], event: VfioEvent): VfioEvent {
  const byNumber = new Map(events.map((each) => [each.seq, each]));
  let root = event;
  while (root.cause !== 0) root = byNumber.get(root.cause)!;
  return root;
}

/** Without the host's time. */
const bare = (events: readonly VfioEvent[]) => events.map(({ hostNs: _, ...event }) => event);

async function eduSession(): Promise<VfioEvent[]> {
  const { clock, events, dev } = attach(edu({ dmaMs: 2 }));
  using reader = events.read();
  using _dev = dev;
  using driver = new EduDriver(dev);
  using ram = driver.alloc(4096);
  const work = driver.copyToDevice(ram.iova, 64);
  await clock.pass(5);
  await work;
  return reader.take();
}

it('edu: doorbell, DMA, command, interrupt and wait have one root', async () => {
  const events = await eduSession();
  const wait = events.find(({ kind }) => kind === 'wait')!;
  expect(wait).toMatchObject({ what: 'MSI vector 0', outcome: 'done', latencyNs: 2e6 });
  const command = events.find(({ kind }) => kind === 'command')!;
  expect(command).toMatchObject({ name: 'copy', status: 'ok', latencyNs: 2e6, fields: { to: 'device', count: 64n } });
  const interrupt = events.find((event) => event.kind === 'interrupt' && event.step === 'delivered')!;
  expect(wait.cause).toBe(interrupt.seq);
  const dma = events.find(({ kind }) => kind === 'dma')!;
  const root = rootOf(events, wait);
  expect(root).toMatchObject({ kind: 'access', op: 'write', region: 0, offset: 0x98 });
  for (const each of [dma, command, interrupt]) expect(rootOf(events, each)).toBe(root);
});

async function nvmeSession(): Promise<VfioEvent[]> {
  const storage = new MemoryStorage(2 ** 20);
  const { clock, events, dev } = attach(nvme({ serial: 'E', namespaces: [{ storage, limits: { latencyMs: 1 } }] }));
  using reader = events.read();
  const starting = NvmeDriver.start(dev, { queues: 2, depth: 4 });
  await clock.pass(100);
  await using driver = await starting;
  reader.take();
  const ns = driver.namespace(1);
  const work = Promise.all(Array.from({ length: 16 }, (_, i) => ns.read(i, 1)));
  await clock.pass(100);
  await work;
  return reader.take();
}

it('NVMe at depth 4 with two queues: each command has the doorbell that announced it, and each wait ends by the interrupt of one', async () => {
  const events = await nvmeSession();
  const commands = events.filter((event) => event.kind === 'command');
  expect(commands).toHaveLength(16);
  expect(new Set(commands.map(({ queue }) => queue))).toEqual(new Set(['I/O 1', 'I/O 2']));
  for (const { cause, queue } of commands) {
    const offset = queue === 'I/O 1' ? 0x1008 : 0x1010;
    expect(events.find(({ seq }) => seq === cause)).toMatchObject({ kind: 'access', op: 'write', offset });
  }
  const waits = events.filter((event) => event.kind === 'wait' && event.what.startsWith('Read on'));
  expect(waits).toHaveLength(16);
  for (const wait of waits) {
    const interrupt = events.find(({ seq }) => seq === wait.cause);
    expect(interrupt).toMatchObject({ kind: 'interrupt', step: 'delivered' });
    const raised = events.find(({ seq }) => seq === interrupt!.cause)!;
    expect(events.find(({ seq }) => seq === raised.cause)).toMatchObject({ kind: 'command', name: 'Read' });
    expect(rootOf(events, wait)).toMatchObject({ kind: 'access', op: 'write' });
  }
});

it('two runs of a session give equal events', async () => {
  expect(bare(await eduSession())).toEqual(bare(await eduSession()));
  expect(bare(await nvmeSession())).toEqual(bare(await nvmeSession()));
});
