/**
 * File systems and swap of a computer, and the block devices that hold them.
 *
 * @see proc_pid_mountinfo(5), swapon(8); linux/Documentation/ABI/stable/sysfs-block
 */
import type { HostFiles } from '../sys/host-files.ts';
import { behindLink, functionOnPath, functionsOfPath, nameIn } from './host-path.ts';
import { addressBytes } from './host-routes.ts';

/** A place where the computer keeps files, with the functions whose disks it is on. */
export interface HostMount {
  /** Where it is mounted; `swap` for swap. */
  readonly at: string;
  /** `ext4`, `swap`. */
  readonly type: string;
  readonly functions: readonly string[];
  /** Addresses of computers that have the files, or the disks: NFS, iSCSI, NVMe over fabrics. */
  readonly servers: readonly string[];
}

/** Paths in mountinfo have octal escapes for blanks. */
const unescaped = (text: string): string =>
  text.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

/**
 * The devices at the bottom of a block device: partitions, RAID, LVM and encryption are above.
 *
 * @param seen devices that were looked at: a copy of sysfs may have circles
 */
function devicesBelow(files: HostFiles, device: string, seen: Set<string> = new Set()): readonly string[] {
  if (seen.has(device)) return [];
  seen.add(device);
  if (functionOnPath(device) !== null) return [device];
  // A partition of a RAID is below the RAID, which has the slaves.
  const parents = [device, device.slice(0, device.lastIndexOf('/'))];
  const slaves = parents.flatMap((at) => files.list(`${at}/slaves`).map((name) => behindLink(files, `${at}/slaves/${name}`)));
  const below = slaves.flatMap((at) => (at === null ? [] : devicesBelow(files, at, seen)));
  // NVMe with several paths: the controllers are links beside the disk.
  const [subsystem] = /^.*\/nvme-subsystem\/[^/]+/.exec(device) ?? [];
  const controllers = subsystem === undefined ? [] : files.list(subsystem).filter((name) => /^nvme\d+$/.test(name));
  const paths = controllers.flatMap((name) => behindLink(files, `${subsystem}/${name}`) ?? []);
  return below.length + paths.length === 0 ? [device] : [...new Set([...below, ...paths])];
}

/** Functions below a block device in sysfs. */
export function functionsBelow(files: HostFiles, device: string): readonly string[] {
  return [...new Set(devicesBelow(files, device).flatMap(functionsOfPath))];
}

/** Addresses of the computers that have a disk: of NVMe over fabrics, and of iSCSI. */
function diskServers(files: HostFiles, device: string): readonly string[] {
  return devicesBelow(files, device).flatMap((at): readonly string[] => {
    const [controller] = /^.*\/nvme-fabrics\/ctl\/nvme\d+/.exec(at) ?? [];
    const target = controller === undefined ? null : /\btraddr=([^,\s]+)/.exec(files.text(`${controller}/address`) ?? '');
    if (target !== null) return [target[1]!];
    const [session] = /^.*\/session\d+(?=\/)/.exec(at) ?? [];
    if (session === undefined) return [];
    const connections = files.list(session).filter((name) => name.startsWith('connection'));
    return connections.flatMap((name) => files.text(`${session}/${name}/iscsi_connection/${name}/address`)?.trim() ?? []);
  });
}

/** Device mapper names its nodes; links of LVM lead to these. */
function mappedDevice(files: HostFiles, name: string): string | null {
  const folder = '/sys/devices/virtual/block';
  const found = files.list(folder).find((dm) => files.text(`${folder}/${dm}/dm/name`)?.trim() === name);
  return found === undefined ? null : `${folder}/${found}`;
}

/** The directory in sysfs of a node in /dev. */
function deviceOfNode(files: HostFiles, node: string): string | null {
  if (!node.startsWith('/dev/')) return null;
  const at = behindLink(files, `/sys/class/block/${nameIn(files.link(node) ?? node)}`);
  return at ?? (node.startsWith('/dev/mapper/') ? mappedDevice(files, nameIn(node)) : null);
}

/**
 * Directories in sysfs of the block devices of a mount: by number, `8:1`, or by names: bcachefs has
 * `/dev/sda:/dev/sdb`, and XFS its log in an option, `logdev=/dev/sdc`.
 */
function blockDevices(files: HostFiles, number: string, source: string, options: string): readonly string[] {
  const byNumber = number.startsWith('0:') ? null : behindLink(files, `/sys/dev/block/${number}`);
  const nodes = [...(byNumber === null ? source.split(':') : []), ...options.split(',').map((word) => word.slice(word.indexOf('=') + 1))];
  const byName = nodes.flatMap((node) => deviceOfNode(files, node) ?? []);
  return [...new Set([...(byNumber === null ? [] : [byNumber]), ...byName])];
}

