/**
 * The requests that the client makes of the kernel, a row each: its name, its number, and remedies
 * for the errnos that a user can do something about. Every refusal becomes an error that names the
 * device, the call, the errno and the remedy.
 */
import { IommufdCommand } from '../abi/iommufd.ts';
import { ContainerIoctl, DeviceIoctl, GroupIoctl, MigrationIoctl } from '../abi/vfio.ts';
import { type ErrnoName, errnoName, VfioError } from '../base/errno.ts';

/** A request, and the remedies for its refusals. */
export interface KernelCall {
  /** As in the kernel's header: `VFIO_DEVICE_RESET`. */
  readonly name: string;
  readonly request: number;
  /** Sentences, by the errno that the kernel answers. */
  readonly remedies?: Partial<Record<ErrnoName, string>>;
}

/** The part of a `KernelFile` that a request needs. */
export interface CallPort {
  /** The result, or -errno. */
  ioctl(request: number, argument: number | Uint8Array): number;
}

/** Remedies that hold for every call. */
const general: Partial<Record<ErrnoName, string>> = {
  ENODEV: 'The device was removed, unbound or revoked; close it, and open it again when it is back.',
  ENOTTY: 'This kernel, or the driver of this device, does not know the call; use a newer kernel.',
  EMFILE: 'Raise the limit of open files (ulimit -n).',
  ENOMEM: 'The computer has no memory left for it: end other programs, or ask for less.',
  EIO: 'The device does not answer: turn memory decoding on (the bit MEMORY of COMMAND), wake it (D0), or reset it.',
};

/** The remedy for an errno where a call has none of its own. */
export function generalRemedy(code: ErrnoName | undefined): string {
  return (code === undefined ? undefined : general[code]) ?? "The kernel's log (dmesg) may say why.";
}

const memlock =
  'The process may lock no more memory: raise the limit (ulimit -l, LimitMEMLOCK= of a systemd unit), or give it CAP_IPC_LOCK.';
const whole = 'Name whole mappings; a mapping cannot be unmapped in part.';
const iommufd = (number: number) => 0x3b00 | number;

/** Calls on /dev/vfio/vfio. */
export const ContainerCall = {
  GET_API_VERSION: { name: 'VFIO_GET_API_VERSION', request: ContainerIoctl.GET_API_VERSION },
  CHECK_EXTENSION: { name: 'VFIO_CHECK_EXTENSION', request: ContainerIoctl.CHECK_EXTENSION },
  SET_IOMMU: {
    name: 'VFIO_SET_IOMMU',
    request: ContainerIoctl.SET_IOMMU,
    remedies: {
      ENODEV: 'The kernel has no such IOMMU driver: load it (modprobe vfio_iommu_type1).',
      EPERM:
        'The IOMMU does not remap interrupts, so devices could forge them. Turn interrupt remapping on in the firmware; or, where the guest is trusted, load vfio_iommu_type1 with allow_unsafe_interrupts=1.',
      EBUSY: 'A different driver uses a device of the group: run vfio doctor.',
    },
  },
  IOMMU_GET_INFO: { name: 'VFIO_IOMMU_GET_INFO', request: ContainerIoctl.IOMMU_GET_INFO },
  MAP_DMA: {
    name: 'VFIO_IOMMU_MAP_DMA',
    request: ContainerIoctl.IOMMU_MAP_DMA,
    remedies: {
      EEXIST: 'Unmap it first.',
      ENOSPC: 'Map larger pieces, unmap what is not used, or load vfio_iommu_type1 with a larger dma_entry_limit.',
      ENOMEM: memlock,
      EFAULT: 'Map memory that this process can reach, and that can be locked.',
    },
  },
  UNMAP_DMA: { name: 'VFIO_IOMMU_UNMAP_DMA', request: ContainerIoctl.IOMMU_UNMAP_DMA, remedies: { EINVAL: whole } },
  DIRTY_PAGES: {
    name: 'VFIO_IOMMU_DIRTY_PAGES',
    request: ContainerIoctl.IOMMU_DIRTY_PAGES,
    remedies: { ENOMEM: 'Unmap what is not used: the kernel has no memory for the bitmaps.' },
  },
} as const satisfies Record<string, KernelCall>;

