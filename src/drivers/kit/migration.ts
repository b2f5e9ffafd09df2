/**
 * Migration of a device by hand: migration v2 and DMA logging of any `Device`, with names for
 * states (docs/migration.md).
 *
 *     const from = new Migration(source);
 *     const stream = from.go('PRE_COPY');          // read until nothing is left
 *     from.go('STOP_COPY');                        // the same stream goes on, to its end
 */
import type { Device, DmaLogging, DmaRange, MigrationControl, MigrationStream } from '../../abi/device.ts';
import { MigrationFlags, MigrationState } from '../../abi/vfio.ts';
import { VfioError } from '../../base/errno.ts';

/** The name of a migration state (linux/vfio.h, vfio_device_mig_state). */
export type MigrationStateName = keyof typeof MigrationState;

/** A range of I/O addresses whose writes are logged, in bytes. */
export type LoggedRange = DmaRange;

const names = new Map<number, MigrationStateName>(
  Object.entries(MigrationState).map(([name, state]) => [state, name as MigrationStateName]),
);

/** The migration features of a device, for a program that moves it. */
export class Migration {
  readonly device: Device;

  /**
   * Nothing is asked of the device yet.
   *
   * @param device the device to move; the caller keeps it
   */
  constructor(device: Device) {
    this.device = device;
  }

  /** `MigrationFlags`; 0 for a device that cannot be moved. */
  get flags(): number {
    try {
      return this.device.migration?.flags ?? 0;
    } catch (error) {
      // Servers other than ours answer EINVAL.
      if (error instanceof VfioError && (error.code === 'ENOTTY' || error.code === 'EINVAL')) return 0;
      throw error;
    }
  }

  /** Whether the device has the states in which it is copied while it runs. */
  get precopies(): boolean {
    return (this.flags & MigrationFlags.PRE_COPY) !== 0;
  }

  /** The state of the device. @throws VfioError ENOTTY for a device that cannot be moved */
  get state(): MigrationStateName {
    const { state } = this.#control;
    const name = names.get(state);
    if (name === undefined) throw new VfioError('EPROTO', `${this.device.info.name} says that it is in state ${state}`);
    return name;
  }

  /**
   * Go to another state.
   *
   * @returns the data stream, when one begins with this state; the caller closes it
   * @throws VfioError EINVAL when no path leads to the state, or when the written data is not from
   * such a device; the device may be in ERROR then
   */
  go(state: MigrationStateName): MigrationStream | null {
    return this.#control.setState(MigrationState[state]);
  }

  /**
   * The approximate number of bytes to send while the device stands still.
   *
   * @throws VfioError ENOTTY; servers other than ours answer EINVAL
   */
  get stopCopyBytes(): number {
    return Number(this.#control.stopCopyBytes);
  }

  /**
   * Log the device's writes to these ranges.
   *
   * @param pageSize a hint
   * @returns bytes of a page of the log
   * @throws VfioError EINVAL, also when a log is running; E2BIG for more than 256 ranges; EOVERFLOW
   */
  startLogging(ranges: readonly LoggedRange[], pageSize = 4096n): bigint {
    return this.#logging.start(ranges, pageSize);
  }

  /** From now on the device's writes are not noted. @throws VfioError ENOTTY as `state` */
  stopLogging(): void {
    this.#logging.stop();
  }

  /**
   * The writes to [iova, iova + length) since the last report.
   *
   * @param bitmap a bit per page, in whole words of 64; a report sets bits and clears none
   * @see bitmapBytes
   * @throws VfioError EINVAL for an invalid page size, or while no log is running; EOVERFLOW;
   * EFAULT for a bitmap that is too small
   */
  report(iova: bigint, length: bigint, bitmap: Uint8Array, pageSize = 4096n): void {
    this.#logging.report({ iova, length, pageSize, bitmap });
  }

  get #control(): MigrationControl {
    return this.device.migration ?? this.#lacks('be moved');
  }

  get #logging(): DmaLogging {
    return this.device.dmaLogging ?? this.#lacks('log its writes');
  }

  #lacks(what: string): never {
    throw new VfioError('ENOTTY', `${this.device.info.name} cannot ${what}`);
  }
}
