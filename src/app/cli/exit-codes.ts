import { VfioError } from '../../base/errno.ts';

/** What the command's exit status says; the table is in README and `vfio --help`. */
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
  return error instanceof VfioError ? (byErrno[error.code] ?? Exit.FAILURE) : Exit.FAILURE;
}
