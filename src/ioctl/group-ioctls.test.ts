import { describe, expect, it } from 'vitest';
import { EDU, Guest, NVME } from '../../tests/kernel-answers/guest.ts';
import { bytesOf, fdBytes, said, viewOf } from '../../tests/kit/ioctl-bytes.ts';
import { ContainerIoctl, GroupIoctl } from '../abi/vfio.ts';
import { GroupStatus } from '../abi/vfio-structs.ts';
import { FD_CLOEXEC, OpenFlags } from './posix.ts';
import { cString } from './user-buffer.ts';

describe('open', () => {
  it('B.4 open: no node, no group of that number, or another spelling of it is ENOENT; the group once, then EBUSY', () => {
    using guest = new Guest();
    const { user, groupPath } = guest.subject(EDU);
    for (const path of [
      '',
      '/dev/vfio',
      '/dev/vfio/',
      '/dev/vfio/9999',
      '/dev/vfio/00',
      '/dev/vfio/-1',
      '/dev/vfio/1e0',
      `${groupPath}\n`,
    ]) {
      expect([path, said(user.open(path))]).toEqual([path, 'ENOENT']);
    }
    expect([said(user.open(8)), said(user.open(groupPath, 3)), said(user.open(groupPath)), said(user.open(groupPath))]).toEqual([
      'EFAULT',
      'EINVAL',
      3,
      'EBUSY',
    ]);
    user.close(3);
    expect(said(user.open(groupPath, OpenFlags.O_RDWR | OpenFlags.O_CLOEXEC))).toBe(3);
    expect(user.getFd(3)).toBe(FD_CLOEXEC);
  });

  it('B.4 open: dup shares the file, which is closed with its last descriptor', () => {
    using guest = new Guest();
    const { user, groupPath } = guest.subject(EDU);
    const group = user.open(groupPath);
    const copy = user.dup(group);
    user.close(group);
    expect(said(user.open(groupPath))).toBe('EBUSY');
    user.close(copy);
    expect(said(user.open(groupPath))).toBe(group);
  });

  it('B.4 open: a full descriptor table is EMFILE, and the group stays free', () => {
    using guest = new Guest();
    const { user, groupPath } = guest.subject(EDU);
    const poor = guest.door.process(user.process, 3);
    expect([said(poor.open(groupPath)), said(poor.open('/dev/vfio/vfio')), said(poor.eventfd())]).toEqual(['EMFILE', 'EMFILE', 'EMFILE']);
    expect(said(user.open(groupPath))).toBe(3);
  });
});

describe('SET_CONTAINER', () => {
  it('B.4 SET_CONTAINER: the group’s errno comes before that of the file’s kind', () => {
    using guest = new Guest();
    const { user, group, container, device } = guest.open(EDU);
    const nul = user.open('/dev/null');
    const set = (fd: number) => said(user.ioctl(group, GroupIoctl.SET_CONTAINER, fdBytes(fd)));
    expect([set(999), set(nul), set(container)]).toEqual(['EBADF', 'EINVAL', 'EINVAL']);
    user.close(device);
    expect(user.ioctl(group, GroupIoctl.UNSET_CONTAINER)).toBe(0);
    expect([set(nul), set(group), set(user.eventfd()), set(-1), set(container)]).toEqual(['EBADFD', 'EBADFD', 'EBADFD', 'EBADF', 0]);
  });

  it('B.4 GET_STATUS: viable, then in a container', () => {
    using guest = new Guest();
    const { user, groupPath } = guest.subject(EDU);
    const group = user.open(groupPath);
    const status = bytesOf(GroupStatus, { argsz: 8 });
    const flags = () => [user.ioctl(group, GroupIoctl.GET_STATUS, status), GroupStatus.flags.get(viewOf(status), 0)];
    expect(flags()).toEqual([0, 1]);
    user.ioctl(group, GroupIoctl.SET_CONTAINER, fdBytes(user.open('/dev/vfio/vfio')));
    expect(flags()).toEqual([0, 3]);
  });

  it('B.3 files may be closed in any order: nothing is left, and the group can be opened again', () => {
    const orders = [
      ['container', 'group', 'device'],
      ['container', 'device', 'group'],
      ['group', 'container', 'device'],
      ['group', 'device', 'container'],
      ['device', 'container', 'group'],
      ['device', 'group', 'container'],
    ] as const;
    using guest = new Guest();
    for (const order of orders) {
      const at = guest.open(EDU);
      for (const kind of order) expect(at.user.close(at[kind])).toBe(0);
      expect([order, guest.machine.function(EDU).group!.file, guest.machine.function(EDU).group!.domain]).toEqual([order, null, null]);
      at.user.exit();
    }
    expect(guest.errors).toEqual([]);
  });
});

