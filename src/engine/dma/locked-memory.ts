/**
 * Locked-memory accounting: charges for the pages that DMA mappings pin, and their limit.
 *
 * Pages are counted per process and per mapping: the same page mapped twice counts twice, as in the
 * kernel. A refusal changes nothing.
 *
 * @see linux/drivers/vfio/vfio_iommu_type1.c, vfio_pin_pages_remote(), vfio_lock_acct()
 */
import { VfioError } from '../../base/errno.ts';
import type { Process } from './process.ts';

/**
 * Charge `bytes` to `process` (S2-46).
 *
 * @param bytes  whole pages of the process
 * @throws VfioError ENOMEM over RLIMIT_MEMLOCK, with the numbers; ESRCH when the process has exited
 */
export function chargeLocked(process: Process, bytes: number): void {
  if (!process.alive) throw new VfioError('ESRCH', `process ${process.pid} has exited, and cannot be charged for locked memory`);
  // First the charge, then the look: another thread may charge the same account meanwhile.
  const needed = process.account.add(bytes);
  if (process.mayLockFreely || needed <= process.memlockLimit) return;
  process.account.add(-bytes);
  const kib = (n: number) => `${Math.ceil(n / 1024)} KiB`;
  throw new VfioError(
    'ENOMEM',
    `this mapping locks ${kib(bytes)} more, which makes ${kib(needed)} needed; process ${process.pid} has a limit (RLIMIT_MEMLOCK) of ` +
      `${kib(process.memlockLimit)}, ${kib(needed - bytes)} locked already, and no CAP_IPC_LOCK`,
    {
      fix: `Raise RLIMIT_MEMLOCK to at least ${needed} bytes (ulimit -l ${Math.ceil(needed / 1024)}), or give the process CAP_IPC_LOCK.`,
    },
  );
}

/** Take back a charge, also after the process has exited (S2-52). */
export function unchargeLocked(process: Process, bytes: number): void {
  if (bytes > process.lockedBytes) throw new Error(`process ${process.pid}: ${bytes} bytes given back, ${process.lockedBytes} locked`);
  process.account.add(-bytes);
}

/** Mappings whose locked memory `estimateMemlock` adds up. */
export interface MemlockEstimateOptions {
  /** Bytes of each mapping that will exist at one time. */
  readonly mappings: Iterable<number | bigint>;
  /** Containers that each map all of it: every container counts. Default: 1. */
  readonly containers?: number;
  /** Bytes that the process locks for other reasons. Default: 0. */
  readonly alreadyLocked?: number;
  /** Default: 4096. */
  readonly pageSize?: number;
}

/**
 * RLIMIT_MEMLOCK, in bytes, that a set of mappings needs in a process without CAP_IPC_LOCK: the
 * value of `LimitMEMLOCK=` in a unit file. Groups in one container share its mappings; containers
 * do not.
 *
 * @throws VfioError EINVAL for a bad size or count
 */
export function estimateMemlock(options: MemlockEstimateOptions): bigint {
  const pageSize = BigInt(options.pageSize ?? 4096);
  const containers = options.containers ?? 1;
  const alreadyLocked = options.alreadyLocked ?? 0;
  if (pageSize <= 0n || !Number.isSafeInteger(containers) || containers < 0 || !Number.isSafeInteger(alreadyLocked) || alreadyLocked < 0) {
    throw new VfioError('EINVAL', 'page size, number of containers and bytes locked already must be whole numbers, none negative');
  }
  let sum = 0n;
  for (const size of options.mappings) {
    if (typeof size === 'number' && !Number.isSafeInteger(size)) throw new VfioError('EINVAL', `a mapping of ${size} bytes`);
    const bytes = BigInt(size);
    if (bytes < 0n) throw new VfioError('EINVAL', `a mapping of ${size} bytes`);
    sum += ((bytes + pageSize - 1n) / pageSize) * pageSize;
  }
  return sum * BigInt(containers) + BigInt(alreadyLocked);
}