/** Calls on /dev/vfio/N. */
export const GroupCall = {
  GET_STATUS: { name: 'VFIO_GROUP_GET_STATUS', request: GroupIoctl.GET_STATUS },
  SET_CONTAINER: {
    name: 'VFIO_GROUP_SET_CONTAINER',
    request: GroupIoctl.SET_CONTAINER,
    remedies: {
      EBUSY: 'A different program has the group; close the device there first.',
      EINVAL: 'The group is in a container already, or its IOMMU does not fit to that of the groups there; use a container of its own.',
      EPERM: 'One container holds either groups with an IOMMU or groups without; use a container for each kind.',
    },
  },
  UNSET_CONTAINER: {
    name: 'VFIO_GROUP_UNSET_CONTAINER',
    request: GroupIoctl.UNSET_CONTAINER,
    remedies: { EBUSY: 'Close the devices of the group first.' },
  },
  GET_DEVICE_FD: {
    name: 'VFIO_GROUP_GET_DEVICE_FD',
    request: GroupIoctl.GET_DEVICE_FD,
    remedies: {
      EACCES: 'The device needs a VF token: give that which the physical function was opened with, or set (token).',
      EINVAL: 'The device takes no VF token, or the group is in no container.',
      EBUSY: 'A different program has the device open, or it is being reset; close it there first.',
      EPERM: 'The group has no IOMMU: its devices need CAP_SYS_RAWIO.',
    },
  },
} as const satisfies Record<string, KernelCall>;

/** Calls on a device's file, however it was opened. */
export const DeviceCall = {
  BIND_IOMMUFD: {
    name: 'VFIO_DEVICE_BIND_IOMMUFD',
    request: DeviceIoctl.BIND_IOMMUFD,
    remedies: {
      EBUSY: "A different program has the device, or its group's file, open; close it there first.",
      EACCES: 'The device needs a VF token: give that which the physical function was opened with, or set (token).',
      EPERM:
        'The IOMMU does not remap interrupts, or a device of the group belongs to a different iommufd: open both devices with one another.',
      EINVAL: 'The kernel does not know a token here, or the file is no iommufd.',
      EBADFD: 'The descriptor is no iommufd.',
    },
  },
  ATTACH_IOMMUFD_PT: {
    name: 'VFIO_DEVICE_ATTACH_IOMMUFD_PT',
    request: DeviceIoctl.ATTACH_IOMMUFD_PT,
    remedies: {
      ENOMEM: memlock,
      EADDRINUSE: 'Memory is mapped where the IOMMU of this device reserves addresses; unmap it first.',
      EINVAL: 'The IOMMU of this device does not fit to the address space; use one of its own.',
      EPERM:
        'The IOMMU does not remap interrupts, so devices could forge them. Turn interrupt remapping on in the firmware; or, where the guest is trusted, load iommufd with allow_unsafe_interrupts=1.',
    },
  },
  DETACH_IOMMUFD_PT: { name: 'VFIO_DEVICE_DETACH_IOMMUFD_PT', request: DeviceIoctl.DETACH_IOMMUFD_PT },
  GET_INFO: { name: 'VFIO_DEVICE_GET_INFO', request: DeviceIoctl.GET_INFO },
  GET_REGION_INFO: { name: 'VFIO_DEVICE_GET_REGION_INFO', request: DeviceIoctl.GET_REGION_INFO },
  GET_IRQ_INFO: { name: 'VFIO_DEVICE_GET_IRQ_INFO', request: DeviceIoctl.GET_IRQ_INFO },
  SET_IRQS: {
    name: 'VFIO_DEVICE_SET_IRQS',
    request: DeviceIoctl.SET_IRQS,
    remedies: {
      ENOSPC: 'The computer has no interrupt vector left for it; ask for fewer.',
      EBUSY: 'An interrupt line is in use by a driver that does not share it, or an unmask eventfd is armed already.',
      ENOMEM: 'Ask for fewer vectors.',
    },
  },
  RESET: {
    name: 'VFIO_DEVICE_RESET',
    request: DeviceIoctl.RESET,
    remedies: {
      EINVAL: 'The device has no reset of its own; a hot reset of its bus may do it.',
      EAGAIN: 'A different user holds the device for a moment; try again.',
    },
  },
  GET_PCI_HOT_RESET_INFO: {
    name: 'VFIO_DEVICE_GET_PCI_HOT_RESET_INFO',
    request: DeviceIoctl.GET_PCI_HOT_RESET_INFO,
    remedies: { ENODEV: 'Neither the slot nor the bus of the device can be reset; use reset().' },
  },
  PCI_HOT_RESET: {
    name: 'VFIO_DEVICE_PCI_HOT_RESET',
    request: DeviceIoctl.PCI_HOT_RESET,
    remedies: {
      EINVAL: 'Own every device that the reset hits: open them all, and give them all.',
      EBUSY: 'A device that the reset hits is in use; close it first.',
      ENODEV: 'Neither the slot nor the bus of the device can be reset; use reset().',
      ENOTTY: 'The reset was made, and the port reports no link after it: look whether the device answers.',
      EPERM: 'Open the devices by this process: a group that a different process has is no proof.',
    },
  },
  IOEVENTFD: {
    name: 'VFIO_DEVICE_IOEVENTFD',
    request: DeviceIoctl.IOEVENTFD,
    remedies: { ENOSPC: 'The device has as many ioeventfds as the kernel allows; drop some.' },
  },
  FEATURE: {
    name: 'VFIO_DEVICE_FEATURE',
    request: DeviceIoctl.FEATURE,
    remedies: { ENOTTY: 'The device, its driver or this kernel lacks the feature.' },
  },
  MIG_GET_PRECOPY_INFO: { name: 'VFIO_MIG_GET_PRECOPY_INFO', request: MigrationIoctl.GET_PRECOPY_INFO },
} as const satisfies Record<string, KernelCall>;

