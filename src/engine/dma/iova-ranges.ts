/**
 * The I/O addresses that can be mapped: those that every attached group's IOMMU can translate,
 * without the windows that are reserved for a group.
 *
 * @see linux/drivers/vfio/vfio_iommu_type1.c, vfio_iommu_aper_resize(), vfio_iommu_resv_exclude()
 */
import type { IovaRange } from '../../abi/device.ts';
import { U64_MAX } from '../../base/check.ts';
import type { IommuProperties, ReservedRegion } from './iommu-properties.ts';

/**
 * Windows that cannot be mapped. A user may have a direct-mapped window that the firmware calls
 * relaxable, so such a window does not count.
 */
export function blockingRegions(iommu: IommuProperties): readonly ReservedRegion[] {
  return iommu.reserved.filter((region) => region.kind !== 'relaxable');
}

/**
 * The ranges that all of `iommus` can map, in order; empty when no range is left, or when there is
 * no IOMMU.
 */
export function iovaRanges(iommus: readonly IommuProperties[]): IovaRange[] {
  if (iommus.length === 0) return [];
  let first = 0n;
  let last = U64_MAX;
  for (const iommu of iommus) {
    if (iommu.apertureFirst > first) first = iommu.apertureFirst;
    if (iommu.apertureLast < last) last = iommu.apertureLast;
  }
  let ranges: IovaRange[] = first <= last ? [{ first, last }] : [];
  for (const iommu of iommus) {
    for (const region of blockingRegions(iommu)) ranges = ranges.flatMap((range) => without(range, region));
  }
  return ranges;
}

function without(range: IovaRange, hole: IovaRange): IovaRange[] {
  if (hole.first > range.last || hole.last < range.first) return [range];
  const parts: IovaRange[] = [];
  if (hole.first > range.first) parts.push({ first: range.first, last: hole.first - 1n });
  if (hole.last < range.last) parts.push({ first: hole.last + 1n, last: range.last });
  return parts;
}

/**
 * Whether [first, last] lies inside one of `ranges`: two neighbouring ranges do not count as one.
 */
export function withinRanges(ranges: readonly IovaRange[], first: bigint, last: bigint): boolean {
  for (const range of ranges) if (first >= range.first && last <= range.last) return true;
  return false;
}
