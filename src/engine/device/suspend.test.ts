import { expect, it } from 'vitest';
import { DeviceRig, errnoOfCall, resettable, setCommand } from '../../../tests/kit/device-rig.ts';
import type { DeviceEvent } from '../../abi/device.ts';
import { Dma } from '../../abi/device-host.ts';
import { Command } from '../../abi/pci.ts';
import { pcie, pm } from '../../pci/capabilities.ts';
import { HeapMemory } from '../../sys/fake.ts';

const { MEMORY, MASTER } = Command;
const sleepy = { ...resettable, capabilities: [pcie({ flr: true }), pm({ noSoftReset: false })] };

/** A device whose DMA works, with its user's events. */
function busyRig(declaration = resettable) {
  const rig = new DeviceRig(declaration);
  const file = rig.open();
  const memory = HeapMemory.allocate(4096);
  file.dma.map({ iova: 0n, memory });
  setCommand(file, MEMORY | MASTER);
  const events: DeviceEvent[] = [];
  file.on((event) => events.push(event));
  const dma = () => rig.model.host.dma.tryWrite(0, Uint8Array.of(1));
  return { rig, file, memory, events, dma };
}

it('S2-42 suspend: the user is told, DMA goes on until it acknowledges, and is blocked then', async () => {
  const { rig, events, dma } = busyRig();
  let asleep = false;
  const suspending = rig.machine.suspend().then(() => {
    asleep = true;
  });
  expect(events.map((event) => event.kind)).toEqual(['suspend']);
  expect(dma()).toBe(Dma.DONE);
  await Promise.resolve();
  expect(asleep).toBe(false);
  const [event] = events;
  if (event?.kind === 'suspend') event.acknowledge();
  expect(dma()).toBe(Dma.FAULT);
  await suspending;
  expect(rig.clock.pendingTimers).toBe(0);
});

it('S2-42 suspend: DMA stays blocked whatever the user writes to COMMAND', async () => {
  const { rig, file, events, dma } = busyRig();
  const suspending = rig.machine.suspend();
  for (const event of events) if (event.kind === 'suspend') event.acknowledge();
  await suspending;
  setCommand(file, MEMORY | MASTER);
  expect(dma()).toBe(Dma.FAULT);
});

it('S2-42 suspend: a user who does not answer is waited for five seconds', async () => {
  const { rig, dma } = busyRig();
  const suspending = rig.machine.suspend();
  rig.clock.advance(4_999);
  expect(dma()).toBe(Dma.DONE);
  rig.clock.advance(1);
  await suspending;
  expect(dma()).toBe(Dma.FAULT);
  expect(rig.logged.filter((line) => line.includes('did not acknowledge'))).toHaveLength(1);
});

it('S2-42 suspend: acknowledging twice, or late, does nothing', async () => {
  const { rig, events } = busyRig();
  const suspending = rig.machine.suspend();
  rig.clock.advance(5_000);
  await suspending;
  const [event] = events;
  if (event?.kind === 'suspend') {
    event.acknowledge();
    event.acknowledge();
  }
  expect(rig.fn.host.dmaBlocked).toBe(true);
});

it('S2-42 suspend: nobody who listens, or who closes instead of answering, is waited for', async () => {
  const quiet = new DeviceRig();
  quiet.open();
  await quiet.machine.suspend();
  expect(quiet.fn.host.dmaBlocked).toBe(true);
  const { rig, file } = busyRig();
  const suspending = rig.machine.suspend();
  file.close();
  await suspending;
  expect(rig.fn.host.dmaBlocked).toBe(false);
});

it('S2-42 suspend: with several files, every one that listens acknowledges', async () => {
  const { rig, events } = busyRig();
  const second: DeviceEvent[] = [];
  rig.open().on((event) => second.push(event));
  const suspending = rig.device.suspend();
  expect(rig.device.suspend()).toBe(suspending);
  for (const event of events) if (event.kind === 'suspend') event.acknowledge();
  expect(rig.fn.host.dmaBlocked).toBe(false);
  for (const event of second) if (event.kind === 'suspend') event.acknowledge();
  expect(rig.fn.host.dmaBlocked).toBe(true);
  await suspending;
});

it('S2-42 resume: configuration is back on a device that forgot it, DMA works, the user is told', async () => {
  const { rig, file, events, dma } = busyRig(sleepy);
  const before = [...rig.fn.config.bytes];
  const mapping = file.region(0).map();
  const suspending = rig.machine.suspend();
  for (const event of events) if (event.kind === 'suspend') event.acknowledge();
  await suspending;
  expect(rig.device.power.state).toBe('D3hot');
  expect(errnoOfCall(() => mapping.read32(0))).toBe('BusError');
  rig.machine.resume();
  expect(events.map((event) => event.kind)).toEqual(['suspend', 'resume']);
  expect([...rig.fn.config.bytes]).toEqual(before);
  expect(dma()).toBe(Dma.DONE);
  expect(mapping.read32(0)).toBe(0);
  rig.device.resume();
  expect(events).toHaveLength(2);
});

it('S2-42 a device closed while the machine sleeps is as after any close', async () => {
  const { rig, file, events } = busyRig(sleepy);
  const suspending = rig.device.suspend();
  for (const event of events) if (event.kind === 'suspend') event.acknowledge();
  await suspending;
  file.close();
  expect(rig.fn.host.dmaBlocked).toBe(false);
  rig.device.resume();
  const again = rig.open();
  expect(again.region(0).read32(0)).toBe(0);
});

it('S2-42 unplug while suspend waits for an answer ends the waiting', async () => {
  const rig = new DeviceRig(resettable, { params: { forceRevokeAfterMs: 0 } });
  rig.open().on(() => {});
  const suspending = rig.device.suspend();
  void rig.machine.unbind(rig.bdf);
  rig.clock.advance(0);
  await suspending;
  expect(rig.fn.host.dmaBlocked).toBe(false);
  expect(rig.clock.pendingTimers).toBe(0);
});
