import { expect, it } from 'vitest';
import { DeviceRig, plain, resettable, setCommand } from '../../../tests/kit/device-rig.ts';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import { Command } from '../../abi/pci.ts';
import { IrqIndex } from '../../abi/vfio.ts';
import { msix, pcie, pm } from '../../pci/capabilities.ts';
import type { PciDeclaration } from '../../pci/declaration.ts';
import { FakeEventFd } from '../../sys/fake.ts';

const { MEMORY, MASTER } = Command;

const sleepy: PciDeclaration = { ...resettable, capabilities: [pcie({ flr: true }), pm()] };

it('B.8 mmap: whole pages within the region, rounded up to a page', () => {
  const file = new DeviceRig(plain).open();
  const bar = file.region(0);
  expect(bar.map().size).toBe(0x100000);
  expect(bar.map(0x1000).size).toBe(0xff000);
  expect(bar.map(0x1000, 1).size).toBe(0x1000);
  const refused = [
    [0, 0],
    [0, 0x101000],
    [0x100000, 0x1000],
    [0xff000, 0x1001],
    [0x800, 0x1000],
    [0, Number.NaN],
    [Number.NaN, 0x1000],
    [-0x1000, 0x1000],
    [0, 2 ** 53],
    [2 ** 53, 0x1000],
    [0, 0.5 - 1],
  ] as const;
  for (const [offset, size] of refused)
    expect(
      errnoFrom(() => bar.map(offset, size)),
      `${offset} ${size}`,
    ).toBe('EINVAL');
  expect(file.mappings).toBe(3);
});

it('S2-40 offset and length are checked together, against the region rounded up to a page', () => {
  const rig = new DeviceRig({ ...resettable, bars: [{ index: 0, size: 0x2000, type: 'mem32' }] }, { pageSize: 16384 });
  rig.fn.config.setBarAddress(0, 0xd000_0000n);
  const bar = rig.open().region(0);
  expect(bar.map(0, 16384).size).toBe(16384);
  expect(errnoFrom(() => bar.map(0, 16385))).toBe('EINVAL');
  expect(errnoFrom(() => bar.map(16384, 1))).toBe('EINVAL');
});

it('B.8 mmap: loads and stores reach the registers; where the last page has no BAR nothing answers', () => {
  const rig = new DeviceRig({ ...resettable, bars: [{ index: 0, size: 0x100, type: 'mem32' }] });
  rig.fn.config.setBarAddress(0, 0xd000_0000n);
  const mapping = rig.open().region(0).map();
  mapping.write32(0x10, 0x1234_5678);
  mapping.write64(0x20, 0x1122_3344_5566_7788n);
  mapping.write8(0x30, 7);
  mapping.write16(0x32, 9);
  expect([mapping.read32(0x10), mapping.read16(0x12), mapping.read8(0x13), mapping.read8(0x30), mapping.read16(0x32)]).toEqual([
    0x1234_5678, 0x1234, 0x12, 7, 9,
  ]);
  expect(mapping.read64(0x20)).toBe(0x1122_3344_5566_7788n);
  expect(mapping.read32(0x21)).toBe(0x4455_6677);
  expect([mapping.size, mapping.read32(0xffc), mapping.read8(0x100)]).toEqual([0x1000, 0xffff_ffff, 0xff]);
  mapping.write32(0x800, 1);
  for (const offset of [0x1000, 0xffd, -4, Number.NaN, 0.5, 2 ** 53]) expect(errnoFrom(() => mapping.read32(offset))).toBe('EFAULT');
  for (const value of [-1, 2 ** 32, 1.5, Number.NaN]) expect(errnoFrom(() => mapping.write32(0, value))).toBe('EINVAL');
});

it('B.8 mmap: a mapping that starts inside the BAR counts from there', () => {
  const rig = new DeviceRig(plain);
  const mapping = rig.open().region(0).map(0x2000, 0x1000);
  mapping.write32(4, 5);
  expect(rig.model.accesses).toEqual(['w4 0+0x2004=0x5']);
});

it('S2-37 a mapping keeps the device open after close; the last one gone closes and resets it', () => {
  const rig = new DeviceRig();
  const file = rig.open();
  const a = file.region(0).map();
  const b = file.region(0).map(0, 4096);
  file.close();
  expect(errnoFrom(() => file.info)).toBe('ENODEV');
  expect(rig.device.openCount).toBe(1);
  expect(rig.group.deviceFiles).toHaveLength(1);
  a.write32(0, 42);
  expect(b.read32(0)).toBe(42);
  a[Symbol.dispose]();
  a[Symbol.dispose]();
  expect(rig.device.openCount).toBe(1);
  expect(rig.model.resets).toBe(1);
  b[Symbol.dispose]();
  expect(rig.device.openCount).toBe(0);
  expect(rig.model.resets).toBe(2);
  expect(errnoFrom(() => b.read32(0))).toBe('EFAULT');
});

