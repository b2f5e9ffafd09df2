import { expect, it } from 'vitest';
import { DeviceRig, resettable, setCommand } from '../../../tests/kit/device-rig.ts';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import type { DeviceEvent } from '../../abi/device.ts';
import { Dma } from '../../abi/device-host.ts';
import { Command } from '../../abi/pci.ts';
import { IrqIndex } from '../../abi/vfio.ts';
import type { VfioError } from '../../base/errno.ts';
import { DriverDevice } from '../../drivers/kit/driver-device.ts';
import { msi, pcie, pm } from '../../pci/capabilities.ts';
import { FakeEventFd, HeapMemory } from '../../sys/fake.ts';

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

it('S2-42 suspend: the user hears of it, DMA goes on until the user acknowledges, and is blocked then', async () => {
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
  expect(dma()).toBe(Dma.REMOTE);
  await suspending;
  expect(rig.clock.pendingTimers).toBe(0);
});

it('S2-42 suspend: DMA stays blocked whatever the user writes to COMMAND', async () => {
  const { rig, file, events, dma } = busyRig();
  const suspending = rig.machine.suspend();
  for (const event of events) if (event.kind === 'suspend') event.acknowledge();
  await suspending;
  setCommand(file, MEMORY | MASTER);
  expect(dma()).toBe(Dma.REMOTE);
});

it('S2-42 suspend: a user who does not answer is waited for five seconds', async () => {
  const { rig, dma } = busyRig();
  const suspending = rig.machine.suspend();
  rig.clock.advance(4_999);
  expect(dma()).toBe(Dma.DONE);
  rig.clock.advance(1);
  await suspending;
  expect(dma()).toBe(Dma.REMOTE);
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
  expect(rig.fn.host.dma.asleep).toBe(true);
});

it('S2-42 suspend: without a listener, or when the user closes instead of answering, there is no wait', async () => {
  const quiet = new DeviceRig();
  quiet.open();
  await quiet.machine.suspend();
  expect(quiet.fn.host.dma.asleep).toBe(true);
  const { rig, file } = busyRig();
  const suspending = rig.machine.suspend();
  file.close();
  await suspending;
  expect(rig.fn.host.dma.asleep).toBe(false);
});

it('S2-42 suspend: with several files, every one that listens acknowledges', async () => {
  const { rig, events } = busyRig();
  const second: DeviceEvent[] = [];
  rig.open().on((event) => second.push(event));
  const suspending = rig.device.suspend();
  expect(rig.device.suspend()).toBe(suspending);
  for (const event of events) if (event.kind === 'suspend') event.acknowledge();
  expect(rig.fn.host.dma.asleep).toBe(false);
  for (const event of second) if (event.kind === 'suspend') event.acknowledge();
  expect(rig.fn.host.dma.asleep).toBe(true);
  await suspending;
});

it('S2-42 resume: configuration is back on a device that forgot it, DMA works, and the user hears of it', async () => {
  const { rig, file, events, dma } = busyRig(sleepy);
  const before = [...rig.fn.config.bytes];
  const mapping = file.region(0).map();
  const suspending = rig.machine.suspend();
  for (const event of events) if (event.kind === 'suspend') event.acknowledge();
  await suspending;
  expect(rig.device.power.state).toBe('D3hot');
  expect(errnoFrom(() => mapping.read32(0))).toBe('BusError');
  rig.machine.resume();
  expect(events.map((event) => event.kind)).toEqual(['suspend', 'asleep', 'resume']);
  expect([...rig.fn.config.bytes]).toEqual(before);
  expect(dma()).toBe(Dma.DONE);
  expect(mapping.read32(0)).toBe(0);
  rig.device.resume();
  expect(events).toHaveLength(3);
});

it('S2-42 a device closed while the machine sleeps is as after any close', async () => {
  const { rig, file, events } = busyRig(sleepy);
  const suspending = rig.device.suspend();
  for (const event of events) if (event.kind === 'suspend') event.acknowledge();
  await suspending;
  file.close();
  expect(rig.fn.host.dma.asleep).toBe(false);
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
  expect(rig.fn.host.dma.asleep).toBe(false);
  expect(rig.clock.pendingTimers).toBe(0);
});

it('S2-42 nothing is lost: DMA, messages, the pin and timers of a sleeping device go on at resume', async () => {
  const { rig, file, memory, events } = busyRig({ ...resettable, capabilities: [pcie({ flr: true }), pm()] });
  const { host } = rig.model;
  const sink = new FakeEventFd();
  file.setIrqs({ index: IrqIndex.INTX, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [sink] });
  const done: string[] = [];
  host.clock.after(100, () => done.push('timer'));
  rig.clock.advance(60);
  void rig.machine.suspend();
  for (const event of events) if (event.kind === 'suspend') event.acknowledge();
  const buffer = Uint8Array.of(7);
  const write = host.dma.write(8, buffer).then(() => done.push('written'));
  buffer[0] = 9;
  host.irq.raise();
  const before = host.clock.nowNs();
  rig.clock.advance(100_000);
  await Promise.resolve();
  expect([done, sink.count, memory.windows[0]![8], host.clock.nowNs()]).toEqual([[], 0, 0, before]);
  rig.machine.resume();
  await write;
  expect([memory.windows[0]![8], rig.fn.host.dma.faultCount, sink.count]).toEqual([7, 0, 1]);
  rig.clock.advance(39);
  expect(done).toEqual(['written']);
  rig.clock.advance(1);
  expect(done).toEqual(['written', 'timer']);
});

