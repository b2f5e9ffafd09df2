/**
 * What SIGBUS is to a C program: an access through a mapping whose device does not answer now.
 * Caught by the ioctl door, which reports the signal.
 */
import { acrossCopies } from '../base/across-copies.ts';
import { type ErrnoName, VfioError } from '../base/errno.ts';

export class BusError extends VfioError {
  /**
   * @param code EIO; the errno of the call behind the access where there is one, such as ENODEV for
   * a device that is gone
   */
  constructor(message: string, code: ErrnoName = 'EIO', options: ErrorOptions = {}) {
    super(code, message, options);
  }
}
acrossCopies(BusError, 'BusError');
