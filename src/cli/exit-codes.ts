import { VfioError } from '../base/errno.ts';
import { isNodeSystemError, SystemError } from '../sys/system-error.ts';

/** Exit statuses of the command; the table is in README and `vfio --help`. */
export const Exit = {
  OK: 0,
  FAILURE: 1,
  USAGE: 2,
  /** A check ran and found problems. */
  PROBLEMS: 3,
  /** VFIO refused the operation by one of its rules. */
  REFUSED: 4,
  /** The device is gone, or was never there. */
  GONE: 5,
  INTERRUPTED: 130,
} as const;

const byErrno: Partial<Record<VfioError['code'], number>> = {
  EPERM: Exit.REFUSED,
  EACCES: Exit.REFUSED,
  EBUSY: Exit.REFUSED,
  ENODEV: Exit.GONE,
};

/** The exit status for an error that ended a command. */
export function exitCodeOf(error: unknown): number {
  if (!(error instanceof VfioError)) return Exit.FAILURE;
  const status = byErrno[error.code] ?? Exit.FAILURE;
  // A refusal of the operating system is no rule of VFIO.
  const systems = error instanceof SystemError || isNodeSystemError(error.cause);
  return status === Exit.REFUSED && systems ? Exit.FAILURE : status;
}
