/** What SIGBUS is to a C program: an access through a mapping whose device does not answer now. Caught by the ioctl door, which reports the signal. */
import { VfioError } from '../base/errno.ts';

export class BusError extends VfioError {
  constructor(message: string) {
    super('EIO', message);
    this.name = 'BusError';
  }
}