/** Addresses of computers that have a network file system: `addr=192.0.2.1`, or in its source. */
function fileServers(type: string, source: string, options: string): readonly string[] {
  const named = options.split(',').flatMap((word) => /^(?:addr|mon_addr)=(.+)$/.exec(word)?.[1] ?? []);
  const addresses = named.length > 0 ? named : /^(?:nfs|ceph|cifs|smb|9p|fuse)/.test(type) ? source.split(',') : [];
  return addresses.flatMap((text) => /^(?:\d+\.){3}\d+|^\[?([0-9a-f]*:[0-9a-f:]+)/i.exec(text) ?? []).filter(isAddress);
}

const isAddress = (text: string | undefined): text is string => text !== undefined && addressBytes(text) !== null;

interface MountTable {
  readonly text: string;
  /** The process whose mounts these are; null for those of this one. */
  readonly of: string | null;
}

/** The mounts of this process, and those of each other mount namespace. */
function mountTables(files: HostFiles): readonly MountTable[] {
  const own = files.text('/proc/self/mountinfo') ?? files.text('/proc/mountinfo') ?? '';
  const seen = new Set([files.link('/proc/self/ns/mnt')]);
  const others = files.list('/proc').flatMap((pid): readonly MountTable[] => {
    const namespace = /^\d+$/.test(pid) ? files.link(`/proc/${pid}/ns/mnt`) : null;
    if (namespace === null || seen.has(namespace)) return [];
    seen.add(namespace);
    const name = files.text(`/proc/${pid}/comm`)?.trim() ?? '?';
    return [{ text: files.text(`/proc/${pid}/mountinfo`) ?? '', of: `process ${pid} (${name})` }];
  });
  return [{ text: own, of: null }, ...others];
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

/** Mounted file systems and swap that are on PCI devices, or on other computers. */
export function hostMounts(files: HostFiles): readonly HostMount[] {
  const seen = new Set<string>();
  const mounts = mountTables(files).flatMap(({ text, of }) =>
    text.split('\n').flatMap((line): readonly HostMount[] => {
      const [fields = '', after = ''] = line.split(' - ');
      const [, , number, , at] = fields.split(' ');
      const [type, source, options = ''] = after.split(' ');
      if (number === undefined || at === undefined || type === undefined || source === undefined) return [];
      // Another namespace has most mounts of this one, too.
      if (of !== null && seen.has(number)) return [];
      seen.add(number);
      const found = mountOf(files, type, blockDevices(files, number, unescaped(source), options));
      const servers = [...found.servers, ...fileServers(type, source, options)];
      if (found.functions.length + servers.length === 0) return [];
      return [{ at: `${unescaped(at)}${of === null ? '' : ` of ${of}`}`, type, functions: found.functions, servers }];
    }),
  );
  return [...mounts, ...swaps(files)];
}

function swaps(files: HostFiles): readonly HostMount[] {
  const rows = (files.text('/proc/swaps') ?? '').split('\n').slice(1);
  return rows.flatMap((line): readonly HostMount[] => {
    const [path, kind] = line.trim().split(/\s+/);
    const device = path === undefined || kind !== 'partition' ? null : deviceOfNode(files, unescaped(path));
    return device === null ? [] : [{ at: 'swap', type: 'swap', ...mountOf(files, 'swap', [device]) }];
  });
}

/** The functions and the servers of the disks below `devices`. */
function mountOf(files: HostFiles, type: string, devices: readonly string[]): Pick<HostMount, 'functions' | 'servers'> {
  const disks = type === 'btrfs' ? devices.flatMap((device) => btrfsDisks(files, device)) : devices;
  return {
    functions: [...new Set(disks.flatMap((disk) => functionsBelow(files, disk)))],
    servers: [...new Set(disks.flatMap((disk) => diskServers(files, disk)))],
  };
}

/** Functions with disks that a pool of ZFS may be on: sysfs does not say which disks a pool has. */
export function zfsCandidates(files: HostFiles): readonly string[] {
  const isMounted = mountTables(files).some(({ text }) => / - zfs /.test(text));
  // linux: spl and zfs have a folder for each imported pool, beside their own files.
  const pools = files.list('/proc/spl/kstat/zfs').filter((name) => files.exists(`/proc/spl/kstat/zfs/${name}/state`));
  if (!isMounted && pools.length === 0) return [];
  const disks = files.list('/sys/class/block').filter((name) => !/^(?:loop|zram|ram|dm-|md|zd|sr)/.test(name));
  const functions = disks.flatMap((name) => functionsBelow(files, behindLink(files, `/sys/class/block/${name}`) ?? ''));
  return [...new Set(functions)];
}