describe('GET_DEVICE_FD', () => {
  it('B.4 GET_DEVICE_FD: a string without NUL in a page is EINVAL, one that runs out of memory EFAULT', () => {
    using guest = new Guest();
    const { user, group } = guest.open(EDU);
    const get = (name: Uint8Array | number) => said(user.ioctl(group, GroupIoctl.GET_DEVICE_FD, name));
    const long = new Uint8Array(4097).fill(65);
    const fits = long.slice(0, 4096);
    fits[4095] = 0;
    expect([get(long), get(long.subarray(0, 4095)), get(fits), get(new Uint8Array(0)), get(8)]).toEqual([
      'EINVAL',
      'EFAULT',
      'ENODEV',
      'EFAULT',
      'EFAULT',
    ]);
  });

  it('B.4 GET_DEVICE_FD: no descriptor left is EMFILE, and the device was not opened', () => {
    using guest = new Guest();
    const { user, group, device } = guest.open(EDU);
    const before = guest.machine.function(EDU).vfio!.openCount;
    const poor = guest.door.process(user.process, 4);
    const mine = user.sendFd(group, poor);
    expect(said(poor.ioctl(mine, GroupIoctl.GET_DEVICE_FD, cString(EDU)))).toBe('EMFILE');
    expect(guest.machine.function(EDU).vfio!.openCount).toBe(before);
    expect(device).toBeGreaterThan(0);
  });

  it('S2-14 several descriptors of one device: reset state is shared, the last close disables it', () => {
    using guest = new Guest();
    const { user, group, device } = guest.open(EDU);
    const second = user.ioctl(group, GroupIoctl.GET_DEVICE_FD, cString(EDU));
    user.pwrite(device, new Uint8Array([6, 0]), 7 * 2 ** 40 + 4);
    const command = new Uint8Array(2);
    user.pread(second, command, 7 * 2 ** 40 + 4);
    expect(command[0]).toBe(6);
    user.close(device);
    expect(said(user.ioctl(group, GroupIoctl.UNSET_CONTAINER))).toBe('EBUSY');
    user.close(second);
    expect(said(user.ioctl(group, GroupIoctl.UNSET_CONTAINER))).toBe(0);
  });
});

describe('who may', () => {
  it('S2-01 a user without privileges drives a device once its node was given to it; EACCES before', () => {
    using guest = new Guest();
    const group = guest.machine.function(NVME).group!;
    const { user: root } = guest.subject(NVME);
    root.exit();
    const process = guest.unprivileged();
    const path = `/dev/vfio/${group.id}`;
    expect([said(process.open(path)), said(process.open('/dev/vfio/vfio'))]).toEqual(['EACCES', 3]);
    guest.machine.chownGroup(group.id, process.process.uid);
    expect(said(process.open(path))).toBe(4);
    expect(process.ioctl(4, GroupIoctl.SET_CONTAINER, fdBytes(3))).toBe(0);
    expect(process.ioctl(3, ContainerIoctl.SET_IOMMU, 3)).toBe(0);
    expect(process.ioctl(4, GroupIoctl.GET_DEVICE_FD, cString(NVME))).toBe(5);
  });

  it('E-01 the sentence behind an errno names the device in the way', () => {
    const told: string[] = [];
    using guest = new Guest({ onRefusal: (_process, call, error) => told.push(`${call}: ${error.explain()}`) });
    const { user, groupPath } = guest.subject(EDU);
    user.open(groupPath);
    user.open(groupPath);
    expect(told).toEqual([expect.stringMatching(/^open: EBUSY: group \d+ is open already, by process 100 \(uid \d+\)\n {2}fix: /)]);
  });
});