it('S2-37 mapping, close and unplug: the unplug waits for the mapping', async () => {
  const rig = new DeviceRig();
  const file = rig.open();
  const mapping = file.region(0).map();
  file.close();
  let removed = false;
  const removing = rig.machine.remove(rig.bdf).then(() => {
    removed = true;
  });
  await Promise.resolve();
  expect(removed).toBe(false);
  expect(mapping.read32(0)).toBe(0);
  mapping[Symbol.dispose]();
  await removing;
  expect(removed).toBe(true);
});

it('S2-37 and B.8 zap: a mapping faults while memory decoding is off and works again when it is on', () => {
  const rig = new DeviceRig();
  const file = rig.open();
  const mapping = file.region(0).map();
  setCommand(file, 0);
  expect(errnoFrom(() => mapping.read32(0))).toBe('BusError');
  expect(errnoFrom(() => mapping.write64(0, 1n))).toBe('BusError');
  expect(errnoFrom(() => mapping.read8(0x10_0000 - 1))).toBe('BusError');
  expect(rig.model.accesses).toEqual([]);
  setCommand(file, MEMORY);
  expect(mapping.read32(0)).toBe(0);
});

it('B.8 zap: a D3hot write, a reset and a reset through config space revoke mappings while they last', () => {
  const rig = new DeviceRig(sleepy);
  const file = rig.open();
  const mapping = file.region(0).map();
  const config = file.region(7);
  const control = rig.fn.config.findCapability(1) + 4;
  config.write16(control, 3);
  expect(errnoFrom(() => mapping.read32(0))).toBe('BusError');
  config.write16(control, 0);
  expect(errnoFrom(() => mapping.read32(0))).toBe('none');
  const during: unknown[] = [];
  rig.model.onReset = () => {
    during.push(
      errnoFrom(() => mapping.read32(0)),
      errnoFrom(() => file.region(0).read32(0)),
    );
  };
  file.reset();
  const deviceControl = rig.fn.config.findCapability(0x10) + 8;
  config.write16(deviceControl, 0x8000);
  expect(during).toEqual(['BusError', 'EIO', 'BusError', 'EIO']);
  expect(errnoFrom(() => mapping.read32(0))).toBe('none');
});

it('S2-37 the memory behind a plain-memory BAR is named, held by the mapping, and absent for registers', () => {
  const rig = new DeviceRig({
    ...resettable,
    bars: [
      { index: 0, size: 0x1000, type: 'mem32' },
      { index: 2, size: 0x10000, type: 'mem64', backing: 'memory' },
    ],
  });
  const file = rig.open();
  expect(file.region(0).map().memory).toBe(null);
  const mapping = file.region(2).map(0x2000, 0x1000);
  const memory = rig.model.host.barMemory(2);
  expect(mapping.memory).toEqual({ memory, offset: 0x2000 });
  expect(memory.references).toBe(2);
  mapping.write32(8, 0xdead_beef);
  expect(new DataView(memory.windows[0]!.buffer).getUint32(0x2008, true)).toBe(0xdead_beef);
  mapping[Symbol.dispose]();
  expect(memory.references).toBe(1);
});

it('S2-33 the MSI-X table may be mapped; what is written there cannot send a message that was not programmed', () => {
  const rig = new DeviceRig({
    ...resettable,
    bars: [{ index: 0, size: 0x2000, type: 'mem32' }],
    capabilities: [pcie({ flr: true }), msix({ vectors: 4, tableBar: 0, tableOffset: 0x1000, pbaBar: 0, pbaOffset: 0x1800 })],
  });
  const file = rig.open();
  const sink = new FakeEventFd();
  file.setIrqs({ index: IrqIndex.MSIX, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [sink] });
  setCommand(file, MEMORY | MASTER);
  const mapping = file.region(0).map();
  expect(rig.model.host.irq.trigger(0)).toBe(true);
  expect(sink.count).toBe(1);
  const address = mapping.read32(0x1000);
  mapping.write32(0x1000, 0xfee0_1000);
  expect(mapping.read32(0x1000)).toBe(0xfee0_1000);
  expect(rig.model.host.irq.trigger(0)).toBe(false);
  expect(rig.fn.host.irq.dropped.remapped).toBe(1);
  mapping.write32(0x1000, address);
  expect(rig.model.host.irq.trigger(0)).toBe(true);
  expect(rig.model.accesses).toEqual([]);
});
