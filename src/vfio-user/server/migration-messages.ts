/**
 * The part of a client's messages that moves the device: the features whose data differs from the
 * ioctl's, and MIG_DATA_READ and MIG_DATA_WRITE in place of a descriptor.
 *
 * A device that stands still still answers: registers work, and memory can be mapped, as with the
 * kernel's. libvfio-user refuses both.
 */
import type { Device, MigrationStream, PrecopyInfo } from '../../abi/device.ts';
import { Feature } from '../../abi/vfio.ts';
import { DeviceFeature, FeatureDmaLoggingControl, FeatureDmaLoggingRange, FeatureDmaLoggingReport } from '../../abi/vfio-structs.ts';
import { U64_MAX } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import type { Answer } from '../messages/answer-context.ts';
import {
  encodeFeature,
  encodeFeatureReply,
  type FeatureMessage,
  UserDmaLoggingControl,
  UserDmaLoggingReport,
  viewOf,
} from '../messages.ts';

const EMPTY = new Uint8Array(0);
const PAGE = 4096n;

/** The largest range: no length reaches the end of the last page of 64 bits. */
const EVERYWHERE = new Uint8Array(FeatureDmaLoggingRange.structSize);
FeatureDmaLoggingRange.encode(viewOf(EVERYWHERE), 0, { iova: 0n, length: U64_MAX + 1n - PAGE });

/**
 * Pages of the hint that `EVERYWHERE` is made of. A hint that is no page size stays, and is
 * refused.
 */
function wholePages(size: bigint): bigint {
  return size >= PAGE && (size & (size - 1n)) === 0n ? PAGE : size;
}

export class MigrationMessages implements Disposable {
  readonly #device: Device;
  readonly #maxBytes: number;
  #stream: MigrationStream | null = null;

  /** @param maxBytes  of data in one message */
  constructor(device: Device, maxBytes: number) {
    this.#device = device;
    this.#maxBytes = maxBytes;
  }

  /**
   * Null for a feature, or an operation, whose data is the same as the ioctl's.
   *
   * @throws VfioError EINVAL argsz that leaves no room for the bitmap; what the device throws
   */
  feature(message: FeatureMessage): Answer | null {
    const { feature, get, set, probe } = message;
    if (probe || get === set) return null;
    if (feature === Feature.MIG_DEVICE_STATE && set) return this.#setState(message);
    if (feature === Feature.DMA_LOGGING_START && set) return this.#startLogging(message);
    if (feature === Feature.DMA_LOGGING_REPORT && get) return this.#report(message);
    return null;
  }