it('S2-42 messages of a sleeping device are sent at resume', async () => {
  const { rig, file } = busyRig({ ...resettable, capabilities: [pcie({ flr: true }), pm(), msi()] });
  const sink = new FakeEventFd();
  file.setIrqs({ index: IrqIndex.MSI, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [sink] });
  void rig.machine.suspend();
  rig.clock.advance(5_000);
  expect([rig.model.host.irq.trigger(0), sink.count]).toEqual([true, 0]);
  rig.machine.resume();
  expect([sink.count, rig.fn.host.irq.dropped.notPowered]).toEqual([1, 0]);
});

it('S2-42 only listeners that hear of suspend are waited for, each of them, and no longer than they listen', async () => {
  const rig = new DeviceRig();
  const file = rig.open();
  file.on(() => {}, ['gone', 'resume', 'asleep']);
  await rig.machine.suspend();
  expect(rig.fn.host.dma.asleep).toBe(true);
  rig.machine.resume();
  const asked: (() => void)[] = [];
  for (let i = 0; i < 2; i++) file.on((event) => event.kind === 'suspend' && asked.push(event.acknowledge), ['suspend']);
  const leaving = file.on(() => {});
  const suspending = rig.machine.suspend();
  asked[0]!();
  leaving[Symbol.dispose]();
  expect(rig.fn.host.dma.asleep).toBe(false);
  asked[1]!();
  await suspending;
  expect(rig.fn.host.dma.asleep).toBe(true);
  expect(errnoFrom(() => file.on(() => {}, ['sleep' as never]))).toBe('EINVAL');
});

it('S2-42 a file that is closed while a mapping holds it is not waited for', async () => {
  const { rig, file } = busyRig();
  using _mapping = file.region(0).map();
  const suspending = rig.machine.suspend();
  file.close();
  await suspending;
  expect(rig.fn.host.dma.asleep).toBe(true);
});

it('S2-42 awake() settles at resume, and when the device is closed', async () => {
  const { rig, file } = busyRig();
  expect(file.awake()).toBe(null);
  void rig.machine.suspend();
  rig.clock.advance(5_000);
  let awake = false;
  const waiting = file.awake()!.then(() => {
    awake = true;
  });
  await Promise.resolve();
  expect(awake).toBe(false);
  rig.machine.resume();
  await waiting;
  expect(file.awake()).toBe(null);
});

it('S2-42 B.10 WITH_WAKEUP: a wake-up while the machine sleeps is heard of at resume', async () => {
  const rig = new DeviceRig({ ...resettable, capabilities: [pcie({ flr: true }), pm({ pme: true })] });
  const sink = new FakeEventFd();
  rig.open().lowPower.enterWithWakeup(sink);
  await rig.machine.suspend();
  expect(rig.model.host.wake()).toBe(true);
  expect(sink.count).toBe(0);
  rig.machine.resume();
  expect(sink.count).toBe(1);
});

it('S2-41 the driver kit does not count as a user who hears of requests: the log says that no user listens', () => {
  const rig = new DeviceRig();
  const file = rig.open();
  using _dev = DriverDevice.attach(file, { clock: rig.clock });
  void rig.machine.unbind(rig.bdf);
  expect(rig.logged.filter((line) => line.includes('no user listens'))).toHaveLength(1);
});

it('S2-42 the driver kit acknowledges at once; its timeouts do not run while the machine sleeps', async () => {
  const rig = new DeviceRig({ ...resettable, capabilities: [pcie({ flr: true }), pm(), msi()] });
  using dev = DriverDevice.attach(rig.open(), { clock: rig.clock });
  dev.busMaster = true;
  using irq = dev.msi.enable(1);
  let outcome = 'waiting';
  const waiting = irq.next(0, { timeoutMs: 1000 }).then(
    () => (outcome = 'interrupt'),
    (error: VfioError) => (outcome = error.code),
  );
  await rig.machine.suspend();
  expect([dev.asleep, rig.logged.filter((line) => line.includes('acknowledge'))]).toEqual([true, []]);
  rig.clock.advance(60_000);
  await Promise.resolve();
  expect(outcome).toBe('waiting');
  const awake = dev.awake();
  rig.machine.resume();
  await awake;
  rig.clock.advance(999);
  await Promise.resolve();
  expect(outcome).toBe('waiting');
  rig.model.host.irq.trigger(0);
  await waiting;
  expect(outcome).toBe('interrupt');
});
