import { describe, expect, it } from 'vitest';
import { EDU, Guest, NVME } from '../../tests/kernel-answers/guest.ts';
import { bytesOf, said, viewOf } from '../../tests/kit/ioctl-bytes.ts';
import { KvmCreateDevice, KvmDeviceAttr, KvmDevVfioFile, KvmIoctl } from '../abi/kvm.ts';
import { GroupIoctl } from '../abi/vfio.ts';
import type { SyntheticVm } from '../engine/vm/synthetic-vm.ts';
import { VmProvider } from '../engine/vm/vm-provider.ts';
import { KernelDoor } from './kernel-door.ts';
import { MapFlags, Prot } from './posix.ts';
import { cString } from './user-buffer.ts';
import type { UserProcess } from './user-process.ts';

function setup() {
  const guest = new Guest();
  const provider = new VmProvider('kvm');
  const door = new KernelDoor(guest.machine, { kvm: provider });
  const { user: owner, groupPath } = guest.subject(EDU);
  const user = door.process(owner.process);
  const kvm = user.open('/dev/kvm');
  const vm = user.ioctl(kvm, KvmIoctl.CREATE_VM);
  const page = user.mmap(4096, Prot.READ | Prot.WRITE, MapFlags.PRIVATE | MapFlags.ANONYMOUS);
  return { guest, provider, user, kvm, vm, page, groupPath };
}

function createDevice(user: UserProcess, vm: number, type = 4, flags = 0): number | string {
  const argument = bytesOf(KvmCreateDevice, { type, fd: 0, flags });
  const result = user.ioctl(vm, KvmIoctl.CREATE_DEVICE, argument);
  return result < 0 || flags !== 0 ? said(result) : viewOf(argument).getUint32(4, true);
}

function attr(
  user: UserProcess,
  device: number,
  page: number,
  fd: number,
  what: number,
  group = 1,
  request: number = KvmIoctl.SET_DEVICE_ATTR,
) {
  user.memory.store(page, 4, fd >>> 0);
  return said(user.ioctl(device, request, bytesOf(KvmDeviceAttr, { flags: 0, group, attr: BigInt(what), addr: BigInt(page) })));
}

describe('KVM device of type VFIO', () => {
  it('S4-10 one per machine, KVM_CREATE_DEVICE_TEST finds it and makes none', () => {
    const { guest, user, kvm, vm } = setup();
    expect(user.ioctl(kvm, KvmIoctl.GET_API_VERSION)).toBe(12);
    expect([createDevice(user, vm, 4, 1), createDevice(user, vm, 5), createDevice(user, vm, 5, 1)]).toEqual([0, 'ENODEV', 'ENODEV']);
    const device = createDevice(user, vm);
    expect(device).toBeGreaterThan(vm);
    expect(createDevice(user, vm)).toBe('EBUSY');
    expect(said(user.ioctl(vm, KvmIoctl.CREATE_DEVICE, 0))).toBe('EFAULT');
    user.close(device as number);
    expect(createDevice(user, vm)).toBe(device);
    expect(said(user.ioctl(vm, KvmIoctl.CREATE_VM))).toBe('ENOTTY');
    guest[Symbol.dispose]();
  });

  it('S4-10 add and delete: errnos', () => {
    const { guest, user, vm, page, groupPath } = setup();
    const device = createDevice(user, vm) as number;
    const group = user.open(groupPath);
    const container = user.open('/dev/vfio/vfio');
    const add = (fd: number) => attr(user, device, page, fd, KvmDevVfioFile.ADD);
    const del = (fd: number) => attr(user, device, page, fd, KvmDevVfioFile.DEL);
    expect([add(999), add(-1), add(container), add(vm), add(user.eventfd()), del(999), del(container), del(group)]).toEqual([
      'EBADF',
      'EBADF',
      'EINVAL',
      'EINVAL',
      'EINVAL',
      'EBADF',
      'ENOENT',
      'ENOENT',
    ]);
    expect([add(group), add(group), add(user.dup(group)), del(group), del(group)]).toEqual([0, 'EEXIST', 'EEXIST', 0, 'ENOENT']);
    expect([attr(user, device, page, group, 3), attr(user, device, page, group, 1, 2)]).toEqual(['ENXIO', 'ENXIO']);
    const has = (what: number, of = 1) => attr(user, device, page, 0, what, of, KvmIoctl.HAS_DEVICE_ATTR);
    expect([has(1), has(2), has(3), has(1, 0)]).toEqual([0, 0, 'ENXIO', 'ENXIO']);
    const bad = bytesOf(KvmDeviceAttr, { flags: 0, group: 1, attr: 1n, addr: 0x10n });
    expect([said(user.ioctl(device, KvmIoctl.SET_DEVICE_ATTR, bad)), said(user.ioctl(device, KvmIoctl.SET_DEVICE_ATTR, 8))]).toEqual([
      'EFAULT',
      'EFAULT',
    ]);
    guest[Symbol.dispose]();
  });

  it('S4-10 a listed file is held: its group stays taken when the descriptor is closed', () => {
    const { guest, user, vm, page, groupPath } = setup();
    const device = createDevice(user, vm) as number;
    const group = user.open(groupPath);
    expect(attr(user, device, page, group, KvmDevVfioFile.ADD)).toBe(0);
    user.close(group);
    expect(said(user.open(groupPath))).toBe('EBUSY');
    user.close(device);
    expect(user.open(groupPath)).toBeGreaterThan(0);
    guest[Symbol.dispose]();
  });

  it('S4-07 a device keeps the machine whose descriptors are closed, and S4-06 its hypervisor', () => {
    const { guest, provider, user, kvm, vm, page } = setup();
    const set = createDevice(user, vm) as number;
    const group = user.open(`/dev/vfio/${guest.machine.function(NVME).group!.id}`);
    const container = user.open('/dev/vfio/vfio');
    user.ioctl(group, GroupIoctl.SET_CONTAINER, new Uint8Array(new Int32Array([container]).buffer));
    user.ioctl(container, 0x3b66, 3);
    expect(attr(user, set, page, group, KvmDevVfioFile.ADD)).toBe(0);
    const device = user.ioctl(group, GroupIoctl.GET_DEVICE_FD, cString(NVME));
    expect(device).toBeGreaterThan(0);
    const { vfio } = guest.machine.function(NVME);
    const file = vfio!.vm!;
    const { references } = file as SyntheticVm;
    // The descriptor, its VFIO device, and the open device.
    expect(references).toBe(3);
    for (const fd of [vm, kvm]) user.close(fd);
    expect((file as SyntheticVm).references).toBe(2);
    user.close(set);
    expect([vfio!.vm, provider.pins, (file as SyntheticVm).references]).toEqual([file, 1, 1]);
    expect(() => provider.unload()).toThrow(expect.objectContaining({ code: 'EBUSY' }));
    expect(user.close(device)).toBe(0);
    expect([vfio!.vm, provider.pins, file.tryGet()]).toEqual([null, 0, false]);
    guest[Symbol.dispose]();
  });

  it('S4-10 without a hypervisor there is no /dev/kvm', () => {
    using guest = new Guest();
    expect(said(guest.subject(EDU).user.open('/dev/kvm'))).toBe('ENOENT');
  });
});
