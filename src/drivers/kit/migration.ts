/**
 * Moving a device, by hand: the features of migration v2 and DMA logging of any `Device` as calls
 * and numbers (docs/migration.md).
 *
 *     const from = new Migration(source);
 *     const stream = from.go('PRE_COPY');          // then read it until it says that nothing is left
 *     from.go('STOP_COPY');                        // the same stream goes on, to its end
 */
import type { Device, MigrationStream } from '../../abi/device.ts';
import { Feature, MigrationFlags, MigrationState } from '../../abi/vfio.ts';
import {
  FeatureDmaLoggingControl,
  FeatureDmaLoggingRange,
  FeatureDmaLoggingReport,
  FeatureMigDataSize,
  FeatureMigration,
  FeatureMigState,
} from '../../abi/vfio-structs.ts';
import { VfioError } from '../../base/errno.ts';

/** The name of a migration state (linux/vfio.h, vfio_device_mig_state). */
export type MigrationStateName = keyof typeof MigrationState;

/** A range of I/O addresses whose writes are logged, in bytes. */
export interface LoggedRange {
  readonly iova: bigint;
  readonly length: bigint;
}

const names = new Map<number, MigrationStateName>(
  Object.entries(MigrationState).map(([name, state]) => [state, name as MigrationStateName]),
);

/** The migration features of a device, for a program that moves it. */
export class Migration {
  readonly device: Device;

  constructor(device: Device) {
    this.device = device;
  }

  /** `MigrationFlags`; 0 for a device that cannot be moved. */
  get flags(): number {
    const data = new Uint8Array(FeatureMigration.structSize);
    try {
      this.device.feature({ feature: Feature.MIGRATION, get: true, data });
    } catch (error) {
      // Servers of other makers answer EINVAL.
      if (error instanceof VfioError && (error.code === 'ENOTTY' || error.code === 'EINVAL')) return 0;
      throw error;
    }
    return Number(FeatureMigration.flags.get(new DataView(data.buffer), 0) & 0xffff_ffffn);
  }

  /** It has the states in which it is copied while it runs. */
  get precopies(): boolean {
    return (this.flags & MigrationFlags.PRE_COPY) !== 0;
  }

  /** @throws VfioError ENOTTY for a device that cannot be moved */
  get state(): MigrationStateName {
    const data = new Uint8Array(FeatureMigState.structSize);
    this.device.feature({ feature: Feature.MIG_DEVICE_STATE, get: true, data });
    const state = FeatureMigState.device_state.get(new DataView(data.buffer), 0);
    const name = names.get(state);
    if (name === undefined) throw new VfioError('EPROTO', `${this.device.info.name} says that it is in state ${state}`);
    return name;
  }

  /**
   * Go to another state.
   *
   * @returns the stream of its data when one begins with this: yours to close
   * @throws VfioError EINVAL when there is no way, or the data that was written is not that of such
   *   a device; the device may be in ERROR then
   */
  go(state: MigrationStateName): MigrationStream | null {
    const data = new Uint8Array(FeatureMigState.structSize);
    FeatureMigState.encode(new DataView(data.buffer), 0, { device_state: MigrationState[state], data_fd: -1 });
    let made: MigrationStream | null = null;
    const onDataStream = (stream: MigrationStream): void => {
      made = stream;
    };
    this.device.feature({ feature: Feature.MIG_DEVICE_STATE, set: true, data, onDataStream });
    return made;
  }

  /**
   * About how many bytes it has to send while it stands still.
   * @throws VfioError ENOTTY, of servers of other makers EINVAL
   */
  get stopCopyBytes(): number {
    const data = new Uint8Array(FeatureMigDataSize.structSize);
    this.device.feature({ feature: Feature.MIG_DATA_SIZE, get: true, data });
    return Number(FeatureMigDataSize.stop_copy_length.get(new DataView(data.buffer), 0));
  }

  /**
   * Have the device's writes noted, in these ranges.
   *
   * @param pageSize a hint
   * @returns bytes that it tells apart
   * @throws VfioError EINVAL, E2BIG more than 256 ranges, EOVERFLOW; EINVAL when they are noted
   *   already
   */
  startLogging(ranges: readonly LoggedRange[], pageSize = 4096n): bigint {
    const data = new Uint8Array(FeatureDmaLoggingControl.structSize);
    const control = new DataView(data.buffer);
    FeatureDmaLoggingControl.encode(control, 0, { page_size: pageSize, num_ranges: ranges.length, reserved: 0, ranges: 0n });
    const list = new Uint8Array(ranges.length * FeatureDmaLoggingRange.structSize);
    ranges.forEach((range, i) => {
      FeatureDmaLoggingRange.encode(new DataView(list.buffer), i * FeatureDmaLoggingRange.structSize, range);
    });
    this.device.feature({ feature: Feature.DMA_LOGGING_START, set: true, data, ranges: list });
    return FeatureDmaLoggingControl.page_size.get(control, 0);
  }

  stopLogging(): void {
    this.device.feature({ feature: Feature.DMA_LOGGING_STOP, set: true, data: new Uint8Array(0) });
  }

  /**
   * What was written in [iova, iova + length) since this was asked last.
   *
   * @param bitmap a bit per page, in whole words of 64; bits are set, none is cleared
   * @see bitmapBytes
   * @throws VfioError EINVAL a page size that is none, or when nothing is noted; EOVERFLOW; EFAULT
   *   a bitmap too small
   */
  report(iova: bigint, length: bigint, bitmap: Uint8Array, pageSize = 4096n): void {
    const data = new Uint8Array(FeatureDmaLoggingReport.structSize);
    FeatureDmaLoggingReport.encode(new DataView(data.buffer), 0, { iova, length, page_size: pageSize, bitmap: 0n });
    this.device.feature({ feature: Feature.DMA_LOGGING_REPORT, get: true, data, bitmap });
  }
}

/** Bytes of a bitmap of `length` bytes of memory. */
export function bitmapBytes(length: bigint, pageSize = 4096n): number {
  const pages = (length + pageSize - 1n) / pageSize;
  return Number((pages + 63n) / 64n) * 8;
}
