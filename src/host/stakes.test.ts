import { expect, it } from 'vitest';
import { FakeHost } from '../../tests/kit/fake-host.ts';
import { addressBytes, interfaceTo } from './host-routes.ts';
import { stakesOf } from './stakes.ts';

const DISK = '0000:00:17.0';
const NVME = '0000:02:00.0';
const NIC = '0000:03:00.0';
const USB = '0000:00:14.0';

/** A computer with a disk, an NVMe drive, a network card, a USB controller, and these entries. */
function computer(entries: Readonly<Record<string, string>>): FakeHost {
  const host = new FakeHost({ [DISK]: {}, [NVME]: {}, [NIC]: {}, [USB]: {} });
  for (const [path, text] of Object.entries(entries)) host.entries.set(path, text);
  return host;
}

/** `BDF: what` of each reason; `(…)` where it is a remark. */
const said = (host: FakeHost, sshClient?: string) =>
  [...stakesOf(host, { sshClient: sshClient ?? null }).values()]
    .flat()
    .map(({ bdf, what, severe }) => `${bdf}: ${severe ? what : `(${what})`}`);

const mounted = (...lines: string[]) => lines.map((line, i) => `${20 + i} 1 ${line}`).join('\n');
const sda = `/sys/devices/pci0000:00/${DISK}/ata1/host0/target0:0:0/0:0:0:0/block/sda`;
const nvme = `/sys/devices/pci0000:00/0000:00:1d.0/${NVME}/nvme/nvme0/nvme0n1`;

it('a mounted partition needs its controller', () => {
  const host = computer({
    '/sys/dev/block/8:1': `->../..${sda.slice('/sys'.length)}/sda1`,
    '/proc/self/mountinfo': mounted(
      '8:1 / / rw - ext4 /dev/sda1 rw',
      '0:21 / /proc rw - proc proc rw',
      '8:1 /a\\040b /srv/a\\040b rw - ext4 /dev/sda1 rw',
    ),
  });
  expect(said(host)).toEqual([`${DISK}: holds / (ext4)`, `${DISK}: holds /srv/a b (ext4)`]);
});

it('a file system on encryption on LVM on RAID needs every disk', () => {
  const host = computer({
    '/sys/dev/block/253:1': '->../../devices/virtual/block/dm-1',
    '/sys/devices/virtual/block/dm-1/slaves/dm-0': '->../../dm-0',
    '/sys/devices/virtual/block/dm-0/slaves/md0p1': '->../../md0/md0p1',
    '/sys/devices/virtual/block/md0/md0p1/partition': '1',
    '/sys/devices/virtual/block/md0/slaves/sda': `->${sda}`,
    '/sys/devices/virtual/block/md0/slaves/nvme0n1': `->${nvme}`,
    '/proc/self/mountinfo': mounted('253:1 / /home rw - xfs /dev/mapper/home rw'),
  });
  expect(said(host).sort()).toEqual([`${DISK}: holds /home (xfs)`, `${NVME}: holds /home (xfs)`]);
});

it('a circle of devices ends', () => {
  const host = computer({
    '/sys/dev/block/253:0': '->../../devices/virtual/block/dm-0',
    '/sys/devices/virtual/block/dm-0/slaves/dm-0': '->../../dm-0',
    '/proc/self/mountinfo': mounted('253:0 / / rw - ext4 /dev/dm-0 rw'),
  });
  expect(said(host)).toEqual([]);
});

it('all disks of a btrfs are needed, and the controllers of an NVMe disk with several paths', () => {
  const multipath = '/sys/devices/virtual/nvme-subsystem/nvme-subsys0';
  const host = computer({
    '/sys/class/block/sda': `->${sda}`,
    '/sys/fs/btrfs/u-u/devices/sda': `->${sda}`,
    '/sys/fs/btrfs/u-u/devices/nvme0n1': `->${multipath}/nvme0n1`,
    [`${multipath}/nvme0`]: `->/sys/devices/pci0000:00/0000:00:1d.0/${NVME}/nvme/nvme0`,
    [`${multipath}/nvme0n1/size`]: '1',
    '/proc/self/mountinfo': mounted('0:30 / / rw - btrfs /dev/sda rw'),
  });
  expect(said(host).sort()).toEqual([`${DISK}: holds / (btrfs)`, `${NVME}: holds / (btrfs)`]);
});

