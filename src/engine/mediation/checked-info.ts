/** The information of a region as a mediator has changed it. */
import type { RegionInfo } from '../../abi/device.ts';
import { RegionFlags } from '../../abi/vfio.ts';

const { READ, WRITE, MMAP } = RegionFlags;

/**
 * Check a mediator's change of a region's information, and apply its consequences. A mapping reads
 * and writes, so a region that lost either cannot be mapped.
 *
 * @throws Error flags that do not exist, areas that are not inside the region
 */
export function checkedInfo(info: RegionInfo): RegionInfo {
  const { flags, sparseAreas, size } = info;
  if (!Number.isInteger(flags) || flags < 0) throw new Error(`its flags are ${String(flags)}`);
  if (sparseAreas !== undefined) {
    if (!Array.isArray(sparseAreas)) throw new Error('its areas are no list');
    for (const area of sparseAreas) {
      const fits = Number.isSafeInteger(area?.offset) && Number.isSafeInteger(area.size) && area.offset >= 0 && area.size > 0;
      if (!fits || area.offset + area.size > size)
        throw new Error(`its area ${String(area?.offset)}+${String(area?.size)} is not inside the region`);
    }
  }
  return (flags & READ) !== 0 && (flags & WRITE) !== 0 ? info : { ...info, flags: flags & ~MMAP };
}
