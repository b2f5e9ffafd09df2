import { expect, it } from 'vitest';
import { command, DeviceRig, setCommand } from '../../../tests/kit/device-rig.ts';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import type { DeviceEvent } from '../../abi/device.ts';
import { Dma } from '../../abi/device-host.ts';
import { Command } from '../../abi/pci.ts';
import { IrqIndex } from '../../abi/vfio.ts';
import { FakeEventFd, HeapMemory } from '../../sys/fake.ts';
import { DeviceFile } from './device-file.ts';

const { MEMORY, MASTER } = Command;

function requestSink(file: DeviceFile): FakeEventFd {
  const sink = new FakeEventFd();
  file.setIrqs({ index: IrqIndex.REQ, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [sink] });
  return sink;
}

it('S2-41 unplug: users are asked at once and every ten seconds until they close the device', async () => {
  const rig = new DeviceRig();
  const file = rig.open();
  const sink = requestSink(file);
  let done = false;
  const removing = rig.machine.remove(rig.bdf).then(() => {
    done = true;
  });
  expect(sink.count).toBe(1);
  rig.clock.advance(9_999);
  expect(sink.count).toBe(1);
  rig.clock.advance(1);
  expect(sink.count).toBe(2);
  rig.clock.advance(30_000);
  expect(sink.count).toBe(5);
  expect(done).toBe(false);
  file.close();
  await removing;
  expect(done).toBe(true);
  expect(rig.clock.pendingTimers).toBe(0);
  rig.clock.advance(60_000);
  expect(sink.count).toBe(5);
});

it('S2-41 unplug: the device works until its users close it, but is opened no more', () => {
  const rig = new DeviceRig();
  const file = rig.open();
  const { device } = rig;
  void device.unregister();
  expect(errnoFrom(() => DeviceFile.open(device, rig.group, { container: rig.container, ids: null }, rig.machine.process))).toBe('ENODEV');
  expect(errnoFrom(() => rig.open())).toBe('ENODEV');
  expect(file.region(0).read32(0)).toBe(0);
  expect(command(file) & MEMORY).toBe(MEMORY);
});

it('S2-41 unplug: without anybody to tell, one warning and patience', async () => {
  const rig = new DeviceRig();
  const file = rig.open();
  const removing = rig.machine.remove(rig.bdf);
  rig.clock.advance(1_000_000);
  expect(rig.logged.filter((line) => line.includes('no user listens for release requests'))).toHaveLength(1);
  file.close();
  await removing;
});

it('S2-41 unplug: a listener is asked like a sink, and no warning is due', async () => {
  const rig = new DeviceRig();
  const file = rig.open();
  const events: DeviceEvent['kind'][] = [];
  file.on((event) => events.push(event.kind));
  const removing = rig.machine.remove(rig.bdf);
  rig.clock.advance(20_000);
  expect(events).toEqual(['request', 'request', 'request']);
  expect(rig.logged).toEqual([]);
  file.close();
  await removing;
});

it('S2-41 unplug: a user who closes the device when asked is not asked again', async () => {
  const rig = new DeviceRig();
  const file = rig.open();
  let asked = 0;
  file.on((event) => {
    if (event.kind !== 'request') return;
    asked++;
    file.close();
  });
  await rig.machine.remove(rig.bdf);
  expect(asked).toBe(1);
  expect(rig.clock.pendingTimers).toBe(0);
});

it('B.7 unregister: at once without users; the same promise when asked twice', async () => {
  const rig = new DeviceRig();
  const { device } = rig;
  const promise = device.unregister();
  expect(device.unregister()).toBe(promise);
  await promise;
  expect(rig.clock.pendingTimers).toBe(0);
  expect(errnoFrom(() => DeviceFile.open(device, rig.group, { container: rig.container, ids: null }, rig.machine.process))).toBe('ENODEV');
});