it('swap is needed; disks that a pool of ZFS may have, too', () => {
  const host = computer({
    '/sys/class/block/nvme0n1': `->${nvme}`,
    '/sys/class/block/sda': `->${sda}`,
    '/proc/swaps': 'Filename\tType\tSize\n/dev/nvme0n1 partition 100 0 -2\n/swapfile file 1 0 -3\n',
  });
  expect(said(host)).toEqual([`${NVME}: holds swap that is in use`]);
  host.entries.set('/proc/self/mountinfo', mounted('0:40 / /tank rw - zfs tank rw'));
  expect(said(host)).toContain(`${DISK}: may hold a pool of ZFS`);
});

const route = (name: string, destination: string, mask: string) => `${name}\t${destination}\t010200C0\t0003\t0\t0\t0\t${mask}\t0\t0\t0`;
const nicAt = `/sys/devices/pci0000:00/0000:00:1c.0/${NIC}/net/eth0`;
const routed = (name: string, more: Readonly<Record<string, string>> = {}) =>
  computer({
    '/sys/class/net/eth0': `->../../devices${nicAt.slice('/sys/devices'.length)}`,
    '/proc/net/route': ['Iface\tDestination', route(name, '00000000', '00000000'), route(name, '000200C0', '00FFFFFF')].join('\n'),
    ...more,
  });

it('the card of the default route is needed, also below a VLAN on a bond', () => {
  expect(said(routed('eth0'))).toEqual([`${NIC}: carries the default route (eth0)`]);
  const stacked = routed('bond0.5', {
    '/sys/class/net/bond0.5': '->../../devices/virtual/net/bond0.5',
    '/sys/devices/virtual/net/bond0.5/lower_bond0': '->../bond0',
    '/sys/class/net/bond0': '->../../devices/virtual/net/bond0',
    '/sys/devices/virtual/net/bond0/lower_eth0': `->${nicAt}`,
  });
  expect(said(stacked)).toEqual([`${NIC}: carries the default route (bond0.5)`]);
});

it('a card that is up without the default route is a remark, unless the ssh session is on it', () => {
  const host = computer({
    '/sys/class/net/eth0': `->../../devices${nicAt.slice('/sys/devices'.length)}`,
    [`${nicAt}/operstate`]: 'up\n',
    '/proc/net/route': ['Iface', route('eth0', '000200C0', '00FFFFFF')].join('\n'),
  });
  expect(said(host)).toEqual([`${NIC}: (has the network interface eth0, which is up)`]);
  expect(said(host, '192.0.2.9')).toContain(`${NIC}: carries the ssh session from 192.0.2.9 (eth0)`);
  expect(said(host, '198.51.100.1')).toEqual([`${NIC}: (has the network interface eth0, which is up)`]);
});

it('finds the interface of an address by the longest prefix, IPv6 as well', () => {
  const host = computer({
    '/proc/net/ipv6_route': [
      '20010db8000000000000000000000000 20 00000000000000000000000000000000 00 00000000000000000000000000000000 00000400 00000001 00000000 00000001     eth1',
      '00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth0',
      '00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo',
    ].join('\n'),
  });
  expect([interfaceTo(host, '2001:db8::7'), interfaceTo(host, '2001:db9::7'), interfaceTo(host, '192.0.2.1')]).toEqual([
    'eth1',
    'eth0',
    null,
  ]);
  expect([addressBytes('::ffff:192.0.2.1'), addressBytes('x')]).toEqual([[192, 0, 2, 1], null]);
});

it('a display with a monitor, and a frame buffer, are needed', () => {
  const card = `/sys/devices/pci0000:00/${USB}/drm/card0`;
  const host = computer({
    '/sys/class/drm/card0-HDMI-A-1': `->${card}/card0-HDMI-A-1`,
    [`${card}/card0-HDMI-A-1/status`]: 'connected\n',
    [`${card}/card0-HDMI-A-1/enabled`]: 'enabled\n',
    '/sys/class/graphics/fb0': `->/sys/devices/pci0000:00/${USB}/graphics/fb0`,
  });
  expect(said(host)).toEqual([`${USB}: drives the display at HDMI-A-1`, `${USB}: shows the console (fb0)`]);
  host.entries.set(`${card}/card0-HDMI-A-1/enabled`, 'disabled\n');
  expect(said(host)).toEqual([`${USB}: shows the console (fb0)`]);
});

