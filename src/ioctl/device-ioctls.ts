/**
 * The requests of a device file that was opened through its group.
 *
 * @see linux/drivers/vfio/vfio_main.c, vfio_device_fops_unl_ioctl();
 *   linux/drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_ioctl()
 */
import type { HotResetDependent, RegionInfo as RegionDescription } from '../abi/device.ts';
import { DeviceFlags, DeviceIoctl, HotResetInfoFlags, REGION_OFFSET_STEP, RegionCap, RegionFlags } from '../abi/vfio.ts';
import {
  DeviceInfo,
  DeviceIoeventfd,
  IrqInfo,
  MinSize,
  PciDependentDevice,
  PciHotReset,
  PciHotResetInfo,
  RegionInfo,
  RegionInfoCapSparseMmap,
  RegionInfoCapType,
  SparseMmapArea,
} from '../abi/vfio-structs.ts';
import { VfioError } from '../base/errno.ts';
import type { DeviceFile } from '../engine/device/device-file.ts';
import type { GroupFile } from '../engine/machine/group-file.ts';
import { bdfParts } from '../pci/bdf.ts';
import { decodeBind } from './bind-iommufd.ts';
import { checkArgsz, checkFlags, describeFile, type Handler, lazySource } from './caller.ts';
import { answerInfo, CapabilityChain } from './capability-chain.ts';
import { feature } from './device-feature.ts';
import { decodeIrqSet } from './irq-set.ts';

type DeviceHandler = Handler<DeviceFile>;

const IoeventfdSize = { BYTES_1: 1, BYTES_2: 2, BYTES_4: 4, BYTES_8: 8, MASK: 15 } as const;

const getInfo: DeviceHandler = (device, _caller, user) => {
  const view = new DataView(new ArrayBuffer(DeviceInfo.structSize));
  const argsz = DeviceInfo.argsz.get(user.viewIn(0, MinSize.DEVICE_INFO), 0);
  checkArgsz(argsz, MinSize.DEVICE_INFO, 'DEVICE_GET_INFO');
  const { flags, numRegions, numIrqs } = device.info;
  DeviceInfo.encode(view, 0, { argsz, flags, num_regions: numRegions, num_irqs: numIrqs });
  answerInfo(user, DeviceInfo, view, new CapabilityChain(), DeviceFlags.CAPS);
  return 0;
};

function regionCapabilities(info: RegionDescription): CapabilityChain {
  const chain = new CapabilityChain();
  const areas = info.sparseAreas;
  if (areas !== undefined) {
    const head = RegionInfoCapSparseMmap.structSize;
    chain.add(RegionCap.SPARSE_MMAP, 1, head + areas.length * SparseMmapArea.structSize, (view) => {
      RegionInfoCapSparseMmap.nr_areas.set(view, 0, areas.length);
      areas.forEach(({ offset, size }, i) => {
        SparseMmapArea.encode(view, head + i * SparseMmapArea.structSize, { offset: BigInt(offset), size: BigInt(size) });
      });
    });
  }
  if (info.msixMappable === true) chain.add(RegionCap.MSIX_MAPPABLE, 1, 8);
  const type = info.type;
  if (type !== undefined) chain.add(RegionCap.TYPE, 1, RegionInfoCapType.structSize, (view) => RegionInfoCapType.encode(view, 0, type));
  return chain;
}

const getRegionInfo: DeviceHandler = (device, _caller, user) => {
  const view = user.viewIn(0, MinSize.REGION_INFO);
  checkArgsz(RegionInfo.argsz.get(view, 0), MinSize.REGION_INFO, 'DEVICE_GET_REGION_INFO');
  const index = RegionInfo.index.get(view, 0);
  const { info } = device.region(index);
  const flags = info.flags & ~RegionFlags.CAPS;
  RegionInfo.encode(view, 0, { flags, cap_offset: 0, size: BigInt(info.size), offset: BigInt(index * REGION_OFFSET_STEP) });
  answerInfo(user, RegionInfo, view, regionCapabilities(info), RegionFlags.CAPS);
  return 0;
};

const getIrqInfo: DeviceHandler = (device, _caller, user) => {
  const view = user.viewIn(0, MinSize.IRQ_INFO);
  checkArgsz(IrqInfo.argsz.get(view, 0), MinSize.IRQ_INFO, 'DEVICE_GET_IRQ_INFO');
  const { flags, count } = device.irq(IrqInfo.index.get(view, 0));
  IrqInfo.encode(view, 0, { flags, count });
  user.copyOut(0, new Uint8Array(view.buffer));
  return 0;
};

const setIrqs: DeviceHandler = (device, caller, user) => device.setIrqs(decodeIrqSet(device, caller, user));

const reset: DeviceHandler = (device) => {
  device.reset();
  return 0;
};

/**
 * B.8 HOT_RESET_INFO: when the caller's array is too short, ENOSPC with `count` saying how many
 * there are.
 */
