/** The kernel's description of a region: VFIO_DEVICE_GET_REGION_INFO with its capabilities. */
import type { RegionInfo } from '../abi/device.ts';
import { RegionInfo as RegionInfoStruct } from '../abi/vfio-structs.ts';
import { VfioError } from '../base/errno.ts';
import { decodeRegionInfo, withoutWholeArea } from '../device/region-capabilities.ts';
import { DeviceCall } from './calls.ts';
import type { KernelPort } from './device-port.ts';
import { growingAnswer } from './growing-answer.ts';

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
  const what = `${port.name}: VFIO_DEVICE_GET_REGION_INFO of region ${index}`;
  let view = new DataView(new ArrayBuffer(0));
  growingAnswer(what, { room: USUAL_ARGSZ }, (room) => {
    view = new DataView(new ArrayBuffer(room));
    RegionInfoStruct.encode(view, 0, { argsz: room, index });
    port.call(DeviceCall.GET_REGION_INFO, new Uint8Array(view.buffer));
    return RegionInfoStruct.argsz.get(view, 0);
  });
  const { info, offset } = decodeRegionInfo(view, what);
  if (offset + BigInt(info.size) > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new VfioError('EPROTO', `${what}: the kernel has ${info.size} bytes at ${offset} of the device's file, past 2^53`);
  }
  return { info: withoutWholeArea({ ...info, index }), offset: Number(offset) };
}