it('B.7 unregister: with several files it waits for the last', async () => {
  const rig = new DeviceRig();
  const files = [rig.open(), rig.open()];
  let done = false;
  const unbinding = rig.machine.unbind(rig.bdf).then(() => {
    done = true;
  });
  files[0]!.close();
  await Promise.resolve();
  expect(done).toBe(false);
  files[1]!.close();
  await unbinding;
  expect(rig.fn.driver).toBe(null);
});

it('S2-41 forced revocation (E-08): after the grace period the device is taken away', async () => {
  const rig = new DeviceRig(undefined, { params: { forceRevokeAfterMs: 25_000 } });
  const file = rig.open();
  const sink = requestSink(file);
  const message = new FakeEventFd();
  file.setIrqs({ index: IrqIndex.MSI, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [message] });
  const memory = HeapMemory.allocate(4096);
  file.dma.map({ iova: 0n, memory });
  setCommand(file, MEMORY | MASTER);
  const region = file.region(0);
  const mapping = region.map();
  const events: DeviceEvent[] = [];
  file.on((event) => events.push(event));
  const { model } = rig;
  const { host } = rig.fn;
  const removing = rig.machine.remove(rig.bdf);
  rig.clock.advance(24_999);
  expect(region.read32(0)).toBe(0);
  rig.clock.advance(1);
  await removing;
  expect(sink.count).toBe(3);
  expect(events.map((event) => event.kind)).toEqual(['request', 'request', 'request', 'gone']);
  const requests = [
    () => file.info,
    () => file.region(0),
    () => file.irq(0),
    () => file.setIrqs({ index: 0, start: 0, count: 0, action: 'trigger', data: 'none' }),
    () => file.reset(),
    () => file.hotResetInfo(),
    () => file.lowPower.exit(),
    () => file.ioeventfd({ region: 0, offset: 0, size: 4, data: 0n, source: null }),
    () => file.dma,
    () => file.on(() => {}),
    () => region.read(0, new Uint8Array(4)),
    () => region.read32(0),
    () => region.write32(0, 1),
    () => region.map(),
  ];
  expect(requests.map(errnoFrom)).toEqual(requests.map(() => 'ENODEV'));
  expect(errnoFrom(() => mapping.read32(0))).toBe('BusError');
  expect(errnoFrom(() => mapping.write8(0, 1))).toBe('BusError');
  expect([sink.references, message.references]).toEqual([1, 1]);
  expect(host.dma.tryWrite(0, Uint8Array.of(1))).toBe(Dma.FAULT);
  expect(host.irq.trigger(0)).toBe(false);
  expect(model.resets).toBe(2);
  expect(rig.clock.pendingTimers).toBe(0);
  mapping[Symbol.dispose]();
  file.close();
  expect(rig.group.deviceFiles).toEqual([]);
  expect(model.resets).toBe(2);
});

it('S2-41 forced revocation: a user who closes in time is not revoked', async () => {
  const rig = new DeviceRig(undefined, { params: { forceRevokeAfterMs: 25_000 } });
  const file = rig.open();
  const removing = rig.machine.remove(rig.bdf);
  rig.clock.advance(5_000);
  file.close();
  await removing;
  rig.clock.advance(100_000);
  expect(rig.logged.filter((line) => line.includes('taken from'))).toEqual([]);
});

it('S2-41 forced revocation: the device can be bound and used anew while the old file is still held', async () => {
  const rig = new DeviceRig(undefined, { params: { forceRevokeAfterMs: 0 } });
  const old = rig.open();
  const unbinding = rig.machine.unbind(rig.bdf);
  rig.clock.advance(0);
  await unbinding;
  rig.machine.bind(rig.bdf, 'vfio-pci');
  expect(errnoFrom(() => old.info)).toBe('ENODEV');
  old.close();
  expect(rig.device.openCount).toBe(0);
  rig.group.close();
  const group = rig.machine.openGroup(rig.fn.group!.id);
  const container = rig.machine.openContainer();
  group.setContainer(container);
  container.setIommu(3);
  expect(group.openDevice(rig.bdf).region(0).read32(0)).toBe(0);
});
