/** The kernel's description of a region: VFIO_DEVICE_GET_REGION_INFO with its capabilities. */
import type { RegionInfo } from '../abi/device.ts';
import { RegionInfo as RegionInfoStruct } from '../abi/vfio-structs.ts';
import { VfioError } from '../base/errno.ts';
import { decodeRegionInfo, withoutWholeArea } from '../device/region-capabilities.ts';
import { DeviceCall } from './calls.ts';
import type { KernelPort } from './device-port.ts';

/** A kernel that announces more capabilities is not believed: bytes. */
const MAX_ARGSZ = 1 << 20;
/** Room for the capabilities of most regions, so that one call is enough. */
const USUAL_ARGSZ = 256;

export interface KernelRegionInfo {
  readonly info: RegionInfo;
  /** Where the region starts in the device's file: bytes. */
  readonly offset: number;
}

/**
 * @throws VfioError EINVAL when the device has no such region; ENODEV; EPROTO for an answer that
 *   makes no sense
 * @see linux/drivers/vfio/pci/vfio_pci_core.c, vfio_pci_ioctl_get_region_info()
 */
export function describeRegion(port: KernelPort, index: number): KernelRegionInfo {
  let room = USUAL_ARGSZ;
  for (;;) {
    const view = new DataView(new ArrayBuffer(room));
    RegionInfoStruct.encode(view, 0, { argsz: room, index });
    port.call(DeviceCall.GET_REGION_INFO, new Uint8Array(view.buffer));
    const { argsz, info, offset } = decodeRegionInfo(view, `${port.name}: VFIO_DEVICE_GET_REGION_INFO of region ${index}`);
    if (argsz > room && argsz <= MAX_ARGSZ) {
      room = argsz;
      continue;
    }
    if (argsz > room || offset > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw new VfioError('EPROTO', `${port.name}: the kernel describes region ${index} with ${argsz} bytes, at ${offset}`);
    }
    return { info: withoutWholeArea(info), offset: Number(offset) };
  }
}