const getHotResetInfo: DeviceHandler = (device, _caller, user) => {
  const view = user.viewIn(0, MinSize.PCI_HOT_RESET_INFO);
  const argsz = PciHotResetInfo.argsz.get(view, 0);
  checkArgsz(argsz, MinSize.PCI_HOT_RESET_INFO, 'DEVICE_GET_PCI_HOT_RESET_INFO');
  const dependents = device.hotResetInfo();
  PciHotResetInfo.encode(view, 0, { flags: hotResetFlags(dependents), count: dependents.length });
  const list = new DataView(new ArrayBuffer(dependents.length * PciDependentDevice.structSize));
  dependents.forEach(({ bdf, groupId, deviceId }, i) => {
    const { domain, bus, device: slot, fn } = bdfParts(bdf);
    // As in Linux, `segment` has 16 bits: of a domain from 10000 it has the lower ones.
    PciDependentDevice.encode(list, i * PciDependentDevice.structSize, {
      id: (deviceId ?? groupId) >>> 0,
      segment: domain & 0xffff,
      bus,
      devfn: (slot << 3) | fn,
    });
  });
  const room = argsz - PciHotResetInfo.structSize;
  if (room < list.byteLength) {
    user.copyOut(0, new Uint8Array(view.buffer));
    throw new VfioError('ENOSPC', `${dependents.length} devices need ${list.byteLength} bytes, argsz leaves ${room}`);
  }
  user.copyOut(PciHotResetInfo.structSize, new Uint8Array(list.buffer));
  user.copyOut(0, new Uint8Array(view.buffer));
  return 0;
};

/** @see vfio_pci_fill_devs(): a device that its user does not own takes DEV_ID_OWNED away. */
function hotResetFlags(dependents: readonly HotResetDependent[]): number {
  if (dependents[0]?.deviceId === undefined) return 0;
  const owned = dependents.every(({ deviceId }) => deviceId !== -1);
  return HotResetInfoFlags.DEV_ID | (owned ? HotResetInfoFlags.DEV_ID_OWNED : 0);
}

/** B.8 HOT_RESET: what can be said without the descriptors comes before they are looked at. */
const hotReset: DeviceHandler = (device, caller, user) => {
  const { argsz, flags, count } = PciHotReset.decode(user.viewIn(0, MinSize.PCI_HOT_RESET));
  checkArgsz(argsz, MinSize.PCI_HOT_RESET, 'DEVICE_PCI_HOT_RESET');
  checkFlags(flags, 0, 'DEVICE_PCI_HOT_RESET');
  device.checkHotReset(count);
  const fds = user.viewIn(PciHotReset.structSize, count * 4);
  const groups: GroupFile[] = [];
  for (let i = 0; i < count; i++) {
    const fd = fds.getInt32(4 * i, true);
    const file = caller.files.get(fd);
    if (file.body.kind !== 'group') throw new VfioError('EINVAL', `descriptor ${fd} is not a group but ${describeFile(file)}`);
    groups.push(file.body.group);
  }
  device.hotReset(groups);
  return 0;
};

const ioeventfd: DeviceHandler = (device, caller, user) => {
  const view = user.viewIn(0, MinSize.DEVICE_IOEVENTFD);
  checkArgsz(DeviceIoeventfd.argsz.get(view, 0), MinSize.DEVICE_IOEVENTFD, 'DEVICE_IOEVENTFD');
  const size = DeviceIoeventfd.flags.get(view, 0);
  const fd = DeviceIoeventfd.fd.get(view, 0);
  checkFlags(size, IoeventfdSize.MASK, 'DEVICE_IOEVENTFD');
  if (size !== 1 && size !== 2 && size !== 4 && size !== 8)
    throw new VfioError('EINVAL', 'DEVICE_IOEVENTFD: exactly one size flag must be set');
  if (fd < -1) throw new VfioError('EINVAL', `DEVICE_IOEVENTFD: ${fd} is neither a descriptor nor -1`);
  const offset = DeviceIoeventfd.offset.get(view, 0);
  device.ioeventfd({
    region: Number(offset / BigInt(REGION_OFFSET_STEP)),
    offset: Number(offset % BigInt(REGION_OFFSET_STEP)),
    size,
    data: DeviceIoeventfd.data.get(view, 0),
    source: lazySource(caller, fd),
  });
  return 0;
};

/**
 * B.5 BIND_IOMMUFD is for files of /dev/vfio/devices. A file that came through its group is bound
 * already. The engine checks the structure first.
 */
const bindIommufd: DeviceHandler = (device, _caller, user) => {
  decodeBind(user, device.device.ctx.linux);
  throw new VfioError('EINVAL', 'DEVICE_BIND_IOMMUFD: this device file was opened through its group');
};

export const deviceIoctls: ReadonlyMap<number, DeviceHandler> = new Map([
  [DeviceIoctl.GET_INFO, getInfo],
  [DeviceIoctl.GET_REGION_INFO, getRegionInfo],
  [DeviceIoctl.GET_IRQ_INFO, getIrqInfo],
  [DeviceIoctl.SET_IRQS, setIrqs],
  [DeviceIoctl.RESET, reset],
  [DeviceIoctl.GET_PCI_HOT_RESET_INFO, getHotResetInfo],
  [DeviceIoctl.PCI_HOT_RESET, hotReset],
  [DeviceIoctl.IOEVENTFD, ioeventfd],
  [DeviceIoctl.FEATURE, feature],
  [DeviceIoctl.BIND_IOMMUFD, bindIommufd],
]);
