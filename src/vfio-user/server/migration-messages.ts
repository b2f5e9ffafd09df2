/**
 * Messages that move the device: the features whose data differs from the ioctl's, and
 * MIG_DATA_READ and MIG_DATA_WRITE in place of a descriptor.
 *
 * A device that stands still still answers: registers work, and memory can be mapped, as with the
 * kernel's. libvfio-user refuses both.
 */
import type { Device, DmaLogging, DmaLogReport, DmaRange, MigrationStream, PrecopyInfo } from '../../abi/device.ts';
import { bitmapBytes, Feature } from '../../abi/vfio.ts';
import { DeviceFeature, FeatureDmaLoggingRange } from '../../abi/vfio-structs.ts';
import { U64_MAX } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { dmaRanges, featureBytes } from '../../device/feature-bytes.ts';
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

/** The largest range: a range that ends with the last page of 64 bits has no end. */
const EVERYWHERE: DmaRange = { iova: 0n, length: U64_MAX + 1n - PAGE };

/** A hint that divides `EVERYWHERE`. A size that is no page size stays as it is, to be refused. */
function wholePages(size: bigint): bigint {
  return size >= PAGE && (size & (size - 1n)) === 0n ? PAGE : size;
}

/** Throws the error of a report, except for the error of its bitmap. The log forgets nothing. */
function checkReport(logging: DmaLogging, request: DmaLogReport): void {
  try {
    logging.report(request);
  } catch (error) {
    if (!(error instanceof VfioError) || error.code !== 'EFAULT') throw error;
  }
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
    featureBytes(this.#device, {
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

  /** The member, of a device that has the feature. @throws VfioError ENOTTY */
  #logging(feature: number, op: 'get' | 'set'): DmaLogging {
    const device = this.#device;
    device.feature({ feature, probe: true, [op]: true });
    if (device.dmaLogging === undefined) throw new VfioError('ENOTTY', `${device.info.name} does not log its DMA`);
    return device.dmaLogging;
  }

  #startLogging(message: FeatureMessage): Answer {
    // A device that lacks the feature says so before the data is looked at.
    const logging = this.#logging(message.feature, 'set');
    if (message.data.length < UserDmaLoggingControl.structSize) {
      throw new VfioError('EINVAL', `DMA_LOGGING_START: ${message.data.length} bytes of data`);
    }
    const { page_size: pageSize, num_ranges: count } = UserDmaLoggingControl.decode(viewOf(message.data));
    // The specification: without ranges, every write is logged. With the ioctl that is EINVAL.
    const used =
      count === 0
        ? logging.start([EVERYWHERE], wholePages(pageSize))
        : logging.start(
            dmaRanges(count, () => message.data.subarray(UserDmaLoggingControl.structSize), 'EINVAL'),
            pageSize,
          );
    const reply = message.data.slice(0, UserDmaLoggingControl.structSize + count * FeatureDmaLoggingRange.structSize);
    UserDmaLoggingControl.page_size.set(viewOf(reply), 0, used);
    return { payload: encodeFeatureReply({ ...message, data: reply }) };
  }

  #report(message: FeatureMessage): Answer {
    const { argsz, feature } = message;
    const logging = this.#logging(feature, 'get');
    const fixed = UserDmaLoggingReport.structSize;
    if (message.data.length < fixed) throw new VfioError('EINVAL', `DMA_LOGGING_REPORT: ${message.data.length} bytes of data`);
    const { iova, length, page_size: pageSize } = UserDmaLoggingReport.decode(viewOf(message.data));
    const room = argsz - DeviceFeature.structSize - fixed;
    const needed = pageSize === 0n ? 0 : bitmapBytes(length, pageSize);
    if (needed > Math.max(0, Math.min(room, this.#maxBytes - fixed))) {
      checkReport(logging, { iova, length, pageSize, bitmap: EMPTY });
      throw new VfioError(
        'EINVAL',
        `DMA_LOGGING_REPORT: a bitmap of ${needed} bytes; argsz ${argsz}, and what a message holds, leave ${room}`,
      );
    }
    const reply = new Uint8Array(fixed + needed);
    reply.set(message.data.subarray(0, fixed));
    logging.report({ iova, length, pageSize, bitmap: reply.subarray(fixed) });
    return { payload: encodeFeature({ ...message, argsz: DeviceFeature.structSize + reply.length, data: reply }) };
  }

  /**
   * @throws VfioError ENOTTY for a device that cannot be moved, EINVAL in a state that has no data
   */
  #open(what: string): MigrationStream {
    if (this.#stream !== null) return this.#stream;
    this.#device.feature({ feature: Feature.MIG_DEVICE_STATE, probe: true });
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
    device.feature({ feature: Feature.MIGRATION, probe: true });
    return true;
  } catch (error) {
    if (error instanceof VfioError) return false;
    throw error;
  }
}
