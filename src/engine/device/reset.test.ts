import { expect, it } from 'vitest';
import { command, DeviceRig, plain, resettable, setCommand } from '../../../tests/kit/device-rig.ts';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import { Command } from '../../abi/pci.ts';
import { IrqIndex } from '../../abi/vfio.ts';
import { af, msi, msix, pcie, pm } from '../../pci/capabilities.ts';
import type { PciDeclaration } from '../../pci/declaration.ts';
import { FakeEventFd } from '../../sys/fake.ts';
import { resetMethods } from './reset.ts';

const { MEMORY, MASTER } = Command;

const methodsOf = (declaration: PciDeclaration, behindPort = false) => resetMethods(new DeviceRig(declaration, { behindPort }).fn);

it('B.8 RESET: methods in Linux order, by what the capabilities promise', () => {
  const all = { ...plain, capabilities: [pcie({ flr: true }), af(), pm({ noSoftReset: false })] };
  expect(methodsOf(all)).toEqual(['flr', 'af_flr', 'pm']);
  expect(methodsOf(all, true)).toEqual(['flr', 'af_flr', 'pm', 'bus']);
  expect(methodsOf(plain)).toEqual([]);
  expect(methodsOf(plain, true)).toEqual(['bus']);
  expect(methodsOf({ ...plain, capabilities: [pcie({ flr: false })] })).toEqual([]);
  expect(methodsOf({ ...plain, capabilities: [pm({ noSoftReset: true })] })).toEqual([]);
  expect(methodsOf({ ...plain, capabilities: [af({ flr: false })] })).toEqual([]);
});

it('B.8 RESET: a declaration may say which of its methods work', () => {
  const all = { ...plain, capabilities: [pcie({ flr: true }), af(), pm({ noSoftReset: true })] };
  expect(methodsOf({ ...all, resets: [] })).toEqual([]);
  expect(methodsOf({ ...all, resets: ['af', 'pm'] })).toEqual(['af_flr']);
  expect(methodsOf({ ...plain, resets: ['flr'] })).toEqual(['flr']);
});

it('B.8 RESET: a bus reset is no reset of one device when others share the bus', () => {
  const rig = new DeviceRig(plain, { behindPort: true, others: [{ at: '00.1', id: '1234:0001', driver: null }] });
  expect(resetMethods(rig.fn)).toEqual([]);
});

it.each([
  ['flr', { ...plain, capabilities: [pcie({ flr: true })] }, false],
  ['af_flr', { ...plain, capabilities: [af()] }, false],
  ['pm', { ...plain, capabilities: [pm({ noSoftReset: false })] }, false],
  ['bus', plain, true],
] as const)('B.8 RESET: by %s the model is reset once and its configuration is back', (method, declaration, behindPort) => {
  const rig = new DeviceRig(declaration, { behindPort, params: { disableIdleD3: true } });
  expect(resetMethods(rig.fn)).toEqual([method]);
  const file = rig.open();
  const bar = file.region(0);
  setCommand(file, MEMORY | MASTER);
  bar.write32(0, 5);
  const before = [...rig.fn.config.bytes];
  const resets = rig.model.resets;
  file.reset();
  expect(rig.model.resets).toBe(resets + 1);
  expect(bar.read32(0)).toBe(0);
  expect([...rig.fn.config.bytes]).toEqual(before);
});

it('B.8 RESET: bus mastering stays as the user had it, but is off while the device resets', () => {
  const rig = new DeviceRig();
  const file = rig.open();
  setCommand(file, MEMORY | MASTER);
  let during = true;
  rig.model.onReset = () => {
    during = rig.fn.host.busMaster;
  };
  file.reset();
  expect(during).toBe(false);
  expect(command(file) & MASTER).toBe(MASTER);
});

it.each([
  ['MSI', IrqIndex.MSI],
  ['MSI-X', IrqIndex.MSIX],
] as const)('B.9 vector re-arm: %s goes on after a reset', (_name, index) => {
  const rig = new DeviceRig({
    ...resettable,
    capabilities: [pcie({ flr: true }), msi(), msix({ vectors: 2, tableBar: 0, tableOffset: 0x2000, pbaBar: 0, pbaOffset: 0x3000 })],
  });
  const file = rig.open();
  const sink = new FakeEventFd();
  file.setIrqs({ index, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [sink] });
  setCommand(file, MEMORY | MASTER);
  file.reset();
  expect(rig.model.host.irq.trigger(0)).toBe(true);
  expect(sink.count).toBe(1);
});

it('B.8 RESET: EAGAIN while the device lock is held, and nothing has changed', () => {
  const rig = new DeviceRig({ ...resettable, capabilities: [pcie({ flr: true }), pm()] });
  const file = rig.open();
  const control = rig.fn.config.findCapability(1) + 4;
  file.region(7).write16(control, 3);
  using _held = rig.device.lock('another driver');
  expect(errnoFrom(() => file.reset())).toBe('EAGAIN');
  expect(rig.device.power.state).toBe('D3hot');
  expect(rig.model.resets).toBe(1);
});

it('B.8 RESET: moves the device to D0 first', () => {
  const rig = new DeviceRig({ ...resettable, capabilities: [pcie({ flr: true }), pm()] });
  const file = rig.open();
  file.region(7).write16(rig.fn.config.findCapability(1) + 4, 3);
  file.reset();
  expect(rig.device.power.state).toBe('D0');
  expect(file.region(0).read32(0)).toBe(0);
});

it('B.8 RESET: a reset that fails is reported, and the configuration is whole', () => {
  const rig = new DeviceRig();
  const file = rig.open();
  setCommand(file, MEMORY | MASTER);
  const before = [...rig.fn.config.bytes];
  rig.faults.failNext('device.reset', 'EIO');
  expect(errnoFrom(() => file.reset())).toBe('EIO');
  expect([...rig.fn.config.bytes]).toEqual(before);
  expect(rig.fn.host.lockedBy).toBe(null);
  expect(errnoFrom(() => file.region(0).read32(0))).toBe('none');
});

it('B.8 RESET: a reset bit written in config space resets once and reads 0; a held lock makes it do nothing', () => {
  const rig = new DeviceRig();
  const file = rig.open();
  const config = file.region(7);
  const control = rig.fn.config.findCapability(0x10) + 8;
  file.region(0).write32(0, 5);
  config.write16(control, config.read16(control) | 0x8000);
  expect(rig.model.resets).toBe(2);
  expect(config.read16(control) & 0x8000).toBe(0);
  expect(file.region(0).read32(0)).toBe(0);
  using _held = rig.device.lock('another driver');
  config.write16(control, config.read16(control) | 0x8000);
  expect(rig.model.resets).toBe(2);
});

it('B.8 RESET: a model that throws while it resets is logged, and the device goes on', () => {
  const rig = new DeviceRig();
  const file = rig.open();
  rig.model.onReset = () => {
    throw new Error('bug in reset');
  };
  expect(errnoFrom(() => file.reset())).toBe('none');
  expect(rig.logged.filter((line) => line.includes('bug in reset'))).toHaveLength(1);
});
