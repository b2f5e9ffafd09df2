/** DEVICE_GET_INFO: how many regions and IRQ indexes there are. */
import { DeviceFlags } from '../../abi/vfio.ts';
import { struct } from '../../base/struct.ts';
import { message } from './message.ts';
import { check, checkArgsz, made } from './payload.ts';
import { dec, flags as flagWords } from './shape.ts';

const UserDeviceInfo = struct('vfio_user_device_info', 16, { argsz: 'u32', flags: 'u32', num_regions: 'u32', num_irqs: 'u32' });

export interface DeviceInfoReply {
  /** `DeviceFlags` */
  readonly flags: number;
  readonly numRegions: number;
  readonly numIrqs: number;
}

/** A reply; without `info` its request. */
export function encodeDeviceInfo(info?: DeviceInfoReply): Uint8Array<ArrayBuffer> {
  const { payload, view } = made(UserDeviceInfo.structSize);
  const { flags = 0, numRegions = 0, numIrqs = 0 } = info ?? {};
  UserDeviceInfo.encode(view, 0, { argsz: UserDeviceInfo.structSize, flags, num_regions: numRegions, num_irqs: numIrqs });
  return payload;
}

/** The same for request and reply. @throws VfioError EINVAL too short */
export function decodeDeviceInfo(payload: Uint8Array): DeviceInfoReply {
  const view = check('DEVICE_GET_INFO', payload, UserDeviceInfo.structSize);
  checkArgsz('DEVICE_GET_INFO', view, UserDeviceInfo.structSize);
  const { flags, num_regions: numRegions, num_irqs: numIrqs } = UserDeviceInfo.decode(view);
  return { flags, numRegions, numIrqs };
}

export const deviceInfo = message({
  name: 'DEVICE_GET_INFO',
  number: 4,
  from: 'client',
  size: { fixed: UserDeviceInfo.structSize, argsz: true },
  decode(payload): void {
    decodeDeviceInfo(payload);
  },
  answer: ({ device }) => ({ payload: encodeDeviceInfo(device.info) }),
  encode: () => encodeDeviceInfo(),
  decodeReply: decodeDeviceInfo,
  command: { structs: [UserDeviceInfo], words: [] },
  reply: {
    structs: [UserDeviceInfo],
    words: [
      dec(UserDeviceInfo.num_regions),
      ' regions, ',
      dec(UserDeviceInfo.num_irqs),
      ' interrupt indexes, ',
      flagWords(UserDeviceInfo.flags, DeviceFlags),
    ],
  },
});
