/**
 * The reset of a bus or slot by Linux's VFIO: the functions that it hits, and the proof that the
 * user owns all of them. A device of a group proves with the groups' files, a device of an iommufd
 * with the iommufd itself.
 *
 * @see linux/drivers/vfio/pci/vfio_pci_core.c, vfio_pci_ioctl_get_pci_hot_reset_info(),
 * vfio_pci_ioctl_pci_hot_reset()
 */
import type { HotResetDependent } from '../abi/device.ts';
import { HotResetInfoFlags } from '../abi/vfio.ts';
import { PciDependentDevice, PciHotReset, PciHotResetInfo } from '../abi/vfio-structs.ts';
import { viewOf } from '../base/data-view.ts';
import { errnoName } from '../base/errno.ts';
import { formatBdf } from '../pci/bdf.ts';
import type { HostFiles } from '../sys/host-files.ts';
import { descriptorBytes, type KernelFile } from '../sys/kernel-file.ts';
import { callFailure, DeviceCall } from './calls.ts';
import type { KernelPort } from './device-port.ts';
import { growingAnswer } from './growing-answer.ts';

/** Functions that the first question has room for. */
const FUNCTIONS = 8;

/**
 * @param files sysfs: a device of an iommufd hears of numbers in its iommufd alone, and
 *   not of groups
 * @throws VfioError ENODEV when neither slot nor bus can be reset; EPERM when a function has no
 *   group
 */
export function hotResetInfo(port: KernelPort, files: HostFiles): readonly HotResetDependent[] {
  const { name } = DeviceCall.GET_PCI_HOT_RESET_INFO;
  let view = viewOf(new Uint8Array(0));
  growingAnswer(`${port.name}: ${name}`, { room: FUNCTIONS, unit: PciDependentDevice.structSize }, (room) => {
    const bytes = new Uint8Array(PciHotResetInfo.structSize + room * PciDependentDevice.structSize);
    view = viewOf(bytes);
    PciHotResetInfo.encode(view, 0, { argsz: bytes.length });
    const result = port.file.ioctl(DeviceCall.GET_PCI_HOT_RESET_INFO.request, bytes);
    const count = PciHotResetInfo.count.get(view, 0);
    if (result < 0 && (errnoName(result) !== 'ENOSPC' || count <= room)) {
      port.failed(result);
      throw callFailure(result, DeviceCall.GET_PCI_HOT_RESET_INFO, port.name);
    }
    return count;
  });
  const { flags, count } = PciHotResetInfo.decode(view);
  return list(view, count, (flags & HotResetInfoFlags.DEV_ID) !== 0, files);
}

function list(view: DataView, count: number, byIds: boolean, files: HostFiles): readonly HotResetDependent[] {
  return Array.from({ length: count }, (_, i) => {
    const at = PciHotResetInfo.structSize + i * PciDependentDevice.structSize;
    const { id, segment, bus, devfn } = PciDependentDevice.decode(view, at);
    const bdf = formatBdf({ domain: segment, bus, device: devfn >> 3, fn: devfn & 7 });
    return byIds ? { bdf, groupId: groupOf(bdf, files), deviceId: id | 0 } : { bdf, groupId: id };
  });
}

/** -1: the function has no group, or is gone. */
function groupOf(bdf: string, files: HostFiles): number {
  const link = files.link(`/sys/bus/pci/devices/${bdf}/iommu_group`);
  return link === null ? -1 : Number(link.slice(link.lastIndexOf('/') + 1));
}

/**
 * @param groups the files of the groups that the user owns; none for a device of an iommufd
 * @throws VfioError EINVAL when the reset hits a function that the user does not own; ENODEV when
 *   neither slot nor bus can be reset; EBUSY, EAGAIN while a function is in use
 */
export function hotReset(port: KernelPort, groups: readonly KernelFile[]): void {
  const fds = descriptorBytes(groups.map((group) => group.fd));
  const bytes = new Uint8Array(PciHotReset.structSize + fds.length);
  PciHotReset.encode(viewOf(bytes), 0, { argsz: bytes.length, flags: 0, count: groups.length });
  bytes.set(fds, PciHotReset.structSize);
  port.call(DeviceCall.PCI_HOT_RESET, bytes);
}