it('the only keyboard is needed; one of several is a remark; a power button is no keyboard', () => {
  const keyboard = (n: number, below: string) => ({
    [`/sys/class/input/input${n}`]: `->/sys/devices/pci0000:00/${below}/usb1/input/input${n}`,
    [`/sys/devices/pci0000:00/${below}/usb1/input/input${n}/capabilities/key`]:
      '1000000000007 ff9f207ac14057ff febeffdfffefffff fffffffffffffffe\n',
    [`/sys/devices/pci0000:00/${below}/usb1/input/input${n}/name`]: `keyboard ${n}\n`,
  });
  const button = {
    '/sys/class/input/input9': '->/sys/devices/LNXPWRBN:00/input/input9',
    '/sys/devices/LNXPWRBN:00/input/input9/capabilities/key': '10000000000000 0\n',
  };
  expect(said(computer({ ...keyboard(1, USB), ...button }))).toEqual([`${USB}: has the only keyboard (keyboard 1)`]);
  expect(said(computer({ ...keyboard(1, USB), ...keyboard(2, NIC) }))[0]).toBe(`${USB}: (has a keyboard (keyboard 1))`);
});

it('a serial card with the console of the kernel is needed', () => {
  const host = computer({
    '/sys/class/tty/console/active': 'tty0 ttyS4\n',
    '/sys/class/tty/ttyS4': `->/sys/devices/pci0000:00/${USB}/tty/ttyS4`,
  });
  expect(said(host)).toEqual([`${USB}: is a console of the kernel (ttyS4)`]);
});

it('a controller is needed whose PCI domain has a disk that is needed', () => {
  const host = computer({
    '/sys/dev/block/259:1': `->/sys/devices/pci0000:00/${DISK}/pci10000:e0/10000:e0:06.0/10000:e1:00.0/nvme/nvme0/nvme0n1/nvme0n1p1`,
    '/proc/self/mountinfo': mounted('259:1 / / rw - ext4 /dev/nvme0n1p1 rw'),
  });
  expect(said(host)).toEqual(['10000:e1:00.0: holds / (ext4)', `${DISK}: holds / (ext4)`]);
});

it('disks are found by the names of device mapper, by several names, and by options of a mount', () => {
  const host = computer({
    '/sys/class/block/sda': `->${sda}`,
    '/sys/class/block/nvme0n1': `->${nvme}`,
    '/sys/devices/virtual/block/dm-3/dm/name': 'vg-swap\n',
    '/sys/devices/virtual/block/dm-3/slaves/sda': `->${sda}`,
    '/proc/swaps': 'Filename\tType\tSize\n/dev/mapper/vg-swap partition 100 0 -2\n',
    '/proc/self/mountinfo': mounted(
      '0:50 / /pool rw - bcachefs /dev/sda:/dev/nvme0n1 rw',
      '8:77 / /srv rw - xfs /dev/gone rw,logdev=/dev/nvme0n1,noquota',
    ),
  });
  expect(said(host).sort()).toEqual([
    `${DISK}: holds /pool (bcachefs)`,
    `${DISK}: holds swap that is in use`,
    `${NVME}: holds /pool (bcachefs)`,
    `${NVME}: holds /srv (xfs)`,
  ]);
});

it('a disk is needed that is mounted in another mount namespace only', () => {
  const host = computer({
    '/sys/dev/block/8:1': `->${sda}/sda1`,
    '/proc/self/ns/mnt': '->mnt:[1]',
    '/proc/self/mountinfo': mounted('0:9 / / rw - tmpfs tmpfs rw'),
    '/proc/1/ns/mnt': '->mnt:[1]',
    '/proc/1/mountinfo': mounted('8:1 / /not-read rw - ext4 /dev/sda1 rw'),
    '/proc/812/ns/mnt': '->mnt:[2]',
    '/proc/812/comm': 'postgres\n',
    '/proc/812/mountinfo': mounted('0:9 / / rw - tmpfs tmpfs rw', '8:1 / /data rw - ext4 /dev/sda1 rw'),
  });
  expect(said(host)).toEqual([`${DISK}: holds /data of process 812 (postgres) (ext4)`]);
});

