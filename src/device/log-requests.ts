/**
 * The checks of DMA_LOGGING requests that every `Device` makes before it reads a number of them: a
 * value that is no address must not be converted to one.
 */
import type { DmaLogReport, DmaRange } from '../abi/device.ts';
import { checkU64 } from '../base/check.ts';
import { VfioError } from '../base/errno.ts';

/**
 * @throws VfioError EINVAL for a value that is no list, and for a page size that is no number of 64
 *   bits
 */
export function checkLogStart(name: string, ranges: ArrayLike<DmaRange>, pageSize: bigint): void {
  const count: unknown = typeof ranges === 'object' ? ranges?.length : undefined;
  if (!Number.isInteger(count) || (count as number) < 0) throw new VfioError('EINVAL', `${name}: DMA_LOGGING_START takes a list of ranges`);
  checkU64(pageSize, `${name}: the page size of DMA_LOGGING_START`);
}

/** A range of the list. @throws VfioError EINVAL */
export function checkLogRange(name: string, range: DmaRange | undefined): DmaRange {
  const what = `${name}: a range of DMA_LOGGING_START`;
  if (typeof range !== 'object' || range === null) throw new VfioError('EINVAL', `${what} is ${String(range)}`);
  const { iova, length } = range;
  return { iova: checkU64(iova, `${what}: its iova`), length: checkU64(length, `${what}: its length`) };
}

/** All but the bitmap, which is read last. @throws VfioError EINVAL */
export function checkLogReport(name: string, request: DmaLogReport): void {
  if (typeof request !== 'object' || request === null) throw new VfioError('EINVAL', `${name}: DMA_LOGGING_REPORT without a request`);
  checkU64(request.iova, `${name}: the iova of DMA_LOGGING_REPORT`);
  checkU64(request.length, `${name}: the length of DMA_LOGGING_REPORT`);
  checkU64(request.pageSize, `${name}: the page size of DMA_LOGGING_REPORT`);
}
