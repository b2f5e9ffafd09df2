/** Checks that each device-specific region that a model declares is one that users can have. */
import { NUM_REGIONS } from '../abi/vfio.ts';
import { checkIndex } from '../base/check.ts';
import { VfioError } from '../base/errno.ts';
import type { RegionDeclaration } from './declaration.ts';

/** Number of regions of one device. Clients of vfio-user refuse more than 100. */
const REGIONS_MAX = 64;
/** Offsets in a device file leave 40 bits for a region. */
const SIZE_MAX = 2 ** 40;
const PAGE = 4096;

/** @throws VfioError EINVAL for a declaration of a region that cannot exist */
export function checkRegions(name: string, regions: readonly RegionDeclaration[]): void {
  if (regions.length > REGIONS_MAX)
    throw new VfioError('EINVAL', `${name} has ${regions.length} regions of its own; ${REGIONS_MAX} at most`);
  regions.forEach(({ type, subtype, size, backing }, i) => {
    const region = `${name}: region ${NUM_REGIONS + i}`;
    checkIndex(type, 0xffff_ffff, `${region}: type`);
    checkIndex(subtype, 0xffff_ffff, `${region}: subtype`);
    if (checkIndex(size, SIZE_MAX, `${region}: size`) === 0) throw new VfioError('EINVAL', `${region} is empty`);
    if (backing === 'memory' && size % PAGE !== 0) {
      throw new VfioError('EINVAL', `${region} is memory of ${size} bytes`, { fix: `Give whole pages of ${PAGE} bytes.` });
    }
  });
}
