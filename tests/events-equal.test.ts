/**
 * One scenario has one stream: hash for hash, in the process twice, and over a socket for what the
 * device takes part in. Client, server and a proxy see the same messages.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Device } from '../src/abi/device.ts';
import type { EventOf, VfioEvent } from '../src/abi/event.ts';
import { Extension } from '../src/abi/vfio.ts';
import { Cleanup } from '../src/base/cleanup.ts';
import { ManualClock } from '../src/base/clock.ts';
import { MessageProxy } from '../src/cli/trace/proxy.ts';
import { DriverDevice } from '../src/drivers/kit/driver-device.ts';
import { Machine } from '../src/engine/machine/machine.ts';
import { isOfDeviceForm } from '../src/events/digest.ts';
import { wordsOf } from '../src/events/kinds.ts';
import { formatNamed } from '../src/events/printers/formats.ts';
import { EventStream } from '../src/events/stream.ts';
import type { DeviceModel } from '../src/pci/declaration.ts';
import { MemfdMemory } from '../src/sys/memfd.ts';
import { UnixListener } from '../src/sys/unix-listener.ts';
import { UnixSocket } from '../src/sys/unix-socket.ts';
import { VfioUserServer } from '../src/vfio-user/server.ts';
import { type DriverSession, sessions } from './kit/driver-sessions.ts';
import { digestOf } from './kit/event-words.ts';
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

interface Seen {
  /** Of the server and its device. */
  readonly there: VfioEvent[];
  /** The messages, as the client and a proxy in between see them. */
  readonly client: EventOf<'message'>[];
  readonly proxy: EventOf<'message'>[];
}

/** The driver is a client in another thread; server, device and proxy are here. */
async function overSocket(name: keyof typeof sessions, data = false): Promise<Seen> {
  const { clock, events, open } = machineWith(sessions[name].model());
  const [path, door] = [join(folder, `${name}.sock`), join(folder, `${name}.door`)];
  using server = new VfioUserServer({ name: 'served', device: bdf, events, clock: new ManualClock(), open });
  using listener = UnixListener.listen(path);
  listener.onConnection((socket) => void server.serve(socket));
  using reader = events.read({ data });
  using between = new EventStream();
  using seen = between.read({ data: true });
  using proxies = new Cleanup();
  const proxied = proxies.use(UnixListener.listen(door));
  proxied.onConnection((socket) => {
    proxies.use(new MessageProxy(socket, UnixSocket.connect(path), { events: between.source('proxy') }));
  });
  const worker = new Worker(
    'const { loader, file } = require("node:worker_threads").workerData; import(loader).then(() => import(file));',
    {
      eval: true,
      workerData: {
        loader: typescript[1],
        file: new URL('./kit/driver-session-worker.ts', import.meta.url).href,
        path: door,
        session: name,
      },
    },
  );
  let taken: Seen | null = null;
  const done = new Promise<void>((resolve, reject) => {
    worker.once('error', reject);
    worker.once('exit', () => resolve());
  });
  worker.on('message', async ({ pass, messages = [] }: { readonly pass: number | null; readonly messages?: Seen['client'] }) => {
    if (pass === null) taken = { there: reader.take(), client: messages, proxy: messagesOf(seen.take()) };
    else await clock.pass(pass);
    worker.postMessage('passed');
  });
  await done;
  return taken!;
}

const messagesOf = (events: readonly VfioEvent[]) => events.filter((event) => event.kind === 'message');

/** The device form for people, to see where two runs part. */
const lines = (events: readonly VfioEvent[]) =>
  events.filter(isOfDeviceForm).map((event) => `${event.device} ${event.kind}: ${wordsOf(event)}`);
const ofDevice = (events: readonly VfioEvent[]) => digestOf(events).devices.get(bdf);

const { remote: _, ...equal } = sessions;

