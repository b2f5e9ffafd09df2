/**
 * The capabilities behind a `vfio_region_info`: the parts that can be mapped, the type of a region
 * of the device's own, and whether the MSI-X table can be mapped. A kernel and a server write the
 * same chain.
 */
import type { MappableArea, RegionInfo } from '../abi/device.ts';
import { RegionCap, RegionFlags } from '../abi/vfio.ts';
import {
  InfoCapHeader,
  RegionInfoCapSparseMmap,
  RegionInfoCapType,
  RegionInfo as RegionInfoStruct,
  SparseMmapArea,
} from '../abi/vfio-structs.ts';
import { hex } from '../base/check.ts';
import { VfioError } from '../base/errno.ts';

/** The chain is followed so far. */
const MAX_CAPS = 64;

export interface DescribedRegion {
  /**
   * Bytes that the whole answer takes. When there was room for fewer, capabilities are missing.
   */
  readonly argsz: number;
  readonly info: RegionInfo;
  /** Where the region starts in the file that stands for it. */
  readonly offset: bigint;
}

/**
 * @param view a `vfio_region_info`, with its capabilities when they had room
 * @param who the start of messages: `DEVICE_GET_REGION_INFO`
 * @throws VfioError EPROTO for an impossible chain or size
 */
export function decodeRegionInfo(view: DataView, who: string): DescribedRegion {
  const { argsz, flags, index, cap_offset: capOffset, size, offset } = RegionInfoStruct.decode(view);
  if (size > BigInt(Number.MAX_SAFE_INTEGER)) throw new VfioError('EPROTO', `${who}: size ${hex(size)} is more than 2^53 - 1`);
  const base = { index, flags, size: Number(size) };
  if ((flags & RegionFlags.CAPS) === 0 || capOffset === 0) return { argsz, info: base, offset };
  const bad = (why: string) => new VfioError('EPROTO', `${who}: the capability chain ${why}`);
  let sparseAreas: MappableArea[] | undefined;
  let type: RegionInfo['type'];
  let msixMappable: boolean | undefined;
  let hops = 0;
  for (let at = capOffset; at !== 0; at = InfoCapHeader.next.get(view, at)) {
    if (++hops > MAX_CAPS) throw bad('has no end');
    if (at < RegionInfoStruct.structSize || at + InfoCapHeader.structSize > view.byteLength) throw bad(`leads to offset ${at}`);
    const id = InfoCapHeader.id.get(view, at);
    if (id === RegionCap.SPARSE_MMAP) sparseAreas = decodeSparseAreas(view, at, base.size, bad);
    else if (id === RegionCap.TYPE) {
      if (at + RegionInfoCapType.structSize > view.byteLength) throw bad('is cut short');
      type = { type: RegionInfoCapType.type.get(view, at), subtype: RegionInfoCapType.subtype.get(view, at) };
    } else if (id === RegionCap.MSIX_MAPPABLE) msixMappable = true;
  }
  const info = {
    ...base,
    ...(sparseAreas === undefined ? {} : { sparseAreas }),
    ...(type === undefined ? {} : { type }),
    ...(msixMappable === undefined ? {} : { msixMappable }),
  };
  return { argsz, info, offset };
}

function decodeSparseAreas(view: DataView, at: number, regionSize: number, bad: (why: string) => VfioError): MappableArea[] {
  const start = at + RegionInfoCapSparseMmap.structSize;
  if (start > view.byteLength) throw bad('is cut short');
  const count = RegionInfoCapSparseMmap.nr_areas.get(view, at);
  if (count > (view.byteLength - start) / SparseMmapArea.structSize) throw bad(`announces ${count} areas and does not hold them`);
  return Array.from({ length: count }, (_, i) => {
    const { offset, size } = SparseMmapArea.decode(view, start + i * SparseMmapArea.structSize);
    if (offset + size > BigInt(regionSize)) throw bad(`has an area past the region's end (${hex(offset)}+${hex(size)})`);
    return { offset: Number(offset), size: Number(size) };
  });
}

/**
 * Some describe one area that is all of the region; `RegionInfo` has areas only when they are not.
 */
export function withoutWholeArea(info: RegionInfo): RegionInfo {
  const [area, more] = info.sparseAreas ?? [];
  if (area === undefined || more !== undefined || area.offset !== 0 || area.size < info.size) return info;
  const { sparseAreas: _, ...rest } = info;
  return { ...rest, flags: withoutCaps(rest) };
}

/** The flags of a region, with CAPS only where `info` has what is in capabilities. */
export function withoutCaps(info: RegionInfo): number {
  const keeps = info.sparseAreas !== undefined || info.type !== undefined || info.msixMappable !== undefined;
  return keeps ? info.flags : info.flags & ~RegionFlags.CAPS;
}
