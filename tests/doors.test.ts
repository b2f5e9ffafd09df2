/** The doors of the package are enough for everything that README says. */

import { BusError, bar, capabilities, device, extendedCapabilities, u32 } from 'vfio-ts';
import {
  DmaMapFlags,
  Extension,
  estimateMemlock,
  FakeEventFd,
  HeapMemory,
  Machine,
  Process,
  RegionFlags,
  RegionIndex,
} from 'vfio-ts/machine';
import { expect, it } from 'vitest';

const card = device({
  id: '1234:cafe',
  bars: { bar0: bar('4K', { scratch: u32(0x10) }) },
  capabilities: [capabilities.vpd(new TextEncoder().encode('the card'))],
  extendedCapabilities: [extendedCapabilities.dsn(42n)],
});

it('house: a device with capabilities of its own, opened and mapped as VFIO does it, with names instead of numbers', () => {
  using machine = new Machine({ devices: [{ at: '04.0', model: card, driver: 'vfio-pci' }] }, { allocate: HeapMemory.allocate });
  const container = machine.openContainer();
  const group = machine.openGroup(machine.function('00:04.0').group!.id);
  group.setContainer(container);
  container.setIommu(Extension.TYPE1v2_IOMMU);
  using file = group.openDevice('0000:00:04.0');
  const registers = file.region(RegionIndex.BAR0);
  expect(registers.info.flags & RegionFlags.MMAP).toBe(RegionFlags.MMAP);
  using mapping = registers.map();
  const config = file.region(RegionIndex.CONFIG);
  config.write16(4, 0);
  expect(() => mapping.read32(0x10)).toThrow(BusError);
  config.write16(4, 2);
  mapping.write32(0x10, 7);
  expect(registers.read32(0x10)).toBe(7);

  const user = Process.user({ allocate: HeapMemory.allocate, memlockLimit: Number(estimateMemlock({ mappings: [4096] })) });
  const vaddr = user.addressSpace.anonymous(8192);
  const map = (iova: bigint) => container.mapDma({ process: user, vaddr, iova, size: 4096n, flags: DmaMapFlags.READ });
  map(0n);
  expect(() => map(4096n)).toThrow(expect.objectContaining({ code: 'ENOMEM' }));
  expect(new FakeEventFd().count).toBe(0);
});
