/** The calls that `--trace` prints and `--fail` names. */
import { VfioError } from '../../base/errno.ts';
import { nearest } from '../../base/nearest.ts';
import { requestNames } from '../../exec/trace/requests.ts';

/** Requests of ioctl by their names, and other calls. */
export const callNames: readonly string[] = ['open', 'read', 'write', 'mmap', ...requestNames];

/**
 * The step of a plan of faults that `name` means: a call, also without its prefix (MAP_DMA), or a
 * step of the engine (type1.map.charge).
 *
 * @throws VfioError EINVAL for a name that is none
 */
export function stepNamed(name: string): string {
  if (name.includes('.')) return name.toLowerCase();
  const wanted = name.toUpperCase();
  const whole = callNames.find((each) => each.toUpperCase() === wanted);
  const ends = callNames.filter((each) => each.endsWith(`_${wanted}`));
  if (whole !== undefined || ends.length === 1) return whole ?? ends[0]!;
  const near = ends.length > 1 ? ends.join(' or ') : nearest(wanted, callNames);
  throw new VfioError('EINVAL', `there is no call ${name.slice(0, 40)}`, {
    fix: near === null ? 'Calls are those that --trace prints: open, VFIO_IOMMU_MAP_DMA.' : `Did you mean ${near}?`,
  });
}