it('the card is needed that reaches the computer which has a file system or a disk', () => {
  const remote = (mount: string, more: Readonly<Record<string, string>>) =>
    said(
      computer({
        '/sys/class/net/eth0': `->${nicAt}`,
        '/proc/net/route': ['Iface', route('eth0', '000200C0', '00FFFFFF')].join('\n'),
        '/proc/self/mountinfo': mounted(mount),
        ...more,
      }),
    );
  expect(remote('0:60 / /home rw - nfs4 files:/home rw,vers=4.2,addr=192.0.2.5', {})).toEqual([
    `${NIC}: carries /home (nfs4), which 192.0.2.5 has (eth0)`,
  ]);
  expect(remote('0:60 / /home rw - ceph 192.0.2.6:6789,192.0.2.7:6789:/ rw', {})).toEqual([
    `${NIC}: carries /home (ceph), which 192.0.2.6 has (eth0)`,
    `${NIC}: carries /home (ceph), which 192.0.2.7 has (eth0)`,
  ]);
  expect(
    remote('259:5 / / rw - ext4 /dev/nvme1n1 rw', {
      '/sys/dev/block/259:5': '->../../devices/virtual/nvme-subsystem/nvme-subsys1/nvme1n1',
      '/sys/devices/virtual/nvme-subsystem/nvme-subsys1/nvme1n1/size': '1',
      '/sys/devices/virtual/nvme-subsystem/nvme-subsys1/nvme1': '->../../nvme-fabrics/ctl/nvme1',
      '/sys/devices/virtual/nvme-fabrics/ctl/nvme1/address': 'traddr=192.0.2.8,trsvcid=4420\n',
    }),
  ).toEqual([`${NIC}: carries / (ext4), which 192.0.2.8 has (eth0)`]);
  const session = '/sys/devices/platform/host2/session1';
  expect(
    remote('8:16 / / rw - ext4 /dev/sdb rw', {
      '/sys/dev/block/8:16': `->${session}/target2:0:0/2:0:0:0/block/sdb`,
      [`${session}/connection1:0/iscsi_connection/connection1:0/address`]: '192.0.2.9\n',
    }),
  ).toEqual([`${NIC}: carries / (ext4), which 192.0.2.9 has (eth0)`]);
});

it('a default route by an interface without a card below it may go through any card that is up', () => {
  const host = routed('br0', {
    '/sys/class/net/br0': '->../../devices/virtual/net/br0',
    '/sys/devices/virtual/net/br0/operstate': 'unknown\n',
    [`${nicAt}/operstate`]: 'up\n',
  });
  expect(said(host)[0]).toBe(`${NIC}: may carry the default route (br0)`);
  const table = host.entries.get('/proc/net/route')!;
  host.entries.set('/proc/net/route', `${table}\n${route('eth0', '00000000', '00000000')}`);
  expect(said(host)).toEqual([`${NIC}: carries the default route (eth0)`]);
});

it('a pool of ZFS is in use without a mounted file system', () => {
  const host = computer({
    '/sys/class/block/sda': `->${sda}`,
    '/proc/spl/kstat/zfs/arcstats': '',
    '/proc/spl/kstat/zfs/tank/state': 'ONLINE\n',
  });
  expect(said(host)).toEqual([`${DISK}: may hold a pool of ZFS`]);
});

it('devices and interfaces that are all below one another end soon', () => {
  const names = Array.from({ length: 24 }, (_, i) => i);
  const circles = names.flatMap((i) =>
    names.flatMap((j): [string, string][] => [
      [`/sys/devices/virtual/block/dm-${i}/slaves/dm-${j}`, `->../../dm-${j}`],
      [`/sys/devices/virtual/net/br${i}/lower_br${j}`, `->../br${j}`],
    ]),
  );
  const host = computer({
    ...Object.fromEntries(circles),
    '/sys/dev/block/253:0': '->../../devices/virtual/block/dm-0',
    '/sys/class/net/br0': '->../../devices/virtual/net/br0',
    '/proc/self/mountinfo': mounted('253:0 / / rw - ext4 /dev/dm-0 rw'),
  });
  expect(said(host)).toEqual([]);
});
