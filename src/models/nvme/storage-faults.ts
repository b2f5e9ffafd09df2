/**
 * Logs faults of a storage at the server: the host gets a status, but only the server's
 * administrator can repair the storage.
 */
import type { DeviceHost } from '../../abi/device-host.ts';
import { Errno, errnoName } from '../../base/errno.ts';
import type { Logger } from '../../base/log.ts';

const reasons: Readonly<Record<number, string>> = {
  [Errno.ENOSPC]: 'there is no space left where it is kept; writes end with Capacity Exceeded until there is',
  [Errno.EDQUOT]: 'the disk quota where it is kept is used up; writes end with Capacity Exceeded until it is not',
  [Errno.EFBIG]: 'it may not become larger where it is kept; writes end with Capacity Exceeded',
  [Errno.ENOMEM]: 'there is no memory left for what is written; writes end with Internal Error',
  [Errno.EROFS]: 'it has become read-only where it is kept; writes are refused',
};
const otherwise = 'reading or writing it fails; the host gets media errors';

export class StorageFaults {
  readonly #log: Logger;

  constructor(host: Pick<DeviceHost, 'log'>) {
    this.#log = host.log;
  }

  /**
   * One line for each storage and reason: the log counts those that follow.
   *
   * @param result -errno
   */
  tell(storage: string, result: number): void {
    const code = errnoName(result) ?? `errno ${-result}`;
    this.#log.log('error', `nvme: ${storage}: ${code}: ${reasons[-result] ?? otherwise}`);
  }
}
