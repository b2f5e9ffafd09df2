/**
 * Major and minor numbers of the nodes of VFIO and iommufd, as a computer has them that has loaded
 * nothing else (recorded with Linux 7.3: the majors of vfio and vfio-dev are dynamic).
 */

/** Of a group's node, and of a device's own. */
export const VFIO_MAJOR = 246;
export const VFIO_DEV_MAJOR = 245;
/** linux/miscdevice.h: MISC_MAJOR, VFIO_MINOR; iommufd's minor is dynamic. */
const MISC_MAJOR = 10;
const VFIO_MINOR = 196;
const IOMMU_MINOR = 257;

export interface NodeNumber {
  readonly major: number;
  readonly minor: number;
}

/** The number of the node at `path`. */
export function nodeNumber(path: string): NodeNumber {
  if (path === '/dev/vfio/vfio') return { major: MISC_MAJOR, minor: VFIO_MINOR };
  if (path === '/dev/iommu') return { major: MISC_MAJOR, minor: IOMMU_MINOR };
  const minor = Number(/\d+$/.exec(path)?.[0] ?? 0);
  return { major: path.startsWith('/dev/vfio/devices/') ? VFIO_DEV_MAJOR : VFIO_MAJOR, minor };
}
