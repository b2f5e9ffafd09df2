import { expect, it } from 'vitest';
import { DeviceRig, plain, resettable, setCommand } from '../../../tests/kit/device-rig.ts';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import { RegionFlags } from '../../abi/vfio.ts';
import type { PciDeclaration } from '../../pci/declaration.ts';

const { READ, WRITE, MMAP, CAPS } = RegionFlags;
const AREA = { offset: 0x1000, size: 0x1000 };
const areas: PciDeclaration = { ...resettable, bars: [{ index: 0, size: 0x4000, type: 'mem32', sparseAreas: [AREA] }] };

it('B.8 areas of a BAR of registers: only they can be mapped, and have memory behind them', () => {
  const rig = new DeviceRig(areas);
  const region = rig.open().region(0);
  expect(region.info).toMatchObject({ flags: READ | WRITE | MMAP | CAPS, size: 0x4000, sparseAreas: [AREA] });
  expect(errnoFrom(() => region.map())).toBe('EINVAL');
  expect(errnoFrom(() => region.map(0x1000, 0x2000))).toBe('EINVAL');
  using mapping = region.map(0x1000, 0x1000);
  expect(mapping.memory).toMatchObject({ offset: 0x1000, holds: [AREA] });
  expect(mapping.memory!.memory).toBe(rig.model.host.barMemory(0));
});

it('accesses reach the model, through the region and through a mapping in this process', () => {
  const rig = new DeviceRig(areas);
  const region = rig.open().region(0);
  using mapping = region.map(0x1000, 0x1000);
  rig.model.accesses.length = 0;
  region.write32(0x1004, 1);
  mapping.write32(4, 2);
  expect(mapping.read32(4)).toBe(2);
  expect(rig.model.accesses).toEqual(['w4 0+0x1004=0x1', 'w4 0+0x1004=0x2', 'r4 0+0x1004']);
  setCommand(rig.open(), 0);
  expect(() => mapping.read32(4)).toThrow(/memory decoding is off/);
});

it('the next user gets other memory, a reset of the same user does not', () => {
  const rig = new DeviceRig(areas);
  const file = rig.open();
  const before = rig.model.host.barMemory(0).get();
  before.windows[0]![0x1000] = 1;
  file.reset();
  expect(rig.model.host.barMemory(0)).toBe(before);
  let inReset = null as unknown;
  rig.model.onReset = () => {
    inReset = rig.model.host.barMemory(0);
  };
  file.close();
  const next = rig.open();
  const after = rig.model.host.barMemory(0);
  expect(after).not.toBe(before);
  expect(inReset).toBe(after);
  expect(after.windows[0]![0x1000]).toBe(0);
  // The first user can store to its mapping for as long as it lives.
  before.windows[0]![0x1000] = 2;
  expect(after.windows[0]![0x1000]).toBe(0);
  expect(before.references).toBe(1);
  before.put();
  next.close();
});

it('a host with larger pages lets users map none of the BAR', () => {
  const region = new DeviceRig(areas, { pageSize: 0x4000 }).open().region(0);
  expect(region.info).toEqual({ index: 0, flags: READ | WRITE, size: 0x4000 });
  expect(errnoFrom(() => region.map(0x1000, 0x1000))).toBe('EINVAL');
});

it('a BAR with areas is no DMA buffer', () => {
  const file = new DeviceRig(areas).open();
  expect(errnoFrom(() => file.exportDmaBuf({ region: 0, ranges: [{ offset: 0x1000n, length: 0x1000n }] }))).toBe('EOPNOTSUPP');
});

it.each([
  ['inside a page', { offset: 0x1800, size: 0x1000 }],
  ['of a part of a page', { offset: 0x1000, size: 0x800 }],
  ['of nothing', { offset: 0x1000, size: 0 }],
  ['past the end', { offset: 0x3000, size: 0x2000 }],
])('EINVAL for an area %s', (_, area) => {
  expect(errnoFrom(() => new DeviceRig({ ...areas, bars: [{ ...areas.bars![0]!, sparseAreas: [area] }] }))).toBe('EINVAL');
});

it.each([
  ['that overlap', { sparseAreas: [AREA, AREA] }],
  ['of plain memory', { backing: 'memory' as const }],
  ['of a BAR that cannot be mapped', { mappable: false }],
])('EINVAL for areas %s', (_, more) => {
  expect(errnoFrom(() => new DeviceRig({ ...plain, bars: [{ ...areas.bars![0]!, ...more }] }))).toBe('EINVAL');
});
