/**
 * File systems and swap of a computer, and the block devices that hold them.
 *
 * @see proc_pid_mountinfo(5), swapon(8); linux/Documentation/ABI/stable/sysfs-block
 */
import type { HostFiles } from '../sys/host-files.ts';
import { behindLink, functionOnPath, nameIn } from './host-path.ts';

/** A place where the computer keeps files, with the functions whose disks it is on. */
export interface HostMount {
  /** Where it is mounted; `swap` for swap. */
  readonly at: string;
  /** `ext4`, `swap`. */
  readonly type: string;
  readonly functions: readonly string[];
}

/** Paths in mountinfo have octal escapes for blanks. */
const unescaped = (text: string): string =>
  text.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

/** A device made of others made of others: more levels than that are a circle. */
const MAX_LEVELS = 16;

/** Functions below a block device in sysfs, through partitions, RAID, LVM and encryption. */
function functionsBelow(files: HostFiles, device: string, level = 0): readonly string[] {
  if (level > MAX_LEVELS) return [];
  const direct = functionOnPath(device);
  if (direct !== null) return [direct];
  const found = new Set<string>();
  // A partition of a RAID is below the RAID, which has the slaves.
  const parents = [device, device.slice(0, device.lastIndexOf('/'))];
  for (const slave of parents.flatMap((at) => files.list(`${at}/slaves`).map((name) => `${at}/slaves/${name}`))) {
    const at = behindLink(files, slave);
    if (at !== null) for (const bdf of functionsBelow(files, at, level + 1)) found.add(bdf);
  }
  // NVMe with several paths: the controllers are links beside the disk.
  const [subsystem] = /^.*\/nvme-subsystem\/[^/]+/.exec(device) ?? [];
  if (subsystem !== undefined) {
    for (const name of files.list(subsystem)) {
      const controller = /^nvme\d+$/.test(name) ? behindLink(files, `${subsystem}/${name}`) : null;
      const bdf = controller === null ? null : functionOnPath(controller);
      if (bdf !== null) found.add(bdf);
    }
  }
  return [...found];
}

/** The directory in sysfs of the block device `8:1`, or of the name behind `/dev/`. */
function blockDevice(files: HostFiles, number: string, source: string): string | null {
  const byNumber = number.startsWith('0:') ? null : behindLink(files, `/sys/dev/block/${number}`);
  if (byNumber !== null || !source.startsWith('/dev/')) return byNumber;
  const mapped = source.startsWith('/dev/mapper/') ? files.link(source) : null;
  return behindLink(files, `/sys/class/block/${nameIn(mapped ?? source)}`);
}

/** All disks of a btrfs file system of which `device` is one. */
function btrfsDisks(files: HostFiles, device: string): readonly string[] {
  const name = nameIn(device);
  for (const uuid of files.list('/sys/fs/btrfs')) {
    const members = files.list(`/sys/fs/btrfs/${uuid}/devices`);
    if (!members.includes(name)) continue;
    return members.map((member) => behindLink(files, `/sys/fs/btrfs/${uuid}/devices/${member}`) ?? '').filter((path) => path !== '');
  }
  return [device];
}

/** Mounted file systems and swap that are on PCI devices. */
export function hostMounts(files: HostFiles): readonly HostMount[] {
  const found: HostMount[] = [];
  // Of an init process in a container, mounts are those of the container.
  for (const line of (files.text('/proc/self/mountinfo') ?? files.text('/proc/mountinfo') ?? '').split('\n')) {
    const [fields = '', after = ''] = line.split(' - ');
    const [, , number, , at] = fields.split(' ');
    const [type, source] = after.split(' ');
    if (number === undefined || at === undefined || type === undefined || source === undefined) continue;
    const device = blockDevice(files, number, unescaped(source));
    if (device === null) continue;
    const disks = type === 'btrfs' ? btrfsDisks(files, device) : [device];
    const functions = new Set(disks.flatMap((disk) => functionsBelow(files, disk)));
    if (functions.size > 0) found.push({ at: unescaped(at), type, functions: [...functions] });
  }
  for (const line of (files.text('/proc/swaps') ?? '').split('\n').slice(1)) {
    const [path, kind] = line.trim().split(/\s+/);
    if (path === undefined || kind !== 'partition') continue;
    const device = behindLink(files, `/sys/class/block/${nameIn(path)}`);
    const functions = device === null ? [] : functionsBelow(files, device);
    if (functions.length > 0) found.push({ at: 'swap', type: 'swap', functions });
  }
  return found;
}

/** Functions with disks that a pool of ZFS may be on: sysfs does not say which disks a pool has. */
export function zfsCandidates(files: HostFiles): readonly string[] {
  const mounts = files.text('/proc/self/mountinfo') ?? '';
  if (!/ - zfs /.test(mounts)) return [];
  const disks = files.list('/sys/class/block').filter((name) => !/^(?:loop|zram|ram|dm-|md|zd|sr)/.test(name));
  const functions = disks.flatMap((name) => functionsBelow(files, behindLink(files, `/sys/class/block/${name}`) ?? ''));
  return [...new Set(functions)];
}
