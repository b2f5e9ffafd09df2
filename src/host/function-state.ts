/**
 * The state of functions that binds change: drivers, groups, virtual functions. It is read anew
 * after each change, and so has none of the registers that a picture of the host has.
 *
 * @see linux/Documentation/ABI/testing/sysfs-bus-pci, sysfs-kernel-iommu_groups
 */
import { VfioError } from '../base/errno.ts';
import { compareBdf, isBdf } from '../pci/bdf.ts';
import type { HostFiles } from '../sys/host-files.ts';
import { behindLink, nameIn } from './host-path.ts';

export const PCI = '/sys/bus/pci';

export interface FunctionState {
  readonly bdf: string;
  /** Four hexadecimal digits each; `class` has six. */
  readonly vendor: string;
  readonly device: string;
  readonly class: string;
  /** A bridge between buses, which vfio-pci never takes (header type 1 or 2). */
  readonly isBridge: boolean;
  readonly driver: string | null;
  readonly driverOverride: string | null;
  readonly group: number | null;
  readonly numaNode: number | null;
  /** Of a virtual function. */
  readonly physicalFunction: string | null;
  /** Of a physical function: the virtual ones that are enabled. */
  readonly virtualFunctions: readonly string[];
  /** Of a physical function: how many are enabled; null for a function without SR-IOV. */
  readonly numVfs: number | null;
  /** Names of its nodes in /dev/vfio/devices: `vfio3`. */
  readonly vfioDevices: readonly string[];
}

export const functionFolder = (bdf: string): string => `${PCI}/devices/${bdf}`;

/** @throws VfioError ENODEV where the computer has no such function */
export function checkFunction(files: HostFiles, bdf: string): void {
  if (files.exists(functionFolder(bdf))) return;
  const near = files.list(`${PCI}/devices`).filter((other) => other.slice(0, -2) === bdf.slice(0, -2));
  throw new VfioError('ENODEV', `${bdf} is no PCI device of ${files.live ? 'this computer' : files.origin}`, {
    fix: near.length === 0 ? 'vfio ls prints the devices.' : `The same card has ${near.join(', ')}.`,
  });
}

/** All functions, in order of address. */
export function functionStates(files: HostFiles): readonly FunctionState[] {
  return files
    .list(`${PCI}/devices`)
    .filter(isBdf)
    .sort(compareBdf)
    .map((bdf) => functionState(files, bdf));
}

export function functionState(files: HostFiles, bdf: string): FunctionState {
  const at = functionFolder(bdf);
  const text = (name: string) => files.text(`${at}/${name}`)?.trim() ?? null;
  const digits = (name: string, count: number) => {
    const hex = /^0x([0-9a-f]+)$/i.exec(text(name) ?? '')?.[1] ?? '';
    return hex.length > count ? '0'.repeat(count) : hex.toLowerCase().padStart(count, '0');
  };
  const number = (name: string) => {
    const value = text(name);
    return value !== null && /^-?\d{1,15}$/.test(value) ? Number(value) : null;
  };
  const linked = (name: string) => {
    const target = files.link(`${at}/${name}`);
    return target === null ? null : nameIn(target);
  };
  const classCode = digits('class', 6);
  const override = text('driver_override');
  const numVfs = number('sriov_numvfs');
  const node = number('numa_node');
  const group = linked('iommu_group');
  const physical = linked('physfn');
  return {
    bdf,
    vendor: digits('vendor', 4),
    device: digits('device', 4),
    class: classCode,
    isBridge: classCode.startsWith('0604') || classCode.startsWith('0607'),
    driver: linked('driver'),
    driverOverride: override === null || override === '(null)' || override === '' ? null : override,
    group: group !== null && /^\d{1,9}$/.test(group) ? Number(group) : null,
    numaNode: node === null || node < 0 ? null : node,
    physicalFunction: physical !== null && isBdf(physical) ? physical : null,
    virtualFunctions: (numVfs ?? 0) === 0 ? [] : virtualFunctions(files, at),
    numVfs,
    vfioDevices: files.list(`${at}/vfio-dev`),
  };
}

function virtualFunctions(files: HostFiles, at: string): readonly string[] {
  const links = files.list(at).filter((name) => /^virtfn\d+$/.test(name));
  return links
    .map((name) => nameIn(behindLink(files, `${at}/${name}`) ?? ''))
    .filter(isBdf)
    .sort(compareBdf);
}

/** Members of each group, in order of address. */
export function groupsOf(functions: readonly FunctionState[]): ReadonlyMap<number, readonly FunctionState[]> {
  const groups = new Map<number, FunctionState[]>();
  for (const fn of functions) {
    if (fn.group === null) continue;
    const members = groups.get(fn.group);
    if (members === undefined) groups.set(fn.group, [fn]);
    else members.push(fn);
  }
  return new Map([...groups].sort(([a], [b]) => a - b));
}

/** The node of a group, for its users. */
export function groupNode(files: HostFiles, group: number): string {
  const noIommu = files.text(`/sys/kernel/iommu_groups/${group}/name`)?.trim() === 'vfio-noiommu';
  return `/dev/vfio/${noIommu ? 'noiommu-' : ''}${group}`;
}
