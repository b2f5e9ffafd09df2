/** VFIO_DEVICE_FEATURE of the kernel: requests that the features of a device are made of. */
import type { FeatureRequest } from '../abi/device.ts';
import { Feature, FeatureFlags } from '../abi/vfio.ts';
import { DeviceFeature } from '../abi/vfio-structs.ts';
import { viewOf } from '../base/data-view.ts';
import { errnoName, VfioError } from '../base/errno.ts';
import { isMember } from '../device/feature-bytes.ts';
import { callFailure, DeviceCall, type KernelCall } from './calls.ts';
import type { KernelPort } from './device-port.ts';

const { GET, SET, PROBE } = FeatureFlags;
const EMPTY = new Uint8Array(0);
/** The most bytes of data that a request has: the ranges of the largest dma-buf. */
const DATA_MAX = 2 ** 23;

const names = new Map<number, string>(Object.entries(Feature).map(([name, feature]) => [feature, name]));

/** `MIGRATION`, or `feature 4711`. */
function featureName(feature: number): string {
  return names.get(feature) ?? `feature ${feature}`;
}

export class KernelFeatures {
  readonly port: KernelPort;

  constructor(port: KernelPort) {
    this.port = port;
  }

  /**
   * One request. `data` goes to the kernel, and holds what the kernel has written there after it.
   *
   * @param op bits of `FeatureFlags`
   * @returns the kernel's result, 0 or more
   * @throws VfioError the kernel's errno, with device, feature and remedy
   */
  ask(feature: number, op: number, data: Uint8Array = EMPTY): number {
    const result = this.send(feature, op, data);
    if (result >= 0) return result;
    this.port.failed(result);
    throw callFailure(result, featureCall(feature), this.port.name);
  }

  /** As `ask`; returns -errno in place of an error. */
  send(feature: number, op: number, data: Uint8Array): number {
    const { source } = this.port;
    const ask = () => this.#send(feature, op, data);
    // It has an event of its own.
    if (!source.on || (feature === Feature.MIG_DEVICE_STATE && (op & SET) !== 0)) return ask();
    const details = { name: featureName(feature), op: (op & PROBE) !== 0 ? 'probe' : (op & SET) !== 0 ? 'set' : 'get' } as const;
    return source.attempt('feature', details, ask, (result) => (result >= 0 ? {} : { errno: errnoName(result) ?? `errno ${-result}` }));
  }

  #send(feature: number, op: number, data: Uint8Array): number {
    const bytes = requestBytes(feature, op, data);
    try {
      const result = this.port.file.ioctl(DeviceCall.FEATURE.request, bytes);
      if ((op & PROBE) === 0) data.set(bytes.subarray(DeviceFeature.structSize));
      return result;
    } finally {
      // A VF token must not stay in memory.
      bytes.fill(0);
    }
  }

  /**
   * `Device.feature`: a probe, or a feature that is no member of `Device`, as it is.
   *
   * @throws VfioError as there
   */
  raw(request: FeatureRequest): number {
    const { name } = this.port;
    if (typeof request !== 'object' || request === null) throw new VfioError('EINVAL', `${name}: FEATURE without a request`);
    const { feature, data = EMPTY, probe = false, get = false, set = false } = request;
    if (!Number.isInteger(feature) || feature < 0 || feature > FeatureFlags.MASK) {
      throw new VfioError('EINVAL', `${name}: feature number ${String(feature)} does not fit 16 bits`);
    }
    if (!(data instanceof Uint8Array)) throw new VfioError('EFAULT', `data of feature ${feature} is not a Uint8Array`);
    if (data.length > DATA_MAX) throw new VfioError('EINVAL', `${name}: ${data.length} bytes of data of feature ${feature} are too many`);
    const op = (get ? GET : 0) | (set ? SET : 0);
    if (!probe && get !== set && isMember(feature)) {
      this.ask(feature, op | PROBE);
      throw new VfioError('EINVAL', `${name}: feature ${feature} with ${data.length} bytes of data`, {
        fix: 'Use the member of the device.',
      });
    }
    this.ask(feature, op | (probe ? PROBE : 0), data);
    return get && !probe ? data.length : 0;
  }
}

/** The call with the feature in its name, for messages. */
export function featureCall(feature: number): KernelCall {
  return { ...DeviceCall.FEATURE, name: `${DeviceCall.FEATURE.name} ${featureName(feature)}` };
}

/** The bytes of the request, with its data behind the head. */
export function requestBytes(feature: number, op: number, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(DeviceFeature.structSize + data.length);
  DeviceFeature.encode(viewOf(bytes), 0, { argsz: bytes.length, flags: feature | op });
  bytes.set(data, DeviceFeature.structSize);
  return bytes;
}
