/**
 * A mediator that records the register traffic of devices: each read and write in order, with its
 * time. The device works as without the mediator, but its regions cannot be mapped, so that no
 * access bypasses the record.
 */
import type { Region, RegionInfo } from '../abi/device.ts';
import type { MediatedDevice, Mediator, RegionHooks } from '../abi/mediator.ts';
import { RegionFlags, RegionIndex } from '../abi/vfio.ts';
import type { Clock } from '../base/clock.ts';
import { settle, textOf } from '../base/foreign.ts';
import type { Logger } from '../base/log.ts';

/** One recorded register access. */
export interface RegisterRecord {
  /** Time at the end of the access, in nanoseconds of the machine's clock. */
  readonly timeNs: number;
  /** `0000:00:04.0` */
  readonly device: string;
  /** 0 to 5 are BARs, 7 is config space. */
  readonly region: number;
  readonly access: 'read' | 'write';
  readonly offset: number;
  /** A copy of the first 64 bytes that were moved. */
  readonly bytes: Uint8Array;
  /** Number of bytes moved. */
  readonly size: number;
}

/** The listener of a recorder, and the devices that it records. */
export interface RegisterRecorderOptions {
  /**
   * Called at each access, in the middle of the access, so it should be short. An error that it
   * throws fails the access.
   */
  readonly onRecord: (record: RegisterRecord) => void;
  /** `vendor:device` of the devices to record. Default: all. */
  readonly match?: string;
  readonly name?: string;
}

const RECORDED_BYTES = 64;

interface Recording {
  readonly device: string;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Makes a mediator that records every register access of the devices that it accepts.
 *
 * @see docs/mediation.md
 */
export function registerRecorder(options: RegisterRecorderOptions): Mediator<Recording> {
  const { match, name = 'register-recorder' } = options;
  const record = (
    { device, clock, log }: Recording,
    region: number,
    access: 'read' | 'write',
    offset: number,
    bytes: Uint8Array,
    size: number,
  ): void => {
    const result: unknown = options.onRecord({
      timeNs: clock.nowNs(),
      device,
      region,
      access,
      offset,
      bytes: bytes.slice(0, Math.min(size, RECORDED_BYTES)),
      size,
    });
    // An async hook fails later, when the access is done already. Only the log can report that
    // failure.
    settle('onRecord', result, (what, error) => log.log('error', `${what} of ${name} failed: ${textOf(error)}`));
  };
  const hooksOf = (index: number): RegionHooks<Recording> => ({
    info: (_, info: RegionInfo) => ({ ...info, flags: info.flags & ~RegionFlags.MMAP }),
    read(recording, offset, into, direct: Region) {
      const size = direct.read(offset, into);
      record(recording, index, 'read', offset, into, size);
      return size;
    },
    write(recording, offset, from, direct: Region) {
      const size = direct.write(offset, from);
      record(recording, index, 'write', offset, from, size);
      return size;
    },
  });
  return {
    name,
    open(device) {
      if (match !== undefined && match.toLowerCase() !== idsOf(device)) return null;
      const regions = Object.fromEntries(
        Array.from({ length: device.numRegions }, (_, index) => index)
          .filter((index) => index !== RegionIndex.VGA)
          .map((index) => [index, hooksOf(index)]),
      );
      return { handle: { device: device.name, clock: device.clock, log: device.log }, regions };
    },
    release() {},
  };
}

function idsOf({ vendor, device }: MediatedDevice): string {
  return `${vendor.toString(16).padStart(4, '0')}:${device.toString(16).padStart(4, '0')}`;
}