describe.each(Object.entries(equal))('a session of %s', (name, session) => {
  it('has the same stream again, hash for hash', async () => {
    const [one, two] = [await inProcess(session), await inProcess(session)];
    expect(digestOf(one)).toEqual(digestOf(two));
    expect(one.map(({ hostNs: _, ...event }) => event)).toEqual(two.map(({ hostNs: _, ...event }) => event));
    expect(one.length).toBeGreaterThan(50);
  });

  it('over a socket the device does the same, for the same causes', async () => {
    const [here, { there }] = [await inProcess(session), await overSocket(name as keyof typeof sessions)];
    expect(there.some(({ kind }) => kind === 'message')).toBe(true);
    expect(lines(there)).toEqual(lines(here));
    expect(ofDevice(there)).toEqual(ofDevice(here));
  });
});

describe('client, server and a proxy between them', () => {
  /** By socket and direction: the order between those is each observer's own. */
  function ways(events: readonly VfioEvent[]): Record<string, string[]> {
    const all: Record<string, string[]> = {};
    for (const { direction, twin, id, command, type, size, fds, errno, bytes, data } of messagesOf(events)) {
      const whole = Buffer.concat([bytes, data ?? new Uint8Array(0)]);
      expect(whole).toHaveLength(size);
      const way = `${twin ? 'twin ' : ''}${direction}`;
      all[way] = [...(all[way] ?? []), `#${id} ${command} ${type} ${errno ?? ''} ${fds} ${whole.toString('hex')}`];
    }
    return all;
  }
  /** The kinds from an event back to the first cause. */
  function chain(events: readonly VfioEvent[], event: VfioEvent | undefined): string {
    const names: string[] = [];
    for (let at = event; at !== undefined; at = events.find(({ seq }) => seq === at!.cause)) {
      names.push(at.kind === 'message' ? `${at.command} ${at.type}` : at.kind);
    }
    return names.join(' ← ');
  }

  it.each(['edu', 'remote'] as const)('see the same messages, byte for byte (%s)', async (name) => {
    const { there, client, proxy } = await overSocket(name, true);
    expect(client.length).toBeGreaterThan(40);
    expect(ways(client)).toEqual(ways(proxy));
    expect(ways(there)).toEqual(ways(proxy));
    expect(Object.keys(ways(proxy)).length).toBe(name === 'remote' ? 4 : 2);
  });

  it('a DMA by message leads from the doorbell to the interrupt', async () => {
    const { there } = await overSocket('remote');
    const reply = there.find((event) => event.kind === 'message' && event.command === 'DMA_READ' && event.type === 'reply');
    expect(chain(there, reply)).toMatch(/^DMA_READ reply ← DMA_READ command ← .*access ← REGION_WRITE command$/);
    const delivered = there.find((event) => event.kind === 'interrupt' && event.step === 'delivered');
    expect(chain(there, delivered)).toMatch(/^interrupt ← .*access ← REGION_WRITE command$/);
    const dma = there.find(({ kind }) => kind === 'dma');
    expect(chain(there, dma)).toMatch(/^dma ← .*access ← REGION_WRITE command$/);
  });

  it('a capture of the proxy has the bytes of the wire', async () => {
    const { proxy } = await overSocket('remote');
    const printer = formatNamed('pcapng').make({ about: { program: 'vfio-ts', epochNs: 0n } });
    const file = Buffer.concat(
      [printer.begin(), ...proxy.map((event) => printer.event(event)), printer.end()].map((part) => Buffer.from(part)),
    );
    const packets: string[] = [];
    for (let at = 0; at < file.length; at += file.readUInt32LE(at + 4)) {
      if (file.readUInt32LE(at) === 6) packets.push(file.subarray(at + 28, at + 28 + file.readUInt32LE(at + 20)).toString('hex'));
    }
    expect(packets).toEqual(proxy.map(({ bytes, data }) => Buffer.concat([bytes, data ?? new Uint8Array(0)]).toString('hex')));
  });
});