/** Calls on /dev/iommu. */
export const IommufdCall = {
  DESTROY: { name: 'IOMMU_DESTROY', request: iommufd(IommufdCommand.DESTROY), remedies: { EBUSY: 'Detach its devices first.' } },
  IOAS_ALLOC: { name: 'IOMMU_IOAS_ALLOC', request: iommufd(IommufdCommand.IOAS_ALLOC) },
  IOAS_IOVA_RANGES: { name: 'IOMMU_IOAS_IOVA_RANGES', request: iommufd(IommufdCommand.IOAS_IOVA_RANGES) },
  IOAS_MAP: {
    name: 'IOMMU_IOAS_MAP',
    request: iommufd(IommufdCommand.IOAS_MAP),
    remedies: {
      EEXIST: 'Unmap it first.',
      EADDRINUSE: 'Unmap it first.',
      ENOMEM: memlock,
      EFAULT: 'Map memory that this process can reach, and that can be locked.',
    },
  },
  IOAS_MAP_FILE: {
    name: 'IOMMU_IOAS_MAP_FILE',
    request: iommufd(IommufdCommand.IOAS_MAP_FILE),
    remedies: { EEXIST: 'Unmap it first.', EADDRINUSE: 'Unmap it first.', ENOMEM: memlock },
  },
  IOAS_UNMAP: { name: 'IOMMU_IOAS_UNMAP', request: iommufd(IommufdCommand.IOAS_UNMAP), remedies: { ENOENT: whole, EBUSY: whole } },
  OPTION: { name: 'IOMMU_OPTION', request: iommufd(IommufdCommand.OPTION) },
  HWPT_ALLOC: {
    name: 'IOMMU_HWPT_ALLOC',
    request: iommufd(IommufdCommand.HWPT_ALLOC),
    remedies: { EOPNOTSUPP: 'The IOMMU does not note which pages devices write.', ENOMEM: memlock },
  },
  GET_HW_INFO: { name: 'IOMMU_GET_HW_INFO', request: iommufd(IommufdCommand.GET_HW_INFO) },
  HWPT_SET_DIRTY_TRACKING: { name: 'IOMMU_HWPT_SET_DIRTY_TRACKING', request: iommufd(IommufdCommand.HWPT_SET_DIRTY_TRACKING) },
  HWPT_GET_DIRTY_BITMAP: {
    name: 'IOMMU_HWPT_GET_DIRTY_BITMAP',
    request: iommufd(IommufdCommand.HWPT_GET_DIRTY_BITMAP),
    remedies: { EINVAL: 'Start the tracking first, and name whole mappings.' },
  },
  IOAS_NOIOMMU_GET_PA: {
    name: 'IOMMU_IOAS_NOIOMMU_GET_PA',
    request: iommufd(IommufdCommand.IOAS_NOIOMMU_GET_PA),
    remedies: { EPERM: 'Physical addresses need CAP_SYS_RAWIO.' },
  },
} as const satisfies Record<string, KernelCall>;

/**
 * Make a request of the kernel.
 *
 * @param on the subject of the error: a device's name, or a file of /dev
 * @returns the result, 0 or more
 * @throws VfioError the errno of the kernel, with the call and the remedy
 */
export function callKernel(file: CallPort, call: KernelCall, argument: number | Uint8Array, on: string): number {
  const result = file.ioctl(call.request, argument);
  if (result < 0) throw callFailure(result, call, on);
  return result;
}

/**
 * The error for a refusal of the kernel.
 *
 * @param result the negative errno
 * @param fix in place of the table's
 */
export function callFailure(result: number, call: KernelCall, on: string, fix?: string): VfioError {
  const code = errnoName(result);
  const options = { fix: fix ?? (code === undefined ? undefined : call.remedies?.[code]) ?? generalRemedy(code) };
  if (code === undefined) return new VfioError('EIO', `${on}: the kernel refuses ${call.name} with errno ${-result}`, options);
  return new VfioError(code, `${on}: the kernel refuses ${call.name}`, options);
}
