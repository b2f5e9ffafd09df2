/**
 * The features of migration as VFIO_DEVICE_FEATURE carries them: MIGRATION, MIG_DEVICE_STATE,
 * MIG_DATA_SIZE, and DMA_LOGGING (B.11).
 *
 * @see linux/drivers/vfio/vfio_main.c, vfio_ioctl_device_feature_mig_device_state(),
 * vfio_ioctl_device_feature_logging_start()
 */
import type { FeatureRequest } from '../../abi/device.ts';
import { DMA_LOGGING_MAX_RANGES } from '../../abi/vfio.ts';
import {
  FeatureDmaLoggingControl,
  FeatureDmaLoggingRange,
  FeatureDmaLoggingReport,
  FeatureMigDataSize,
  FeatureMigration,
  FeatureMigState,
} from '../../abi/vfio-structs.ts';
import { hex, U64_MAX } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { DmaLog, type PageRange } from '../../hardware/dma-log.ts';
import type { HostDma } from '../../hardware/host-dma.ts';
import type { DeviceMigration } from './device-migration.ts';
import { viewOf } from './sections.ts';

const PAGE_BITS = 12n;
const PAGE = 1n << PAGE_BITS;
/**
 * Bytes of a bitmap that are written at once: a longer bitmap covers addresses that do not exist.
 */
const BITMAP_MAX = 2 ** 31;

export function getFlags(migration: DeviceMigration, { data }: FeatureRequest): number {
  FeatureMigration.flags.set(viewOf(data), 0, BigInt(migration.flags));
  return FeatureMigration.structSize;
}

export function getDataSize(migration: DeviceMigration, { data }: FeatureRequest): number {
  FeatureMigDataSize.stop_copy_length.set(viewOf(data), 0, BigInt(migration.stopCopyBytes));
  return FeatureMigDataSize.structSize;
}

/**
 * Get: the state now. Set: go to `device_state`; `onDataStream` gets the stream that reads or
 * writes the device's data.
 *
 * @throws VfioError as `setState`
 */
export function deviceState(migration: DeviceMigration, { data, get, onDataStream }: FeatureRequest): number {
  const view = viewOf(data);
  const wanted = FeatureMigState.device_state.get(view, 0);
  FeatureMigState.data_fd.set(view, 0, -1);
  if (get !== true) {
    migration.setState(wanted, onDataStream);
    return 0;
  }
  FeatureMigState.device_state.set(view, 0, migration.state);
  return FeatureMigState.structSize;
}

/**
 * Begin to note this device's writes. The page size is a hint: the engine notes pages of 4096
 * bytes, and reports that size.
 *
 * @throws VfioError EINVAL no ranges; E2BIG more than 256; EFAULT fewer ranges than the request
 * says; by range, in order: EINVAL not made of pages of that size, EOVERFLOW past 2^64, EINVAL
 * empty or over another one; EINVAL a bad page size, or when logging is on already
 */
export function startLogging(name: string, dma: HostDma, request: FeatureRequest): number {
  const control = viewOf(request.data);
  const { page_size: pageSize, num_ranges: count } = FeatureDmaLoggingControl.decode(control);
  if (count === 0) throw new VfioError('EINVAL', `${name}: DMA_LOGGING_START without ranges`);
  if (count > DMA_LOGGING_MAX_RANGES) {
    throw new VfioError('E2BIG', `${name}: DMA_LOGGING_START with ${count} ranges; at most ${DMA_LOGGING_MAX_RANGES}`, {
      fix: 'Join those that lie close together.',
    });
  }
  const pages = decodeRanges(name, count, pageSize, request.ranges ?? new Uint8Array(0));
  if (pageSize < PAGE || (pageSize & (pageSize - 1n)) !== 0n) {
    throw new VfioError('EINVAL', `${name}: DMA_LOGGING_START with pages of ${pageSize} bytes; give a power of two from 4096`);
  }
  if (dma.writes !== null) throw new VfioError('EINVAL', `${name}: its DMA is logged already`, { fix: 'DMA_LOGGING_STOP first.' });
  dma.writes = new DmaLog(pages);
  FeatureDmaLoggingControl.page_size.set(control, 0, PAGE);
  return 0;
}

