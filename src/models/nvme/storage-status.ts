/** The statuses of a storage's errors: NVMe status codes (NVMe 1.4, 4.6.1.2). */
import { refused, Status } from '../../abi/nvme-status.ts';
import { Errno } from '../../base/errno.ts';

/** @param result  0 or -errno of a read */
export function readStatus(result: number): number {
  return result === 0 ? Status.SUCCESS : (common(result) ?? Status.UNRECOVERED_READ_ERROR);
}

/** @param result  0 or -errno of a write, a flush, or zeroing */
export function writeStatus(result: number): number {
  return result === 0 ? Status.SUCCESS : (common(result) ?? Status.WRITE_FAULT);
}

/** Errors that are not of the medium; undefined for EIO and what else a medium says. */
function common(result: number): number | undefined {
  switch (-result) {
    case Errno.ENOSPC:
    case Errno.EDQUOT:
    case Errno.EFBIG:
      return Status.CAPACITY_EXCEEDED;
    case Errno.EROFS:
      return refused(Status.WRITE_TO_READ_ONLY_RANGE);
    case Errno.ENOMEM:
    case Errno.EAGAIN:
    case Errno.EBADF:
    case Errno.EINVAL:
      return Status.INTERNAL_ERROR;
    default:
      return undefined;
  }
}
