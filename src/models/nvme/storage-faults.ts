/**
 * Logs faults of a storage at the server: the host gets a status, but only the server's
 * administrator can repair the storage.
 */
import type { DeviceHost } from '../../abi/device-host.ts';
import { Errno, errnoName } from '../../base/errno.ts';
import { RateLimitedLogger } from '../../base/log.ts';

/** A host that goes on writing to a full disk causes one line a minute. */
const INTERVAL_MS = 60_000;

const reasons: Readonly<Record<number, string>> = {
  [Errno.ENOSPC]: 'there is no space left where it is kept; writes end with Capacity Exceeded until there is',
  [Errno.EDQUOT]: 'the disk quota where it is kept is used up; writes end with Capacity Exceeded until it is not',
  [Errno.EFBIG]: 'it may not become larger where it is kept; writes end with Capacity Exceeded',
  [Errno.ENOMEM]: 'there is no memory left for what is written; writes end with Internal Error',
  [Errno.EROFS]: 'it has become read-only where it is kept; writes are refused',
};
const otherwise = 'reading or writing it fails; the host gets media errors';

export class StorageFaults {
  readonly #log: RateLimitedLogger;

  constructor(host: Pick<DeviceHost, 'log' | 'clock'>) {
    this.#log = new RateLimitedLogger(host.log, host.clock, INTERVAL_MS);
  }

  /** One line for each storage and reason, then a count. @param result -errno */
  tell(storage: string, result: number): void {
    const code = errnoName(result) ?? `errno ${-result}`;
    this.#log.log('error', `${storage} ${code}`, `nvme: ${storage}: ${code}: ${reasons[-result] ?? otherwise}`);
  }
}
