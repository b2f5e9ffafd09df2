/** A stream that a program gives is the one to which everything that it opens and serves emits. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { eventLines } from '../../tests/kit/event-words.ts';
import type { VfioEvent } from '../abi/event.ts';
import { Command, Config } from '../abi/pci.ts';
import { RegionIndex } from '../abi/vfio.ts';
import { ManualClock } from '../base/clock.ts';
import { Machine } from '../engine/machine/machine.ts';
import { EventStream } from '../events/stream.ts';
import { edu } from '../models/edu/edu.ts';
import type { DeviceModel } from '../pci/declaration.ts';
import { HeapMemory } from '../sys/fake.ts';
import { administerMachine, MachineServer } from './machine-server.ts';
import { open } from './open.ts';
import { DeviceServer } from './serve.ts';
import { openThrough } from './simulation.ts';

const quiet = { keepAlive: false, manage: false };

it('open: engine and driver share the stream and its clock, and the stream stays the caller’s', async () => {
  const clock = new ManualClock();
  using events = new EventStream({ clock });
  using reader = events.read({ kinds: ['access'] });
  {
    using dev = await open(edu(), { events });
    clock.advance(3);
    reader.take();
    dev.bar(0).read32(0);
    expect([dev.clock.nowNs(), reader.take()]).toMatchObject([3e6, [{ timeNs: 3e6, device: dev.name, region: 0 }]]);
  }
  using after = await open(edu(), { events });
  reader.take();
  after.bar(0).read32(0);
  expect(reader.take()).toMatchObject([{ op: 'read', offset: 0 }]);
});

/** Read a register of the device of `server`, as a client of it would. */
function use(server: DeviceServer): void {
  const { device, owns } = openThrough(server.machine, '0000:00:04.0');
  using _owns = owns;
  using _device = device;
  device.region(RegionIndex.CONFIG).write16(Config.COMMAND, Command.MEMORY);
  device.region(RegionIndex.BAR0).read32(0);
}

const ofBar0 = (events: readonly VfioEvent[]) => events.filter((event) => event.kind === 'access' && event.region === RegionIndex.BAR0);

it('a served model: the machine after `replace` emits to the same stream', () => {
  using events = new EventStream({ clock: new ManualClock() });
  using server = new DeviceServer<DeviceModel>(edu(), { ...quiet, events });
  using reader = events.read({ kinds: ['access'] });
  const { machine } = server;
  use(server);
  expect(ofBar0(reader.take())).toHaveLength(1);
  server.replace(edu());
  expect(server.machine).not.toBe(machine);
  use(server);
  expect(ofBar0(reader.take())).toHaveLength(1);
});

it('a server without a given stream has one of its own, for programs to read', () => {
  using server = new DeviceServer<DeviceModel>(edu(), quiet);
  using reader = server.events({ kinds: ['access'] });
  server.replace(edu());
  use(server);
  expect(ofBar0(reader.take())).toHaveLength(1);
});

it('a machine and its server on one stream: an administrator’s command is the cause of its effects', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
  try {
    using events = new EventStream();
    using machine = new Machine({ devices: [{ at: '04.0', model: edu(), driver: 'vfio-pci' }] }, { allocate: HeapMemory.allocate, events });
    using _server = new MachineServer(machine, join(folder, 'm'), { events, keepAlive: false });
    using reader = machine.events({ kinds: ['note', 'bind'] });
    await administerMachine(join(folder, 'm'), 'unbind', { bdf: '0000:00:04.0' });
    expect(eventLines(reader.take())).toEqual([
      'machine: administrator: unbind bdf=0000:00:04.0',
      '0000:00:04.0: driver none, was vfio-pci (after 0)',
    ]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
