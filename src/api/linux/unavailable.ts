import { VfioError } from '../../base/errno.ts';

/** This computer, or its network, cannot provide something that is needed from outside. ENOENT. */
export class Unavailable extends VfioError {
  constructor(message: string, fix?: string) {
    super('ENOENT', message, fix === undefined ? {} : { fix });
  }
}
