/**
 * The part of /dev/kvm that VFIO needs: virtual machines that are only files, and their device of
 * type VFIO, which lists the VFIO files that the machine uses (S4-10).
 *
 * @see linux/virt/kvm/kvm_main.c, kvm_ioctl_create_device(); linux/virt/kvm/vfio.c,
 *   kvm_vfio_set_attr(), kvm_vfio_has_attr()
 */
import {
  KVM_API_VERSION,
  KVM_CREATE_DEVICE_TEST,
  KVM_DEV_TYPE_VFIO,
  KVM_DEV_VFIO_FILE,
  KvmCreateDevice,
  KvmDeviceAttr,
  KvmDevVfioFile,
  KvmIoctl,
} from '../abi/kvm.ts';
import { Cleanup } from '../base/cleanup.ts';
import { VfioError } from '../base/errno.ts';
import { type VfioFile, VfioFileSet } from '../engine/vm/vfio-file-set.ts';
import type { VmProvider } from '../engine/vm/vm-provider.ts';
import { type Caller, describeFile, type Handler } from './caller.ts';
import { OpenFile } from './file-table.ts';
import { VirtualMachine } from './virtual-machine.ts';

const createVm: Handler<VmProvider> = (provider, caller) => {
  caller.files.reserve();
  const body = new VirtualMachine(provider, `the virtual machine of process ${caller.process.pid}`);
  return caller.files.install(new OpenFile({ kind: 'vm', vm: body }, () => body.vm[Symbol.dispose]()), true);
};

const createDevice: Handler<VirtualMachine> = (body, caller, user) => {
  const view = user.viewIn(0, KvmCreateDevice.structSize);
  const { type, flags } = KvmCreateDevice.decode(view);
  if (type !== KVM_DEV_TYPE_VFIO) throw new VfioError('ENODEV', `KVM_CREATE_DEVICE: there is no device of type ${type} here`);
  if ((flags & KVM_CREATE_DEVICE_TEST) !== 0) return 0;
  if (body.device !== null) throw new VfioError('EBUSY', `${body.vm.name} has its VFIO device already`);
  caller.files.reserve();
  const set = new VfioFileSet(body.vm);
  // The device keeps the machine, as its file does in the kernel.
  body.vm.get();
  body.device = set;
  const file = new OpenFile({ kind: 'vm-device', set }, () => {
    using after = new Cleanup();
    after.defer(() => body.vm.put());
    body.device = null;
    after.use(set);
  });
  KvmCreateDevice.fd.set(view, 0, caller.files.install(file, true));
  user.copyOut(0, new Uint8Array(view.buffer));
  return 0;
};

const known = (group: number, attr: bigint): boolean =>
  group === KVM_DEV_VFIO_FILE && (attr === BigInt(KvmDevVfioFile.ADD) || attr === BigInt(KvmDevVfioFile.DEL));

const hasAttr: Handler<VfioFileSet> = (_set, _caller, user) => {
  const { group, attr } = KvmDeviceAttr.decode(user.viewIn(0, KvmDeviceAttr.structSize));
  if (known(group, attr)) return 0;
  throw new VfioError('ENXIO', `KVM's VFIO device has no attribute ${attr} in group ${group}`);
};

const setAttr: Handler<VfioFileSet> = (set, caller, user) => {
  const { group, attr, addr } = KvmDeviceAttr.decode(user.viewIn(0, KvmDeviceAttr.structSize));
  if (!known(group, attr)) throw new VfioError('ENXIO', `KVM's VFIO device has no attribute ${attr} in group ${group}`);
  const fd = new DataView(caller.memory.copyIn(addr, 4).buffer).getInt32(0, true);
  const { open, file } = vfioFile(caller, fd);
  if (attr === BigInt(KvmDevVfioFile.DEL)) {
    if (file === null) throw new VfioError('ENOENT', `descriptor ${fd} is not in the set`);
    set.delete(file);
    return 0;
  }
  if (file === null) throw new VfioError('EINVAL', `descriptor ${fd} is ${describeFile(open)}, neither a group nor a device of VFIO`);
  open.get();
  try {
    set.add(file, { [Symbol.dispose]: () => open.put() });
  } catch (error) {
    open.put();
    throw error;
  }
  return 0;
};

/** @throws VfioError EBADF */
function vfioFile(caller: Caller, fd: number): { readonly open: OpenFile; readonly file: VfioFile | null } {
  const open = caller.files.get(fd);
  const { body } = open;
  return {
    open,
    file: body.kind === 'group' ? body.group : body.kind === 'device' ? body.device : body.kind === 'cdev' ? body.cdev : null,
  };
}

export const kvmIoctls: ReadonlyMap<number, Handler<VmProvider>> = new Map<number, Handler<VmProvider>>([
  [KvmIoctl.GET_API_VERSION, () => KVM_API_VERSION],
  [KvmIoctl.CREATE_VM, createVm],
]);

export const vmIoctls: ReadonlyMap<number, Handler<VirtualMachine>> = new Map([[KvmIoctl.CREATE_DEVICE, createDevice]]);

export const vmDeviceIoctls: ReadonlyMap<number, Handler<VfioFileSet>> = new Map([
  [KvmIoctl.SET_DEVICE_ATTR, setAttr],
  [KvmIoctl.HAS_DEVICE_ATTR, hasAttr],
]);
