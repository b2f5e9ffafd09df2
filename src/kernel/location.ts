/**
 * Where the kernel has a device: its folder in sysfs, its driver, and the files by which it can be
 * opened.
 */
import { type Culprit, VfioError } from '../base/errno.ts';
import { nearest } from '../base/nearest.ts';
import type { HostFiles } from '../sys/host-files.ts';

/** A group of the kernel, and its file. */
export interface GroupPlace {
  readonly number: number;
  readonly path: string;
  /** The group was made for a device without an IOMMU. */
  readonly noIommu: boolean;
}

/** A device's own file. */
export interface CdevPlace {
  readonly path: string;
  readonly noIommu: boolean;
}

/** A device that a driver of VFIO has. */
export interface KernelLocation {
  /** As GROUP_GET_DEVICE_FD takes it: `0000:03:00.0`, or an mdev's UUID. */
  readonly name: string;
  readonly group: GroupPlace | null;
  readonly cdev: CdevPlace | null;
}

/** Where the kernel's files are. */
export interface KernelRoots {
  readonly files: HostFiles;
  /** Default: `/dev`. */
  readonly dev: string;
}

const PCI = '/sys/bus/pci/devices';
const MDEV = '/sys/bus/mdev/devices';
const GROUPS = '/sys/kernel/iommu_groups';
/**
 * The name that the kernel gives a group that it makes for a device without an IOMMU, and also for
 * a mediated device, which needs none.
 */
const NO_IOMMU = 'vfio-noiommu';
/** Addresses that an error lists at most. */
const LISTED = 8;

/**
 * Look for a device.
 *
 * @param name a BDF in canonical spelling, or the UUID of an mdev
 * @throws VfioError ENODEV for a device that is not there, or has no driver; EBUSY for one that a
 *   different driver has; EOPNOTSUPP for one without an IOMMU and without a file
 */
export function findDevice(name: string, bus: 'pci' | 'mdev', roots: KernelRoots): KernelLocation {
  const { files, dev } = roots;
  const folder = `${bus === 'pci' ? PCI : MDEV}/${name}`;
  if (!files.exists(folder)) throw notThere(name, bus, files);
  const driver = lastOf(files.link(`${folder}/driver`));
  const own = files.list(`${folder}/vfio-dev`).find((each) => /^(noiommu-)?vfio\d+$/.test(each));
  const number = lastOf(files.link(`${folder}/iommu_group`));
  if (number === null && own === undefined) throw noGroup(name);
  if (own === undefined && (driver === null || !/vfio/.test(driver))) throw wrongDriver(name, driver);
  const cdev = own === undefined ? null : { path: `${dev}/vfio/devices/${own}`, noIommu: own.startsWith('noiommu-') };
  const group = number === null ? null : groupPlace(Number(number), bus, roots);
  return { name, group, cdev };
}

function groupPlace(number: number, bus: 'pci' | 'mdev', { files, dev }: KernelRoots): GroupPlace {
  const noIommu = bus === 'pci' && files.text(`${GROUPS}/${number}/name`)?.trim() === NO_IOMMU;
  return { number, path: `${dev}/vfio/${noIommu ? 'noiommu-' : ''}${number}`, noIommu };
}

function notThere(name: string, bus: 'pci' | 'mdev', files: HostFiles): VfioError {
  if (bus === 'mdev') {
    const there = files.list(MDEV);
    return new VfioError('ENODEV', `there is no mediated device ${name}${there.length === 0 ? '' : `; there are ${some(there)}`}`, {
      fix: `Create it: echo ${name} > /sys/class/mdev_bus/PARENT/mdev_supported_types/TYPE/create.`,
    });
  }
  const there = files.list(PCI);
  const near = nearest(name, there);
  const beside = there.filter((bdf) => bdf.slice(0, 8) === name.slice(0, 8));
  const hint = near !== null ? `; ${near} is there` : beside.length === 0 ? '' : `; on its bus there are ${some(beside)}`;
  return new VfioError('ENODEV', `there is no PCI device ${name} on this computer${hint}`, { fix: 'vfio ls lists the devices.' });
}

function some(names: readonly string[]): string {
  const more = names.length - LISTED;
  return `${names.slice(0, LISTED).join(', ')}${more > 0 ? `, and ${more} more` : ''}`;
}

function noGroup(name: string): VfioError {
  return new VfioError('EOPNOTSUPP', `${name} has no IOMMU group: no IOMMU is above it, or the kernel does not use it`, {
    fix: 'Turn the IOMMU on in the firmware (VT-d, AMD-Vi) and on the command line (intel_iommu=on); vfio doctor says more.',
  });
}

function wrongDriver(name: string, driver: string | null): VfioError {
  const fix = `As root: vfio bind ${name}.`;
  if (driver === null) return new VfioError('ENODEV', `${name} has no driver, and needs vfio-pci`, { fix });
  return new VfioError('EBUSY', `${name} is bound to ${driver}, which uses it, and not to vfio-pci`, { fix });
}

/** Drivers that may have a device of a group whose other devices VFIO's users have. */
const harmless = /vfio|^(pci-stub|pcieport|shpchp)$/;

/**
 * The error for a group that is not viable: the devices that native drivers have.
 *
 * @see linux/drivers/iommu/iommu.c, iommu_group_claim_dma_owner()
 */
export function notViable(group: GroupPlace, device: string, { files }: KernelRoots): VfioError {
  const folder = `${GROUPS}/${group.number}/devices`;
  const culprits: Culprit[] = [];
  for (const bdf of files.list(folder)) {
    const driver = lastOf(files.link(`${folder}/${bdf}/driver`));
    if (driver === null || harmless.test(driver)) continue;
    culprits.push({ bdf, driver, why: `${driver} uses it, and it is in the same group`, fix: `As root: vfio bind ${bdf}` });
  }
  return new VfioError(
    'EPERM',
    `${device}: group ${group.number} is not viable: all of its devices must be given to VFIO, or to no driver`,
    {
      culprits,
      fix: `As root: vfio bind --group ${group.number}.`,
    },
  );
}

function lastOf(link: string | null): string | null {
  return link === null ? null : link.slice(link.lastIndexOf('/') + 1);
}