  #setState(message: FeatureMessage): Answer {
    const data = message.data.slice();
    this.#device.feature({
      feature: message.feature,
      set: true,
      data,
      onDataStream: (stream) => {
        this.#stream?.close();
        this.#stream = stream;
      },
    });
    return { payload: encodeFeatureReply({ ...message, data }) };
  }

  #startLogging(message: FeatureMessage): Answer {
    // The device is asked for the feature before the data is checked.
    this.#device.feature({ feature: message.feature, set: true, probe: true, data: EMPTY });
    if (message.data.length < UserDmaLoggingControl.structSize) {
      throw new VfioError('EINVAL', `DMA_LOGGING_START: ${message.data.length} bytes of data`);
    }
    const control = UserDmaLoggingControl.decode(viewOf(message.data));
    // The specification: without ranges, every write is logged. With the ioctl that is EINVAL.
    const { page_size, num_ranges } = control.num_ranges === 0 ? { page_size: wholePages(control.page_size), num_ranges: 1 } : control;
    const ranges = control.num_ranges === 0 ? EVERYWHERE : message.data.slice(UserDmaLoggingControl.structSize);
    const data = new Uint8Array(FeatureDmaLoggingControl.structSize);
    FeatureDmaLoggingControl.encode(viewOf(data), 0, { page_size, num_ranges });
    const missing = num_ranges * FeatureDmaLoggingRange.structSize > ranges.length;
    try {
      this.#device.feature({ feature: message.feature, set: true, data, ranges });
    } catch (error) {
      // An address that is not in the caller's memory, in the kernel, is a message that is too
      // short here.
      if (missing && error instanceof VfioError && error.code === 'EFAULT') throw new VfioError('EINVAL', error.message, { cause: error });
      throw error;
    }
    const reply = message.data.slice(0, UserDmaLoggingControl.structSize + control.num_ranges * FeatureDmaLoggingRange.structSize);
    UserDmaLoggingControl.page_size.set(viewOf(reply), 0, FeatureDmaLoggingControl.page_size.get(viewOf(data), 0));
    return { payload: encodeFeatureReply({ ...message, data: reply }) };
  }

  #report(message: FeatureMessage): Answer {
    const { argsz, feature } = message;
    this.#device.feature({ feature, get: true, probe: true, data: EMPTY });
    const fixed = UserDmaLoggingReport.structSize;
    if (message.data.length < fixed) throw new VfioError('EINVAL', `DMA_LOGGING_REPORT: ${message.data.length} bytes of data`);
    const asked = UserDmaLoggingReport.decode(viewOf(message.data));
    const room = argsz - DeviceFeature.structSize - fixed;
    const data = new Uint8Array(FeatureDmaLoggingReport.structSize);
    FeatureDmaLoggingReport.encode(viewOf(data), 0, { ...asked, bitmap: 0n });
    const needed = asked.page_size === 0n ? 0n : (((asked.length + asked.page_size - 1n) / asked.page_size + 63n) / 64n) * 8n;
    if (needed > BigInt(Math.max(0, Math.min(room, this.#maxBytes - fixed)))) {
      this.#checkReport(feature, data);
      throw new VfioError(
        'EINVAL',
        `DMA_LOGGING_REPORT: a bitmap of ${needed} bytes; argsz ${argsz}, and what a message holds, leave ${room}`,
      );
    }
    const reply = new Uint8Array(fixed + Number(needed));
    reply.set(message.data.subarray(0, fixed));
    this.#device.feature({ feature, get: true, data, bitmap: reply.subarray(fixed) });
    return { payload: encodeFeature({ ...message, argsz: DeviceFeature.structSize + reply.length, data: reply }) };
  }

  /**
   * Checks the request but for its bitmap. The device forgets nothing, because the reply has no
   * room for it.
   */
  #checkReport(feature: number, data: Uint8Array): void {
    try {
      this.#device.feature({ feature, get: true, data, bitmap: EMPTY });
    } catch (error) {
      if (!(error instanceof VfioError) || error.code !== 'EFAULT') throw error;
    }
  }

  /**
   * @throws VfioError ENOTTY for a device that cannot be moved, EINVAL in a state that has no data
   */
  #open(what: string): MigrationStream {
    if (this.#stream !== null) return this.#stream;
    this.#device.feature({ feature: Feature.MIG_DEVICE_STATE, probe: true, data: EMPTY });
    throw new VfioError('EINVAL', `${what}: ${this.#device.info.name} is in no state that has data`);
  }

  /**
   * At most `size` bytes. No bytes: there are none now, or none any more; the device's state says
   * which.
   *
   * @throws VfioError EINVAL in a state in which nothing is to be read; ENOTTY
   */
  read(size: number): Uint8Array {
    const data = new Uint8Array(size);
    try {
      return data.subarray(0, this.#open('MIG_DATA_READ').read(data));
    } catch (error) {
      if (!(error instanceof VfioError)) throw error;
      if (error.code === 'ENODEV') throw new VfioError('EINVAL', error.message, { cause: error });
      if (error.code !== 'ENOMSG') throw error;
      return EMPTY;
    }
  }

  /**
   * @throws VfioError EINVAL for data that is not of such a device, or in a state in which nothing
   *   is to be written; ENOTTY
   */
  write(data: Uint8Array): void {
    try {
      this.#open('MIG_DATA_WRITE').write(data);
    } catch (error) {
      if (error instanceof VfioError && error.code === 'ENODEV') throw new VfioError('EINVAL', error.message, { cause: error });
      throw error;
    }
  }

  /** @throws VfioError EINVAL outside of PRE_COPY; ENOTTY */
  precopyInfo(): PrecopyInfo {
    return this.#open('MIG_GET_PRECOPY_INFO').precopyInfo();
  }

  [Symbol.dispose](): void {
    this.#stream?.close();
    this.#stream = null;
  }
}

/** The value of VERSION's `migration` capability. */
export function canMigrate(device: Device): boolean {
  try {
    device.feature({ feature: Feature.MIGRATION, probe: true, data: EMPTY });
    return true;
  } catch (error) {
    if (error instanceof VfioError) return false;
    throw error;
  }
}
