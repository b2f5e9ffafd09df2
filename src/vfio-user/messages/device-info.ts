/** DEVICE_GET_INFO: how many regions and IRQ indexes there are. */
import { Command, UserDeviceInfo } from '../../abi/vfio-user.ts';
import { check, checkArgsz, made } from './payload.ts';

export interface DeviceInfoReply {
  /** `DeviceFlags` */
  readonly flags: number;
  readonly numRegions: number;
  readonly numIrqs: number;
}

export function encodeDeviceInfo(info?: DeviceInfoReply): Uint8Array<ArrayBuffer> {
  const { payload, view } = made(UserDeviceInfo.structSize);
  const { flags = 0, numRegions = 0, numIrqs = 0 } = info ?? {};
  UserDeviceInfo.encode(view, 0, { argsz: UserDeviceInfo.structSize, flags, num_regions: numRegions, num_irqs: numIrqs });
  return payload;
}

/** The same for request and reply. @throws VfioError EINVAL too short */
export function decodeDeviceInfo(payload: Uint8Array): DeviceInfoReply {
  const view = check(Command.DEVICE_GET_INFO, payload, UserDeviceInfo.structSize);
  checkArgsz(Command.DEVICE_GET_INFO, view, UserDeviceInfo.structSize);
  const { flags, num_regions: numRegions, num_irqs: numIrqs } = UserDeviceInfo.decode(view);
  return { flags, numRegions, numIrqs };
}
