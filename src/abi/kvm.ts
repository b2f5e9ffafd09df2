/** The part of linux/kvm.h through which a virtual machine learns of its VFIO files. */
import { struct } from '../base/struct.ts';

const KVMIO = 0xae;
const io = (number: number): number => (KVMIO << 8) | number;
const iow = (number: number, size: number): number => (0x4000_0000 | (size << 16) | io(number)) >>> 0;
const iowr = (number: number, size: number): number => (0xc000_0000 | (size << 16) | io(number)) >>> 0;

/** The kernel's structure has no hole, so it does not have 16 bytes. */
export const KvmCreateDevice = struct('kvm_create_device', 12, { type: 'u32', fd: 'u32', flags: 'u32' });

export const KvmDeviceAttr = struct('kvm_device_attr', 24, { flags: 'u32', group: 'u32', attr: 'u64', addr: 'u64' });

export const KvmIoctl = {
  GET_API_VERSION: io(0x00),
  CREATE_VM: io(0x01),
  CREATE_DEVICE: iowr(0xe0, KvmCreateDevice.structSize),
  SET_DEVICE_ATTR: iow(0xe1, KvmDeviceAttr.structSize),
  HAS_DEVICE_ATTR: iow(0xe3, KvmDeviceAttr.structSize),
} as const;

export const KVM_API_VERSION = 12;

/** kvm_create_device.flags: only report whether KVM has such a device. */
export const KVM_CREATE_DEVICE_TEST = 1;
export const KVM_DEV_TYPE_VFIO = 4;

/** kvm_device_attr.group. */
export const KVM_DEV_VFIO_FILE = 1;

/** kvm_device_attr.attr of that group; GROUP_ADD and GROUP_DEL are the same numbers. */
export const KvmDevVfioFile = { ADD: 1, DEL: 2 } as const;
