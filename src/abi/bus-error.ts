/**
 * An access through a mapping whose device does not answer now; a C program gets SIGBUS. The ioctl
 * door catches the error and reports the signal.
 */
import { acrossCopies } from '../base/across-copies.ts';
import { type ErrnoName, VfioError } from '../base/errno.ts';

/**
 * An access through a mapping whose device does not answer: decoding is off, the device sleeps, or
 * it is gone.
 */
export class BusError extends VfioError {
  /**
   * A mapping throws it; a mediator that answers for one may.
   *
   * @param code the errno of the call behind the access where there is one, such as ENODEV for a
   * device that is gone. Default: EIO.
   */
  constructor(message: string, code: ErrnoName = 'EIO', options: ErrorOptions = {}) {
    super(code, message, options);
  }
}
acrossCopies(BusError, 'BusError');
