/**
 * The answers of GET_REGION_INFO for the regions of a PCI device (B.8).
 *
 * @see linux/drivers/vfio/pci/vfio_pci_core.c, vfio_pci_ioctl_get_region_info(),
 * vfio_pci_probe_mmaps()
 */
import type { RegionInfo } from '../../abi/device.ts';
import { Bar } from '../../abi/pci.ts';
import { NUM_REGIONS, RegionFlags, RegionIndex } from '../../abi/vfio.ts';
import { checkIndex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import type { BarDeclaration, PciDeclaration, RegionDeclaration } from '../../pci/declaration.ts';
import type { MappableParts } from '../dma/process.ts';
import type { HostedFunction } from './hosted-function.ts';

const { READ, WRITE, MMAP, CAPS } = RegionFlags;

/**
 * The first bytes of every expansion ROM image (PCI 3.0, 6.3.1.1); without them Linux shows no ROM
 * region.
 */
function romReadable({ rom }: PciDeclaration): boolean {
  return rom !== undefined && rom[0] === 0x55 && rom[1] === 0xaa;
}

/**
 * By BAR, whether it can be mapped: memory of a page and more, or less when it starts a page that
 * no other BAR has a part of (a mapping is whole pages). The addresses are those of hardware's
 * BARs.
 */
export function mappableBars(fn: HostedFunction, pageSize: number): readonly boolean[] {
  const mappable = new Array<boolean>(Bar.COUNT).fill(false);
  for (const bar of fn.declaration.bars ?? []) {
    mappable[bar.index] =
      bar.mappable !== false &&
      bar.type !== 'io' &&
      (bar.sparseAreas === undefined
        ? bar.size >= pageSize || hasPageAlone(fn, bar, pageSize)
        : bar.sparseAreas.every(({ offset, size }) => offset % pageSize === 0 && size % pageSize === 0));
  }
  return mappable;
}

function hasPageAlone(fn: HostedFunction, bar: BarDeclaration, pageSize: number): boolean {
  const page = BigInt(pageSize);
  const start = fn.config.barAddress(bar.index);
  if (start % page !== 0n) return false;
  const inPage = (first: bigint, size: number) => first < start + page && first + BigInt(size) > start;
  for (const other of fn.onSameBus()) {
    for (const each of other.declaration.bars ?? []) {
      if ((other === fn && each.index === bar.index) || each.type === 'io') continue;
      if (inPage(other.config.barAddress(each.index), each.size)) return false;
    }
    if (other.config.romSize > 0 && inPage(BigInt(other.config.romAddress), other.config.romSize)) return false;
  }
  return true;
}

/** GET_REGION_INFO of a BAR for a process that can map these parts of it. */
export function mappableAs(info: RegionInfo, parts: MappableParts): RegionInfo {
  if (parts === 'areas' || (info.flags & MMAP) === 0 || info.index >= Bar.COUNT) return info;
  const { sparseAreas, msixMappable, ...whole } = info;
  if (parts === 'none') return { ...whole, flags: info.flags & ~(MMAP | CAPS) };
  return sparseAreas === undefined ? info : { ...whole, flags: info.flags & ~CAPS };
}

/** GET_REGION_INFO of a device-specific region, before any mediator. */
export function deviceRegionInfo(index: number, { type, subtype, size, backing, access = 'read-write' }: RegionDeclaration): RegionInfo {
  const reads = access === 'write-only' ? 0 : READ;
  const writes = access === 'read-only' ? 0 : WRITE;
  const maps = backing === 'memory' && reads !== 0 && writes !== 0 ? MMAP : 0;
  return { index, flags: reads | writes | maps | CAPS, size, type: { type, subtype } };
}

/**
 * @param mappable from `mappableBars`, as it was at first open
 * @throws VfioError EINVAL for an index the device does not have; the VGA region too: models have
 * no legacy VGA ranges
 */
export function regionInfo(fn: HostedFunction, index: number, mappable: readonly boolean[]): RegionInfo {
  const { regions = [] } = fn.declaration;
  checkIndex(index, NUM_REGIONS - 1 + regions.length, `${fn.bdf}: region index`);
  if (index >= NUM_REGIONS) return deviceRegionInfo(index, regions[index - NUM_REGIONS]!);
  const none = { index, flags: 0, size: 0 };
  switch (index) {
    case RegionIndex.CONFIG:
      return { index, flags: READ | WRITE, size: fn.config.size };
    case RegionIndex.ROM:
      return romReadable(fn.declaration) ? { index, flags: READ, size: fn.config.romSize } : none;
    case RegionIndex.VGA:
      throw new VfioError('EINVAL', `${fn.bdf} has no VGA region`);
    default: {
      const bar = fn.declaration.bars?.find((b) => b.index === index);
      if (bar === undefined) return none;
      const doorbells = bar.doorbells === undefined ? {} : { doorbells: bar.doorbells };
      if (!mappable[index]) return { index, flags: READ | WRITE, size: bar.size, ...doorbells };
      const flags = READ | WRITE | MMAP;
      const { sparseAreas } = bar;
      if (sparseAreas !== undefined) return { index, flags: flags | CAPS, size: bar.size, sparseAreas, ...doorbells };
      return fn.host.msix?.bar === index
        ? { index, flags: flags | CAPS, size: bar.size, msixMappable: true, ...doorbells }
        : { index, flags, size: bar.size, ...doorbells };
    }
  }
}