function decodeRanges(name: string, count: number, pageSize: bigint, ranges: Uint8Array): PageRange[] {
  const view = viewOf(ranges);
  const pages: PageRange[] = [];
  for (let i = 0; i < count; i++) {
    const at = i * FeatureDmaLoggingRange.structSize;
    if (at + FeatureDmaLoggingRange.structSize > ranges.length)
      throw new VfioError('EFAULT', `${name}: range ${i} of ${count} is not there`);
    const { iova, length } = FeatureDmaLoggingRange.decode(view, at);
    const what = `${name}: DMA_LOGGING_START: range ${hex(iova)}+${hex(length)}`;
    // As IS_ALIGNED, with which nothing but 0 is a multiple of 0.
    const below = BigInt.asUintN(64, pageSize - 1n);
    if ((iova & below) !== 0n || (length & below) !== 0n || ((iova | length) & (PAGE - 1n)) !== 0n) {
      throw new VfioError('EINVAL', `${what} is not made of pages of ${pageSize} bytes`);
    }
    if (iova + length > U64_MAX) throw new VfioError('EOVERFLOW', `${what} goes past the last 64-bit address`);
    if (length === 0n) throw new VfioError('EINVAL', `${what} is empty`);
    const first = Number(iova >> PAGE_BITS);
    const last = Number((iova + length - 1n) >> PAGE_BITS);
    if (pages.some((other) => first <= other.last && last >= other.first)) throw new VfioError('EINVAL', `${what} overlaps another one`);
    pages.push({ first, last });
  }
  return pages;
}

/** Drop the log. No error when there is none. */
export function stopLogging(dma: HostDma): number {
  dma.writes = null;
  return 0;
}

/**
 * Report the pages of [iova, iova + length) that were written since the last report, and clear
 * them.
 *
 * @throws VfioError EINVAL a page size below 4096 or no power of two; EOVERFLOW past 2^64; EINVAL
 * an empty range, one that is not whole pages, or logging is off; EFAULT a bitmap too small
 */
export function reportLogging(name: string, dma: HostDma, request: FeatureRequest): number {
  const { iova, length, page_size: pageSize } = FeatureDmaLoggingReport.decode(viewOf(request.data));
  if (pageSize < PAGE || (pageSize & (pageSize - 1n)) !== 0n) {
    throw new VfioError('EINVAL', `${name}: DMA_LOGGING_REPORT with pages of ${pageSize} bytes; give a power of two from 4096`);
  }
  const what = `${name}: DMA_LOGGING_REPORT of ${hex(iova)}+${hex(length)}`;
  if (iova + length > U64_MAX) throw new VfioError('EOVERFLOW', `${what} goes past the last 64-bit address`);
  if (length === 0n || ((iova | length) & (PAGE - 1n)) !== 0n) throw new VfioError('EINVAL', `${what} is not made of pages of 4096 bytes`);
  const log = dma.writes;
  if (log === null) throw new VfioError('EINVAL', `${what}: its DMA is not logged`, { fix: 'DMA_LOGGING_START first.' });
  const needed = bitmapBytes(length, pageSize);
  // Read last: an accessor may find the memory only then.
  const bitmap = needed > BITMAP_MAX ? undefined : request.bitmap;
  if (bitmap === undefined || bitmap.length < needed) {
    throw new VfioError('EFAULT', `${what} takes a bitmap of ${needed} bytes; ${bitmap?.length ?? 0} are there`);
  }
  log.take(Number(iova >> PAGE_BITS), Number((iova + length - 1n) >> PAGE_BITS), Number(pageSize / PAGE), bitmap);
  // The log would not see writes through a view that was taken before now.
  dma.expireWriteViews();
  return FeatureDmaLoggingReport.structSize;
}

/** Whole words of 64 bits, one bit per page. */
function bitmapBytes(length: bigint, pageSize: bigint): number {
  const pages = (length + pageSize - 1n) / pageSize;
  return Number((pages + 63n) / 64n) * 8;
}
