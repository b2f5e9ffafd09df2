/** DEVICE_FEATURE, MIG_DATA_READ, MIG_DATA_WRITE and MIG_GET_PRECOPY_INFO. */
import { Feature, FeatureFlags } from '../../abi/vfio.ts';
import { DeviceFeature, FeatureMigState, PrecopyInfo } from '../../abi/vfio-structs.ts';
import { CapabilityDefaults, Command, MigData } from '../../abi/vfio-user.ts';
import { hex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { check, checkArgsz, made, NOTHING } from './payload.ts';

export interface FeatureMessage {
  readonly argsz: number;
  readonly feature: number;
  readonly get: boolean;
  readonly set: boolean;
  readonly probe: boolean;
  /** In for set and, where a feature says so, for get; out for get. */
  readonly data: Uint8Array;
}

const FEATURE_FLAGS = FeatureFlags.MASK | FeatureFlags.GET | FeatureFlags.SET | FeatureFlags.PROBE;

/** @param argsz of a request: at least what it holds, and room for what a get fills */
export function encodeFeature(message: Omit<FeatureMessage, 'argsz'> & { readonly argsz?: number }): Uint8Array<ArrayBuffer> {
  const { feature, get, set, probe, data, argsz = DeviceFeature.structSize + data.length } = message;
  const { payload, view } = made(DeviceFeature.structSize + data.length);
  const flags = feature | (get ? FeatureFlags.GET : 0) | (set ? FeatureFlags.SET : 0) | (probe ? FeatureFlags.PROBE : 0);
  DeviceFeature.encode(view, 0, { argsz, flags });
  payload.set(data, DeviceFeature.structSize);
  return payload;
}

/** The same for request and reply; `data` is part of `payload`. @throws VfioError EINVAL too short, or unknown flags */
export function decodeFeature(payload: Uint8Array): FeatureMessage {
  const view = check(Command.DEVICE_FEATURE, payload, DeviceFeature.structSize);
  const argsz = checkArgsz(Command.DEVICE_FEATURE, view, DeviceFeature.structSize);
  const flags = DeviceFeature.flags.get(view, 0);
  if ((flags & ~FEATURE_FLAGS) !== 0) throw new VfioError('EINVAL', `DEVICE_FEATURE: unknown flags ${hex(flags)}`);
  return {
    argsz,
    feature: flags & FeatureFlags.MASK,
    get: (flags & FeatureFlags.GET) !== 0,
    set: (flags & FeatureFlags.SET) !== 0,
    probe: (flags & FeatureFlags.PROBE) !== 0,
    data: payload.subarray(DeviceFeature.structSize),
  };
}

/** Bytes of data that a set has, where it has the same number each time. */
const setBytes: ReadonlyMap<number, number> = new Map<number, number>([
  [Feature.PCI_VF_TOKEN, 16],
  [Feature.LOW_POWER_ENTRY, 0],
  [Feature.LOW_POWER_ENTRY_WITH_WAKEUP, 8],
  [Feature.LOW_POWER_EXIT, 0],
  [Feature.MIG_DEVICE_STATE, FeatureMigState.structSize],
  [Feature.DMA_LOGGING_STOP, 0],
]);

/**
 * A request as VFIO reads it: `data` ends where argsz says that the structure ends, whatever else
 * the message brings.
 *
 * @throws VfioError EINVAL as `decodeFeature`; a set whose message is shorter than its argsz
 */
export function decodeFeatureRequest(payload: Uint8Array): FeatureMessage {
  const message = decodeFeature(payload);
  const room = message.argsz - DeviceFeature.structSize;
  if (message.set && !message.probe && message.data.length < room) {
    throw new VfioError('EINVAL', `DEVICE_FEATURE: argsz ${message.argsz} with ${message.data.length} bytes of data`);
  }
  return { ...message, data: message.data.subarray(0, room) };
}

/** The reply to a set or a probe: the request again, with argsz as it had to be. */
export function encodeFeatureReply({ argsz: _, ...request }: FeatureMessage): Uint8Array<ArrayBuffer> {
  const used = request.set && !request.probe ? setBytes.get(request.feature) : undefined;
  return encodeFeature({ ...request, data: request.data.subarray(0, used) });
}

/** MIG_DATA_READ's request, or with `data` its reply; MIG_DATA_WRITE's request. */
export function encodeMigData(size: number, data: Uint8Array = NOTHING): Uint8Array<ArrayBuffer> {
  const { payload, view } = made(MigData.structSize + data.length);
  MigData.encode(view, 0, { argsz: MigData.structSize + size, size });
  payload.set(data, MigData.structSize);
  return payload;
}

/** @throws VfioError EINVAL too short, argsz that leaves no room for the data, or more than one message may carry */
export function decodeMigDataRead(payload: Uint8Array, max: number = CapabilityDefaults.MAX_DATA_XFER_SIZE): { readonly size: number } {
  const view = check(Command.MIG_DATA_READ, payload, MigData.structSize);
  const { argsz, size } = MigData.decode(view);
  if (argsz < MigData.structSize + size) throw new VfioError('EINVAL', `MIG_DATA_READ: argsz ${argsz} leaves no room for ${size} bytes`);
  if (size > max) throw new VfioError('EINVAL', `MIG_DATA_READ: ${size} bytes, at most ${max}`);
  return { size };
}

/** @throws VfioError EINVAL too short, or not `size` bytes of data */
export function decodeMigDataWrite(payload: Uint8Array): { readonly data: Uint8Array } {
  const view = check(Command.MIG_DATA_WRITE, payload, MigData.structSize);
  const { argsz, size } = MigData.decode(view);
  if (size !== payload.length - MigData.structSize || argsz < payload.length) {
    throw new VfioError(
      'EINVAL',
      `MIG_DATA_WRITE: size ${size}, argsz ${argsz}, with ${payload.length - MigData.structSize} bytes of data`,
    );
  }
  return { data: payload.subarray(MigData.structSize) };
}

/** MIG_GET_PRECOPY_INFO's reply; without `info` its request. */
export function encodePrecopyInfo(
  info: { readonly initialBytes: number; readonly dirtyBytes: number } = { initialBytes: 0, dirtyBytes: 0 },
) {
  const { payload, view } = made(PrecopyInfo.structSize);
  PrecopyInfo.encode(view, 0, {
    argsz: PrecopyInfo.structSize,
    flags: 0,
    initial_bytes: BigInt(info.initialBytes),
    dirty_bytes: BigInt(info.dirtyBytes),
  });
  return payload;
}

/** The same for request and reply. @throws VfioError EINVAL too short */
export function decodePrecopyInfo(payload: Uint8Array): { readonly initialBytes: number; readonly dirtyBytes: number } {
  const view = check(Command.MIG_GET_PRECOPY_INFO, payload, PrecopyInfo.structSize);
  checkArgsz(Command.MIG_GET_PRECOPY_INFO, view, PrecopyInfo.structSize);
  const { initial_bytes, dirty_bytes } = PrecopyInfo.decode(view);
  return { initialBytes: Number(initial_bytes), dirtyBytes: Number(dirty_bytes) };
}
