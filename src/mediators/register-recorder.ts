/**
 * A mediator that records the register traffic of devices: what was read and written where, in
 * order, with times. The device works on as always; it only cannot be mapped, so that nothing goes
 * past the record.
 */
import type { Region, RegionInfo } from '../abi/device.ts';
import type { MediatedDevice, Mediator, RegionHooks } from '../abi/mediator.ts';
import { RegionFlags, RegionIndex } from '../abi/vfio.ts';
import type { Clock } from '../base/clock.ts';
import { settle, textOf } from '../base/foreign.ts';
import type { Logger } from '../base/log.ts';

/** One recorded register access. */
export interface RegisterRecord {
  /** Nanoseconds of the machine's clock, when the access was done. */
  readonly timeNs: number;
  /** `0000:00:04.0` */
  readonly device: string;
  /** 0 to 5 are BARs, 7 is config space. */
  readonly region: number;
  readonly access: 'read' | 'write';
  readonly offset: number;
  /** What was moved, the first 64 bytes of it; a copy. */
  readonly bytes: Uint8Array;
  /** Bytes moved. */
  readonly size: number;
}

export interface RegisterRecorderOptions {
  /**
   * Told of each access. It is called in the middle of it: keep it short. What it throws fails the
   * access.
   */
  readonly onRecord: (record: RegisterRecord) => void;
  /** `vendor:device` of the devices to record; all unless told. */
  readonly match?: string;
  readonly name?: string;
}

const RECORDED_BYTES = 64;

interface Recording {
  readonly device: string;
  readonly clock: Clock;
  readonly log: Logger;
}

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
    // An async hook has not failed yet: the access is done, and only the log can report the
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
