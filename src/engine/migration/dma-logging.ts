/**
 * The log of a device's writes: DMA_LOGGING_START, _STOP and _REPORT (B.11).
 *
 * @see linux/drivers/vfio/vfio_main.c, vfio_ioctl_device_feature_logging_start()
 */
import type { DmaLogReport, DmaRange } from '../../abi/device.ts';
import { bitmapBytes, DMA_LOGGING_MAX_RANGES } from '../../abi/vfio.ts';
import { hex, U64_MAX } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { checkLogRange, checkLogReport, checkLogStart } from '../../device/log-requests.ts';
import { DmaLog, type PageRange } from '../../hardware/dma-log.ts';
import type { HostDma } from '../../hardware/host-dma.ts';

const PAGE_BITS = 12n;
const PAGE = 1n << PAGE_BITS;
/** Bytes of a bitmap that are written at once: no caller has the memory for a longer one. */
const BITMAP_MAX = 2 ** 31;

/**
 * Begin to log this device's writes. The page size is a hint: the log has pages of 4096 bytes, and
 * says so.
 *
 * @throws VfioError EINVAL no ranges; E2BIG more than 256; by range, in order: EINVAL not made of
 * pages of that size, EOVERFLOW past 2^64, EINVAL empty or over another one; EINVAL a page size
 * that is none, or when writes are logged already
 */
export function startLogging(name: string, dma: HostDma, ranges: ArrayLike<DmaRange>, pageSize: bigint): bigint {
  checkLogStart(name, ranges, pageSize);
  const count = ranges.length;
  if (count === 0) throw new VfioError('EINVAL', `${name}: DMA_LOGGING_START without ranges`);
  if (count > DMA_LOGGING_MAX_RANGES) {
    throw new VfioError('E2BIG', `${name}: DMA_LOGGING_START with ${count} ranges; at most ${DMA_LOGGING_MAX_RANGES}`, {
      fix: 'Join those that lie close together.',
    });
  }
  const pages = checkedRanges(name, ranges, pageSize);
  if (pageSize < PAGE || (pageSize & (pageSize - 1n)) !== 0n) {
    throw new VfioError('EINVAL', `${name}: DMA_LOGGING_START with pages of ${pageSize} bytes; give a power of two from 4096`);
  }
  if (dma.writes !== null) throw new VfioError('EINVAL', `${name}: its DMA is logged already`, { fix: 'DMA_LOGGING_STOP first.' });
  dma.writes = new DmaLog(pages);
  return PAGE;
}

function checkedRanges(name: string, ranges: ArrayLike<DmaRange>, pageSize: bigint): PageRange[] {
  const pages: PageRange[] = [];
  for (let i = 0; i < ranges.length; i++) {
    const { iova, length } = checkLogRange(name, ranges[i]);
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

/**
 * The pages of [iova, iova + length) that were written since the last report. The log forgets
 * them.
 *
 * @throws VfioError EINVAL a page size below 4096 or no power of two; EOVERFLOW past 2^64; EINVAL
 * nothing, or not whole pages, to be reported, or logging is off; EFAULT a bitmap too small
 */
export function reportLogging(name: string, dma: HostDma, request: DmaLogReport): void {
  checkLogReport(name, request);
  const { iova, length, pageSize } = request;
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
  if (!(bitmap instanceof Uint8Array) || bitmap.length < needed) {
    throw new VfioError('EFAULT', `${what} takes a bitmap of ${needed} bytes; ${bitmap?.length ?? 0} are there`);
  }
  log.take(Number(iova >> PAGE_BITS), Number((iova + length - 1n) >> PAGE_BITS), Number(pageSize / PAGE), bitmap);
  // The log would not see writes through a view that was taken before now.
  dma.expireWriteViews();
}
