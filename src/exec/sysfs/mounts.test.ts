import { beforeEach, expect, it } from 'vitest';
import type { HostPaths } from '../../sys/host-paths.ts';
import { type MountCall, mountCalls, type View } from './mounts.ts';

const made = new Map<string, string>();
const scaffold = {
  place: (inside: string) => `/T${inside}`,
  makeFolder: (inside: string) => void made.set(inside, 'folder'),
  makeFile: (inside: string) => void made.set(inside, 'file'),
  makeLink: (inside: string, to: string) => void made.set(inside, `-> ${to}`),
  remove: () => made.clear(),
};
beforeEach(() => made.clear());

const view = (target: string): View => ({ source: `/T${target}`, target, isFolder: true });
const said = ({ source, target, type, data }: MountCall) => `${type ?? 'bind'} ${source} ${target}${data === null ? '' : ` ${data}`}`;

/** A computer with these paths: `/x/` is a directory, `/x@` a link, others are files. */
function computer(paths: readonly string[], mountPoints: readonly string[] = []): HostPaths {
  const plain = new Set(['/', ...paths.map((path) => path.replace(/[/@]$/, ''))]);
  return {
    exists: (path) => plain.has(path),
    list: (path) =>
      paths
        .filter(
          (each) =>
            each.replace(/[/@]$/, '').startsWith(`${path}/`) &&
            !each
              .replace(/[/@]$/, '')
              .slice(path.length + 1)
              .includes('/'),
        )
        .map((each) => ({
          name: each.replace(/[/@]$/, '').slice(path.length + 1),
          kind: each.endsWith('/') ? 'folder' : each.endsWith('@') ? 'link' : 'file',
        })),
    linkTarget: () => 'elsewhere',
    mountPoints,
    processors: '0',
  };
}

it('lies over a path that the host has', () => {
  const calls = mountCalls([view('/sys/bus/pci')], [], scaffold, computer(['/sys/', '/sys/bus/', '/sys/bus/pci/']));
  expect(calls.map(said)).toEqual(['bind none /', 'bind /T/sys/bus/pci /sys/bus/pci']);
});

it('makes one overlay of a directory that lacks places, and escapes its separators', () => {
  const host = computer(['/sys/', '/sys/class/', '/sys/class/net/']);
  const calls = mountCalls([view('/sys/class/vfio'), view('/sys/class/vfio-dev')], [], scaffold, host);
  expect(calls.map(said)).toEqual([
    'bind none /',
    `overlay overlay /sys/class lowerdir=/T/.host/sys-class:/sys/class`,
    'bind /T/sys/class/vfio /sys/class/vfio',
    'bind /T/sys/class/vfio-dev /sys/class/vfio-dev',
  ]);
  expect(made.get('/.host/sys-class/vfio-dev')).toBe('folder');
  const colon = mountCalls([view('/a:b/c')], [], scaffold, computer(['/a:b/']));
  expect(colon[1]!.data).toBe(`lowerdir=/T/.host/a\\:b:/a\\:b`);
});

it('binds each entry where an overlay would hide a file system below, and in /dev', () => {
  const host = computer(['/sys/', '/sys/kernel/', '/sys/kernel/debug/', '/sys/kernel/mm@', '/dev/', '/dev/null'], ['/sys/kernel/debug']);
  const calls = mountCalls([view('/sys/kernel/iommu_groups'), view('/dev/vfio')], [], scaffold, host);
  expect(calls.map(said)).toEqual([
    'bind none /',
    `bind /dev/null /T/.host/dev/null`,
    `bind /T/.host/dev /dev`,
    `bind /sys/kernel/debug /T/.host/sys-kernel/debug`,
    `bind /T/.host/sys-kernel /sys/kernel`,
    'bind /T/sys/kernel/iommu_groups /sys/kernel/iommu_groups',
    'bind /T/dev/vfio /dev/vfio',
  ]);
  expect(made.get('/.host/sys-kernel/mm')).toBe('-> elsewhere');
});

it('leaves the master of pseudo-terminals beside its slaves', () => {
  const calls = mountCalls([view('/dev/vfio')], [], scaffold, computer(['/dev/', '/dev/ptmx', '/dev/pts/']));
  expect(calls.map(said)).toEqual([
    'bind none /',
    'bind /dev /T/.host/dev/.host',
    'bind /dev/pts /T/.host/dev/pts',
    'bind /T/.host/dev /dev',
    'bind /T/dev/vfio /dev/vfio',
  ]);
  expect(made.get('/.host/dev/ptmx')).toBe('-> .host/ptmx');
});

it('binds everything where the kernel refuses overlays', () => {
  const host = computer(['/sys/', '/sys/class/', '/sys/class/net/']);
  const calls = mountCalls([view('/sys/class/vfio')], [], scaffold, host, { overlay: false });
  expect(calls.some(({ type }) => type === 'overlay')).toBe(false);
  expect(calls.map(said)).toContain(`bind /sys/class/net /T/.host/sys-class/net`);
});

it('keeps directories of the host inside a view, before the view covers them', () => {
  const kept = { source: '/sys/devices/pci0000:00/0000:00:1f.0', target: '/T/sys/devices/pci0000:00/0000:00:1f.0', isFolder: true };
  const host = computer(['/sys/', '/sys/devices/', '/sys/devices/pci0000:00/']);
  const calls = mountCalls([view('/sys/devices/pci0000:00')], [kept], scaffold, host);
  expect(calls.map(said).slice(1)).toEqual([
    'bind /sys/devices/pci0000:00/0000:00:1f.0 /T/sys/devices/pci0000:00/0000:00:1f.0',
    'bind /T/sys/devices/pci0000:00 /sys/devices/pci0000:00',
  ]);
});
