import { expect, it } from 'vitest';
import { DeviceRig, plain, resettable, setCommand } from '../../../tests/kit/device-rig.ts';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import type { InterruptSink } from '../../abi/device.ts';
import { Dma } from '../../abi/device-host.ts';
import { Command } from '../../abi/pci.ts';
import { Feature, IrqIndex } from '../../abi/vfio.ts';
import { featureBytes } from '../../device/feature-bytes.ts';
import { pcie, pm } from '../../pci/capabilities.ts';
import { FakeEventFd } from '../../sys/fake.ts';
import type { DeviceFile } from './device-file.ts';

const { MEMORY, MASTER } = Command;
const sleepy = { ...resettable, capabilities: [pcie({ flr: true }), pm()] };
const forgetful = { ...resettable, capabilities: [pcie({ flr: true }), pm({ noSoftReset: false })] };

const entry = (file: DeviceFile) => file.lowPower.enter();
const exit = (file: DeviceFile) => file.lowPower.exit();
const entryWithWakeup = (file: DeviceFile, sink: FakeEventFd | null) => file.lowPower.enterWithWakeup(sink as InterruptSink);

it('B.10 LOW_POWER_ENTRY: mappings fault until EXIT, other accesses wake the device for as long as they take', () => {
  const rig = new DeviceRig(sleepy);
  const file = rig.open();
  const mapping = file.region(0).map();
  rig.model.powers.length = 0;
  entry(file);
  expect(rig.device.power.state).toBe('D3hot');
  expect(errnoFrom(() => mapping.read32(0))).toBe('BusError');
  expect(file.region(0).read32(0)).toBe(0);
  expect(file.region(0).read(0, new Uint8Array(4))).toBe(4);
  file.region(0).write32(0, 7);
  expect(rig.device.power.state).toBe('D3hot');
  expect(rig.model.powers).toEqual(['D3hot', 'D0', 'D3hot', 'D0', 'D3hot', 'D0', 'D3hot']);
  expect(errnoFrom(() => mapping.read32(0))).toBe('BusError');
  exit(file);
  expect(rig.device.power.state).toBe('D0');
  expect(mapping.read32(0)).toBe(7);
});

it('B.10 LOW_POWER_ENTRY: a second one is EINVAL', () => {
  const rig = new DeviceRig(sleepy);
  const file = rig.open();
  entry(file);
  expect(errnoFrom(() => entry(file))).toBe('EINVAL');
  const sink = new FakeEventFd();
  expect(errnoFrom(() => entryWithWakeup(file, sink))).toBe('EINVAL');
  expect(sink.references).toBe(1);
  expect(rig.device.power.state).toBe('D3hot');
});

it('B.10 LOW_POWER_ENTRY: works on a device without power management, which then only loses its mappings', () => {
  const rig = new DeviceRig(plain);
  const file = rig.open();
  const mapping = file.region(0).map();
  entry(file);
  expect(rig.model.powers).toEqual([]);
  expect(errnoFrom(() => mapping.read32(0))).toBe('BusError');
  exit(file);
  expect(errnoFrom(() => mapping.read32(0))).toBe('none');
});

it('B.10 LOW_POWER_ENTRY: DMA is cut while the device sleeps', () => {
  const rig = new DeviceRig(sleepy);
  const file = rig.open();
  setCommand(file, MEMORY | MASTER);
  entry(file);
  expect(rig.model.host.dma.tryWrite(0, Uint8Array.of(1))).toBe(Dma.FAULT);
  expect(rig.fn.host.dma.faults['not-powered']).toBe(1);
  expect(rig.model.host.irq.trigger(0)).toBe(false);
});

it('B.10 WITH_WAKEUP: the first access signals once and ends the mode', () => {
  const rig = new DeviceRig(sleepy);
  const file = rig.open();
  const sink = new FakeEventFd();
  entryWithWakeup(file, sink);
  expect([sink.count, sink.references, rig.device.power.state]).toEqual([0, 2, 'D3hot']);
  file.region(0).read32(0);
  expect([sink.count, sink.references, rig.device.power.state]).toEqual([1, 1, 'D0']);
  file.region(0).read32(0);
  expect(sink.count).toBe(1);
  entryWithWakeup(file, sink);
  exit(file);
  expect([sink.count, sink.references, rig.device.power.engaged]).toEqual([2, 1, false]);
});

it('B.10 WITH_WAKEUP: without a descriptor EINVAL', () => {
  const rig = new DeviceRig(sleepy);
  const file = rig.open();
  expect(errnoFrom(() => entryWithWakeup(file, null))).toBe('EINVAL');
  const data = new Uint8Array(8);
  expect(errnoFrom(() => featureBytes(file, { feature: Feature.LOW_POWER_ENTRY_WITH_WAKEUP, set: true, data }))).toBe('EINVAL');
  expect(rig.device.power.engaged).toBe(false);
});

