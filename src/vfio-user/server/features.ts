/**
 * DEVICE_FEATURE on a device: in the ioctl's form as it comes, and in the form of
 * migration-messages.ts where the protocol has another.
 */
import type { Device } from '../../abi/device.ts';
import { Feature } from '../../abi/vfio.ts';
import { DeviceFeature } from '../../abi/vfio-structs.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import { featureBytes } from '../../device/feature-bytes.ts';
import { EventFd } from '../../sys/eventfd.ts';
import type { OwnedFd } from '../../sys/owned-fd.ts';
import type { Answer } from '../messages/answer-context.ts';
import { encodeFeature, encodeFeatureReply, type FeatureMessage } from '../messages.ts';
import type { MigrationMessages } from './migration-messages.ts';

export class Features {
  readonly #device: Device;
  readonly #migration: MigrationMessages;
  readonly #maxReplyBytes: number;
  /** The client has acknowledged that the machine sleeps. */
  knowsOfSleep = false;

  constructor(device: Device, migration: MigrationMessages, maxReplyBytes: number) {
    this.#device = device;
    this.#migration = migration;
    this.#maxReplyBytes = maxReplyBytes;
  }

  /**
   * The device's answer.
   *
   * @param fds an eventfd that the feature's data speaks of
   * @throws VfioError EINVAL argsz without room for the feature's data or beyond the message, or
   *   more than one descriptor; what the device throws
   */
  feature(request: FeatureMessage, fds: readonly OwnedFd[]): Answer {
    const moved = this.#migration.feature(request);
    if (moved !== null) return moved;
    const { feature, get, set, probe, argsz } = request;
    const room = argsz - DeviceFeature.structSize;
    if (room > this.#maxReplyBytes) throw new VfioError('EINVAL', `DEVICE_FEATURE: argsz ${argsz} is more than a message holds`);
    if (fds.length > (feature === Feature.SYSTEM_SLEEP ? 2 : 1)) {
      throw new VfioError('EINVAL', `DEVICE_FEATURE with ${fds.length} descriptors`);
    }
    using events = new Cleanup();
    const sinks = fds.map((fd) => events.use(EventFd.fromFd(fd)));
    const data = new Uint8Array(room);
    data.set(request.data);
    // Before the call, during which the machine may go to sleep.
    const knew = this.knowsOfSleep;
    if (feature === Feature.SYSTEM_SLEEP_ACK && set && !probe) this.knowsOfSleep = true;
    let used: number;
    try {
      used = featureBytes(this.#device, { feature, get, set, probe, data, ...(sinks.length === 0 ? {} : { sinks }) });
    } catch (error) {
      this.knowsOfSleep = knew;
      throw error;
    }
    if (get && !probe) return { payload: encodeFeature({ feature, get, set, probe, data: data.subarray(0, used) }) };
    return { payload: encodeFeatureReply(request) };
  }
}
