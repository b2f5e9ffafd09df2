/**
 * Opening a device of the kernel: by its group and a container, or by its own file and an iommufd.
 */
import { parseVfToken } from '../abi/vf-token.ts';
import { Cleanup } from '../base/cleanup.ts';
import { VfioError } from '../base/errno.ts';
import { hostFiles } from '../sys/host-files.ts';
import { nodeState } from '../sys/node-users.ts';
import { openByCdev } from './cdev-access.ts';
import { openByGroup } from './group-access.ts';
import { KernelIoas } from './ioas.ts';
import { findDevice, type KernelLocation, type KernelRoots } from './location.ts';
import { NoIommuSpace } from './no-iommu-space.ts';
import type { KernelAddress, KernelOptions, OpenedFile } from './opened.ts';

/** The files of this computer. */
function computerRoots(): KernelRoots {
  return { files: hostFiles(), dev: '/dev' };
}

/**
 * Open a device of this computer.
 *
 * @throws VfioError ENODEV, EBUSY, EOPNOTSUPP for a device that is not there, or not VFIO's;
 *   EACCES, EBUSY, ENOENT for its files; EPERM for a group that is not viable, and for a device
 *   without an IOMMU unless that is allowed; EACCES, EINVAL for a VF token; EINVAL for devices that
 *   cannot share an IOMMU
 */
export function openKernelDevice(address: KernelAddress, options: KernelOptions): OpenedFile {
  const roots = options.roots ?? computerRoots();
  const name = address.kind === 'pci' ? address.bdf : address.uuid;
  const location = findDevice(name, address.kind, roots);
  const token = tokenOf(options.token);
  const { via, why } = chooseWay(location, roots, options);
  checkIommu(location, via, options);
  using undo = new Cleanup();
  const opened = undo.use(via === 'cdev' ? tryCdev(location, roots, options, token, why) : openByGroup(location, roots, options, why));
  options.source.note('debug', 'open', `${name}: opened by ${opened.via}: ${opened.why}`);
  undo.move();
  return opened;
}

/**
 * Look whether the computer has a device, and a driver of VFIO has it, without opening it.
 *
 * @throws VfioError ENODEV, EBUSY, EOPNOTSUPP
 */
export function checkKernelDevice(address: KernelAddress, roots: KernelRoots = computerRoots()): void {
  findDevice(address.kind === 'pci' ? address.bdf : address.uuid, address.kind, roots);
}

/** By the device's own file; by its group, where an older kernel takes a token only there. */
function tryCdev(location: KernelLocation, roots: KernelRoots, options: KernelOptions, token: Uint8Array | null, why: string): OpenedFile {
  const mayUseGroup = token !== null && options.via === undefined && options.space === undefined && location.group !== null;
  try {
    return openByCdev(location, roots, options, token, why);
  } catch (error) {
    if (!mayUseGroup || !(error instanceof VfioError) || error.code !== 'EINVAL') throw error;
    return openByGroup(location, roots, options, 'this kernel takes a VF token only by the group');
  }
}

function tokenOf(text: string | undefined): Uint8Array | null {
  if (text === undefined) return null;
  const token = parseVfToken(text);
  if (token === null) throw new VfioError('EINVAL', 'the VF token given is not a UUID');
  return token;
}

interface Way {
  readonly via: 'group' | 'cdev';
  readonly why: string;
}

/** The way to the device, and the reason. */
function chooseWay(location: KernelLocation, { dev }: KernelRoots, options: Pick<KernelOptions, 'via' | 'space'>): Way {
  const { name, cdev, group } = location;
  const { via, space } = options;
  if (space !== undefined) return sharedWay(location, via, space.backend instanceof KernelIoas ? 'cdev' : 'group');
  if (via === 'group') {
    if (group !== null) return { via, why: 'the caller chose the group' };
    throw new VfioError('ENOENT', `${name} has no group`, { fix: 'Leave `via` out: the device has a file of its own.' });
  }
  if (via === 'cdev') {
    if (cdev !== null) return { via, why: "the caller chose the device's own file" };
    throw new VfioError('ENOENT', `${name} has no file of its own: this kernel has no /dev/vfio/devices`, {
      fix: 'Leave `via` out: the device is opened by its group. Or use a kernel with CONFIG_VFIO_DEVICE_CDEV.',
    });
  }
  const against = whyNotCdev(cdev?.path ?? null, `${dev}/iommu`);
  if (against === null) return { via: 'cdev', why: `the device has a file of its own, and ${dev}/iommu is there` };
  if (group !== null) return { via: 'group', why: against };
  return { via: 'cdev', why: 'the device has no group' };
}

/** A device that joins others comes in by their way. */
function sharedWay({ name, cdev, group }: KernelLocation, via: 'group' | 'cdev' | undefined, theirs: 'group' | 'cdev'): Way {
  const others = theirs === 'cdev' ? 'by an iommufd' : 'by a container';
  if (via !== undefined && via !== theirs) {
    throw new VfioError('EINVAL', `${name} cannot be opened by ${via}: the device that it shares its memory with is open ${others}`, {
      fix: 'Leave `via` out, or give it for the first device.',
    });
  }
  if ((theirs === 'cdev' ? cdev : group) === null) {
    throw new VfioError('EINVAL', `${name} cannot share memory with a device that is open ${others}`, {
      fix: `Open the first device with via '${theirs === 'cdev' ? 'group' : 'cdev'}'.`,
    });
  }
  return { via: theirs, why: `the device that it shares its memory with is open ${others}` };
}

/** The reason against the device's own file; null when it can be had. */
function whyNotCdev(path: string | null, iommu: string): string | null {
  if (path === null) return 'this kernel gives devices no files of their own';
  for (const node of [path, iommu]) {
    const state = nodeState(node);
    if (state === 'missing') return `${node} is not there`;
    if (state === 'denied') return `this user may not open ${node}`;
  }
  return null;
}

/** @throws VfioError EPERM for a device without an IOMMU, unless the caller allows that */
function checkIommu({ name, group, cdev }: KernelLocation, via: 'group' | 'cdev', options: KernelOptions): void {
  const noIommu = via === 'cdev' ? cdev!.noIommu : group!.noIommu;
  const { space } = options;
  if (space !== undefined && space instanceof NoIommuSpace !== noIommu) {
    const [one, other] = noIommu
      ? [name, 'the device that it would share its memory with']
      : ['the device that it would share its memory with', name];
    throw new VfioError('EPERM', `${name}: ${one} has no IOMMU, and ${other} has one, so they have no addresses in common`, {
      fix: 'Open it without `with`.',
    });
  }
  if (!noIommu) return;
  if (options.unsafeNoIommu !== true) {
    throw new VfioError('EPERM', `${name} has no IOMMU: the device could write anywhere in this computer's memory`, {
      fix: 'Use a computer with an IOMMU; or, where the device and its driver are trusted like the kernel, --unsafe-noiommu (unsafeNoIommu: true).',
    });
  }
  options.source.note(
    'warn',
    'no-iommu',
    `${name} HAS NO IOMMU: the device, and any fault of its driver, can read and write all memory of this computer`,
  );
}
