/** Where sysfs has the parts of a machine. */
import type { PciBus, PciFunction } from '../../engine/machine/pci-function.ts';

/** The directory of a root bus. A bus that a device emulates (Intel VMD) is below that device. */
export function rootBusPath(root: PciBus): string {
  const controller = root.functions.find((fn) => fn.requester !== null)?.requester ?? null;
  return `${controller === null ? '/sys/devices' : functionPath(controller)}/pci${root.name}`;
}

/** The directory of a function: bridges nest as the buses do, and VFs are beside their PF. */
export function functionPath(fn: PciFunction): string {
  return `${fn.parent === null ? rootBusPath(fn.bus.root) : functionPath(fn.parent)}/${fn.bdf}`;
}

/** The directory of the bus itself (class pci_bus). */
export function busPath(bus: PciBus): string {
  return `${bus.bridge === null ? rootBusPath(bus.root) : functionPath(bus.bridge)}/pci_bus/${bus.name}`;
}

export const groupPath = (id: number): string => `/sys/kernel/iommu_groups/${id}`;
export const driverPath = (name: string): string => `/sys/bus/pci/drivers/${name}`;
export const modulePath = (name: string): string => `/sys/module/${name}`;

/** The directory that an absolute path is in. */
export const folderOf = (path: string): string => path.slice(0, Math.max(path.lastIndexOf('/'), 1));

/**
 * A link in the directory `folder` to the absolute path `target`, as sysfs has it: up to a
 * directory above the target, then down.
 *
 * @see linux/fs/kernfs/symlink.c, kernfs_get_target_path()
 */
export function relativeLink(folder: string, target: string): string {
  const from = folder.split('/').slice(1);
  const to = target.split('/').slice(1);
  let common = 0;
  while (common < to.length - 1 && common < from.length && from[common] === to[common]) common++;
  return [...from.slice(common).map(() => '..'), ...to.slice(common)].join('/');
}
