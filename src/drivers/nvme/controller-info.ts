/**
 * The answer of Identify about the controller, in the units that people and the driver use (NVMe
 * 1.4, 5.15.2.2).
 */

import { CQES, SQES } from '../../abi/nvme.ts';
import { Oacs, Oncs, Vwc } from '../../abi/nvme-identify.ts';
import { IdentifyController } from '../../abi/nvme-structs.ts';
import { viewOf } from '../../base/data-view.ts';
import { VfioError } from '../../base/errno.ts';
import type { Capabilities } from './controller-registers.ts';

/** Identify Controller, decoded. Sizes are in bytes. */
export interface ControllerInfo {
  readonly serial: string;
  readonly model: string;
  readonly firmware: string;
  /**
   * Largest number of bytes that a command moves (MDTS); Infinity: the controller reports no limit.
   */
  readonly mdtsBytes: number;
  /** The highest namespace identifier. */
  readonly nn: number;
  /** Asynchronous Event Requests, error log entries and aborts that it takes at a time. */
  readonly eventRequests: number;
  readonly errorLogEntries: number;
  readonly aborts: number;
  readonly oacs: number;
  readonly oncs: number;
  readonly has: {
    readonly compare: boolean;
    readonly writeZeroes: boolean;
    readonly datasetManagement: boolean;
    readonly verify: boolean;
    readonly format: boolean;
    readonly doorbellBuffers: boolean;
    readonly volatileWriteCache: boolean;
  };
  /** Every field by its name in the specification. */
  readonly identify: IdentifyController;
  /** 4096 bytes. */
  readonly raw: Uint8Array;
}

/** @throws VfioError EIO for queue entry sizes that NVMe does not have */
export function decodeController(raw: Uint8Array, capabilities: Capabilities, device: string): ControllerInfo {
  const identify = IdentifyController.decode(viewOf(raw));
  // The required size is in the lower half. Some controllers say 0 and mean the only sizes that
  // exist.
  for (const [name, byte, size] of [
    ['submission', identify.sqes, SQES],
    ['completion', identify.cqes, CQES],
  ] as const) {
    if ((byte & 15) > size) throw new VfioError('EIO', `${device} wants ${name} queue entries of 2^${byte & 15} bytes; NVMe has 2^${size}`);
  }
  const { oacs, oncs } = identify;
  return {
    serial: identify.sn.trim(),
    model: identify.mn.trim(),
    firmware: identify.fr.trim(),
    // A limit past 2^20 pages is as good as none, and 2 ^ 255 is too large to calculate with.
    mdtsBytes: identify.mdts === 0 || identify.mdts > 20 ? Number.POSITIVE_INFINITY : capabilities.minPageSize * 2 ** identify.mdts,
    nn: identify.nn,
    eventRequests: identify.aerl + 1,
    errorLogEntries: identify.elpe + 1,
    aborts: identify.acl + 1,
    oacs,
    oncs,
    has: {
      compare: (oncs & Oncs.COMPARE) !== 0,
      writeZeroes: (oncs & Oncs.WRITE_ZEROES) !== 0,
      datasetManagement: (oncs & Oncs.DATASET_MANAGEMENT) !== 0,
      verify: (oncs & Oncs.VERIFY) !== 0,
      format: (oacs & Oacs.FORMAT) !== 0,
      doorbellBuffers: (oacs & Oacs.DOORBELL_BUFFER) !== 0,
      volatileWriteCache: (identify.vwc & Vwc.PRESENT) !== 0,
    },
    identify,
    raw,
  };
}
