/** Errors of commands that do not succeed, in words. */

import { AdminOpcode, NSID_ALL, NvmOpcode, opcodeName } from '../../abi/nvme.ts';
import { Status, StatusBit, statusName } from '../../abi/nvme-status.ts';
import { acrossCopies } from '../../base/across-copies.ts';
import { VfioError, type VfioErrorOptions } from '../../base/errno.ts';

/** Command fields that an error reports. */
export interface CommandNames {
  readonly admin: boolean;
  readonly opcode: number;
  readonly nsid: number;
  /** CDW10 to CDW12. */
  readonly cdw10: number;
  readonly cdw11: number;
  readonly cdw12: number;
}

/** The controller has ended a command with a status other than success. */
export class NvmeError extends VfioError {
  /**
   * The status field as it came, without the phase: compare `status & StatusBit.CODE` with
   * `Status`.
   */
  readonly status: number;
  readonly opcode: number;
  readonly nsid: number;

  /**
   * The driver makes it of a completion.
   *
   * @param device the controller's address, for the message
   */
  constructor(command: CommandNames, status: number, device: string, options: VfioErrorOptions = {}) {
    super('EIO', `${describe(command)} on ${device}: ${statusText(status)}`, options);
    this.status = status;
    this.opcode = command.opcode;
    this.nsid = command.nsid;
  }

  /** Whether the same command may succeed another time: Do Not Retry is clear. */
  get retryable(): boolean {
    return (this.status & StatusBit.DO_NOT_RETRY) === 0;
  }

  /**
   * Whether the controller ended the command with this status.
   *
   * @param status one of `Status`
   */
  is(status: number): boolean {
    return (this.status & StatusBit.CODE) === status;
  }
}
acrossCopies(NvmeError, 'NvmeError');

/** `LBA Out of Range (0x0080)`. */
function statusText(status: number): string {
  return `${statusName(status)} (0x${(status & StatusBit.CODE).toString(16).padStart(4, '0')})`;
}

/** Whether `error` is the controller's answer `status`, one of `Status`. */
export function isStatus(error: unknown, status: number): error is NvmeError {
  return error instanceof NvmeError && error.is(status);
}

/** Whether the controller says that it does not know the command or this use of the command. */
export function isUnsupported(error: unknown): error is NvmeError {
  const said: readonly number[] = [Status.INVALID_OPCODE, Status.INVALID_FIELD, Status.INVALID_LOG_PAGE];
  return error instanceof NvmeError && said.includes(error.status & StatusBit.CODE);
}

/** Commands whose CDW10 to CDW12 name a range of logical blocks. */
const ranged: readonly number[] = [NvmOpcode.READ, NvmOpcode.WRITE, NvmOpcode.COMPARE, NvmOpcode.WRITE_ZEROES, NvmOpcode.VERIFY];

/** `Read of LBA 5..12 of namespace 1`, `Identify`, `Format NVM of every namespace`. */
export function describe({ admin, opcode, nsid, cdw10, cdw11, cdw12 }: CommandNames): string {
  const name = opcodeName(opcode, admin);
  const of = nsid === 0 ? '' : nsid === NSID_ALL ? ' of every namespace' : ` of namespace ${nsid}`;
  if (admin || !ranged.includes(opcode)) return `${name}${adminDetail(admin, opcode, cdw10)}${of}`;
  const first = BigInt(cdw10) | (BigInt(cdw11) << 32n);
  const blocks = cdw12 & 0xffff;
  return `${name} of LBA ${first}${blocks === 0 ? '' : `..${first + BigInt(blocks)}`}${of}`;
}

function adminDetail(admin: boolean, opcode: number, cdw10: number): string {
  if (!admin) return '';
  switch (opcode) {
    case AdminOpcode.CREATE_CQ:
    case AdminOpcode.CREATE_SQ:
    case AdminOpcode.DELETE_CQ:
    case AdminOpcode.DELETE_SQ:
      return ` ${cdw10 & 0xffff}`;
    case AdminOpcode.IDENTIFY:
      return ` (CNS ${hex2(cdw10)})`;
    case AdminOpcode.GET_LOG_PAGE:
    case AdminOpcode.GET_FEATURES:
    case AdminOpcode.SET_FEATURES:
      return ` ${hex2(cdw10)}`;
    default:
      return '';
  }
}

function hex2(value: number): string {
  return `0x${(value & 0xff).toString(16).padStart(2, '0')}`;
}
