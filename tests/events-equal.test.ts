/**
 * One scenario has one stream: hash for hash, in the process twice, and over a socket for what the
 * device takes part in.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Device } from '../src/abi/device.ts';
import type { VfioEvent } from '../src/abi/event.ts';
import { Extension } from '../src/abi/vfio.ts';
import { ManualClock } from '../src/base/clock.ts';
import { DriverDevice } from '../src/drivers/kit/driver-device.ts';
import { Machine } from '../src/engine/machine/machine.ts';
import { digestOf, isOfDeviceForm } from '../src/events/digest.ts';
import { wordsOf } from '../src/events/kinds.ts';
import { EventStream } from '../src/events/stream.ts';
import type { DeviceModel } from '../src/pci/declaration.ts';
import { MemfdMemory } from '../src/sys/memfd.ts';
import { UnixListener } from '../src/sys/unix-listener.ts';
import { VfioUserServer } from '../src/vfio-user/server.ts';
import { type DriverSession, sessions } from './kit/driver-sessions.ts';
import { typescript } from './kit/typescript.ts';

const bdf = '0000:00:04.0';

function machineWith(model: DeviceModel) {
  const clock = new ManualClock();
  const events = new EventStream({ clock });
  const machine = new Machine({ devices: [{ at: '04.0', model, driver: 'vfio-pci' }] }, { clock, events, allocate: MemfdMemory.allocate });
  const open = (): Device => {
    const container = machine.openContainer();
    const group = machine.openGroup(machine.function(bdf).group!.id);
    group.setContainer(container);
    container.setIommu(Extension.TYPE1v2_IOMMU);
    const device = group.openDevice(bdf);
    group.close();
    container.close();
    return device;
  };
  return { clock, events, machine, open };
}

async function inProcess({ model, run }: DriverSession): Promise<VfioEvent[]> {
  const { clock, events, open } = machineWith(model());
  using reader = events.read();
  using dev = DriverDevice.attach(open(), { clock });
  await run(dev, (ms) => clock.pass(ms));
  return reader.take();
}

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** The driver is a client in another thread; server and device are here. */
async function overSocket(name: keyof typeof sessions): Promise<VfioEvent[]> {
  const { clock, events, open } = machineWith(sessions[name].model());
  const path = join(folder, `${name}.sock`);
  using server = new VfioUserServer({ name: 'served', device: bdf, events, clock: new ManualClock(), open });
  using listener = UnixListener.listen(path);
  listener.onConnection((socket) => void server.serve(socket));
  using reader = events.read();
  const worker = new Worker(
    'const { loader, file } = require("node:worker_threads").workerData; import(loader).then(() => import(file));',
    {
      eval: true,
      workerData: { loader: typescript[1], file: new URL('./kit/driver-session-worker.ts', import.meta.url).href, path, session: name },
    },
  );
  let taken: VfioEvent[] = [];
  const done = new Promise<void>((resolve, reject) => {
    worker.once('error', reject);
    worker.once('exit', () => resolve());
  });
  worker.on('message', async ({ pass }: { readonly pass: number | null }) => {
    if (pass === null) taken = reader.take();
    else await clock.pass(pass);
    worker.postMessage('passed');
  });
  await done;
  return taken;
}

/** The device form for people, to see where two runs part. */
const lines = (events: readonly VfioEvent[]) =>
  events.filter(isOfDeviceForm).map((event) => `${event.device} ${event.kind}: ${wordsOf(event)}`);
const ofDevice = (events: readonly VfioEvent[]) => digestOf(events).devices.get(bdf);

describe.each(Object.entries(sessions))('a session of %s', (name, session) => {
  it('has the same stream again, hash for hash', async () => {
    const [one, two] = [await inProcess(session), await inProcess(session)];
    expect(digestOf(one)).toEqual(digestOf(two));
    expect(one.map(({ hostNs: _, ...event }) => event)).toEqual(two.map(({ hostNs: _, ...event }) => event));
    expect(one.length).toBeGreaterThan(50);
  });

  it('over a socket the device does the same, for the same causes', async () => {
    const [here, there] = [await inProcess(session), await overSocket(name as keyof typeof sessions)];
    expect(there.some(({ kind }) => kind === 'message')).toBe(true);
    expect(lines(there)).toEqual(lines(here));
    expect(ofDevice(there)).toEqual(ofDevice(here));
  });
});