it('B.10 WITH_WAKEUP: with one that is closed EBADF, and low power was not entered', () => {
  const rig = new DeviceRig(sleepy);
  const file = rig.open();
  const closed = new FakeEventFd();
  closed.put();
  expect(errnoFrom(() => entryWithWakeup(file, closed))).toBe('EBADF');
  expect([rig.device.power.engaged, rig.device.power.state]).toEqual([false, 'D0']);
  file.region(0).map().read32(0);
  entry(file);
  expect(rig.device.power.state).toBe('D3hot');
});

it('B.10 WITH_WAKEUP: a wake-up from outside signals it; without one the device goes back to sleep', () => {
  const rig = new DeviceRig(sleepy);
  const file = rig.open();
  const sink = new FakeEventFd();
  entryWithWakeup(file, sink);
  rig.device.wake();
  expect([sink.count, rig.device.power.state]).toEqual([1, 'D0']);
  entry(file);
  rig.device.wake();
  expect(rig.device.power.state).toBe('D3hot');
  exit(file);
  rig.device.wake();
  expect(rig.device.power.state).toBe('D0');
});

it('B.10 WITH_WAKEUP: closing lets the descriptor go without a signal', () => {
  const rig = new DeviceRig(sleepy);
  const file = rig.open();
  const sink = new FakeEventFd();
  entryWithWakeup(file, sink);
  file.close();
  expect([sink.count, sink.references]).toEqual([0, 1]);
  expect(rig.device.power.engaged).toBe(false);
  expect(errnoFrom(() => rig.open().region(0).map().read32(0))).toBe('none');
});

it('B.10 EXIT: idempotent', () => {
  const rig = new DeviceRig(sleepy);
  const file = rig.open();
  expect([errnoFrom(() => exit(file)), errnoFrom(() => exit(file))]).toEqual(['none', 'none']);
  entry(file);
  expect([errnoFrom(() => exit(file)), errnoFrom(() => exit(file))]).toEqual(['none', 'none']);
  expect(rig.device.power.state).toBe('D0');
});

it('B.10 INTx: masked while the device sleeps, unmasked after, unless the user had masked it', () => {
  const rig = new DeviceRig({ ...sleepy, interruptPin: 1 });
  const file = rig.open();
  const sink = new FakeEventFd();
  file.setIrqs({ index: IrqIndex.INTX, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [sink] });
  entry(file);
  expect(rig.fn.config.intxDisabled).toBe(true);
  exit(file);
  expect(rig.fn.config.intxDisabled).toBe(false);
  file.setIrqs({ index: IrqIndex.INTX, start: 0, count: 1, action: 'mask', data: 'none' });
  entry(file);
  exit(file);
  expect(rig.fn.config.intxDisabled).toBe(true);
});

it('B.10 the configuration survives sleep on a device that forgets it', () => {
  const rig = new DeviceRig(forgetful);
  const file = rig.open();
  setCommand(file, MEMORY | MASTER);
  const before = [...rig.fn.config.bytes];
  const resets = rig.model.resets;
  entry(file);
  exit(file);
  expect([...rig.fn.config.bytes]).toEqual(before);
  expect(rig.model.resets).toBe(resets + 1);
});

it("B.10 a user's own D3hot is left when low power is over: waking means D0", () => {
  const rig = new DeviceRig(sleepy);
  const file = rig.open();
  file.region(7).write16(rig.fn.config.findCapability(1) + 4, 3);
  entry(file);
  exit(file);
  expect(rig.device.power.state).toBe('D0');
});

it('B.7 runtime pm: every request wakes the device, and it sleeps again after', () => {
  const rig = new DeviceRig(sleepy);
  const file = rig.open();
  entry(file);
  const requests = [
    () => file.info,
    () => file.irq(0),
    () => file.setIrqs({ index: IrqIndex.REQ, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [null] }),
    () => file.reset(),
    () => errnoFrom(() => file.hotResetInfo()),
    () => errnoFrom(() => file.feature({ feature: 999 })),
    () => errnoFrom(() => file.ioeventfd({ region: 9, offset: 0, size: 4, data: 0n, source: null })),
    () => file.region(7).read32(0),
  ];
  for (const request of requests) {
    rig.model.powers.length = 0;
    request();
    expect(rig.model.powers).toEqual(['D0', 'D3hot']);
    expect(rig.device.power.asleep).toBe(true);
  }
});

it('S2-43 a power management cycle by a driver keeps BARs and COMMAND, with and without No_Soft_Reset', () => {
  for (const declaration of [sleepy, forgetful]) {
    const rig = new DeviceRig(declaration);
    const file = rig.open();
    const config = file.region(7);
    const control = rig.fn.config.findCapability(1) + 4;
    setCommand(file, MEMORY | MASTER);
    const bars = [config.read32(0x10), config.read16(4)];
    for (let i = 0; i < 3; i++) {
      config.write16(control, (config.read16(control) & ~3) | 3);
      expect(errnoFrom(() => file.region(0).read32(0))).toBe('EIO');
      config.write16(control, config.read16(control) & ~3);
      expect([config.read32(0x10), config.read16(4)]).toEqual(bars);
      expect(file.region(0).read32(0)).toBe(0);
    }
  }
});
