/**
 * DEVICE_FEATURE: the features of linux/vfio.h and ours. Their data reads as feature-shapes.ts
 * says.
 */

import { Feature, FeatureFlags } from '../../abi/vfio.ts';
import { DeviceFeature, FeatureMigState } from '../../abi/vfio-structs.ts';
import { hex } from '../../base/check.ts';
import { viewOf } from '../../base/data-view.ts';
import { VfioError } from '../../base/errno.ts';
import type { FeatureMessage } from './answer-context.ts';
import { featureWords } from './feature-shapes.ts';
import { message, showsAll } from './message.ts';
import { check, checkArgsz, made } from './payload.ts';
import { bits, name, pick, ref, type Shape } from './shape.ts';

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

/**
 * The same for request and reply; `data` is part of `payload`.
 * @throws VfioError EINVAL too short, or unknown flags
 */
export function decodeFeature(payload: Uint8Array): FeatureMessage {
  const view = check('DEVICE_FEATURE', payload, DeviceFeature.structSize);
  const argsz = checkArgsz('DEVICE_FEATURE', view, DeviceFeature.structSize);
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
function decodeFeatureRequest(payload: Uint8Array): FeatureMessage {
  const message = decodeFeature(payload);
  const room = message.argsz - DeviceFeature.structSize;
  if (message.set && !message.probe && message.data.length < room) {
    throw new VfioError('EINVAL', `DEVICE_FEATURE: argsz ${message.argsz} with ${message.data.length} bytes of data`);
  }
  return { ...message, data: message.data.subarray(0, room) };
}

/** The reply to a set or a probe: the request again, with the argsz that the feature needs. */
export function encodeFeatureReply({ argsz: _, ...request }: FeatureMessage): Uint8Array<ArrayBuffer> {
  const used = request.set && !request.probe ? setBytes.get(request.feature) : undefined;
  return encodeFeature({ ...request, data: request.data.subarray(0, used) });
}

/** The largest is DMA_LOGGING_START. A request with too many ranges still gets its error. */
const DATA_MAX = 8192;
const ASTERISK = 0x2a;

function shape(reply: boolean): Shape {
  const op = (flag: number, word: string) => pick(bits(ref(DeviceFeature.flags), flag, flag, word));
  return {
    structs: [DeviceFeature],
    words: [
      name(DeviceFeature.flags, Feature, 'feature', FeatureFlags.MASK),
      op(FeatureFlags.GET, ' get'),
      op(FeatureFlags.SET, ' set'),
      op(FeatureFlags.PROBE, ' probe'),
      featureWords(reply),
    ],
  };
}

export const deviceFeature = message({
  name: 'DEVICE_FEATURE',
  number: 16,
  from: 'client',
  // SYSTEM_SLEEP's; the others take one at most.
  fds: 2,
  size: { fixed: DeviceFeature.structSize, data: DATA_MAX, argsz: true },
  shown: showsAll,
  decode: decodeFeatureRequest,
  answer: ({ features }, request, fds) => features.feature(request, fds),
  command: shape(false),
  reply: shape(true),
  /** The driver of a physical function sets the VF token. */
  masked(payload) {
    if (payload.length <= DeviceFeature.structSize) return payload;
    const feature = DeviceFeature.flags.get(viewOf(payload), 0) & FeatureFlags.MASK;
    return feature === Feature.PCI_VF_TOKEN ? payload.slice().fill(ASTERISK, DeviceFeature.structSize) : payload;
  },
});
