/**
 * The checks of type1 requests that need only the request and the smallest page size, in the order
 * that programs see (B.6).
 */
import { DmaUnmapFlags } from '../../abi/vfio.ts';
import { checkU32, checkU64, hex, U64_MAX } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { type DirtyBitmap, verifyBitmapSize } from '../../hardware/dirty-pages.ts';
import { LAST_PFN } from '../../hardware/iommu-domain.ts';
import type { LinuxRules } from '../linux-version.ts';
import type { DirtyRange, UnmapDma } from './type1-requests.ts';

const UNMAP_FLAGS = DmaUnmapFlags.GET_DIRTY_BITMAP | DmaUnmapFlags.ALL | DmaUnmapFlags.VADDR;

/** @throws VfioError EINVAL */
export function checkFlags(what: string, flags: number, known: number): number {
  checkU32(flags, 'flags');
  if ((flags & ~known) !== 0) throw new VfioError('EINVAL', `${what}: unknown flags ${hex(flags)}`);
  return flags;
}

/** @throws VfioError EINVAL */
export function checkBytes(value: number, what: string): number {
  if (!Number.isSafeInteger(value) || value < 0)
    throw new VfioError('EINVAL', `${what} is ${String(value)}; it must be a whole number of bytes`);
  return value;
}

/** @throws VfioError EINVAL for no bytes; EOVERFLOW past 2^64 (6.12: EINVAL) */
export function checkMapRange(linux: LinuxRules, iova: bigint, size: bigint, vaddr: bigint): void {
  if (size === 0n) throw new VfioError('EINVAL', 'MAP_DMA: size is 0');
  checkWrap(linux, 'MAP_DMA: iova', iova, size);
  checkWrap(linux, 'MAP_DMA: vaddr', vaddr, size);
}

/** @throws VfioError EINVAL */
export function checkMapAligned(pageSize: bigint, iova: bigint, size: bigint, vaddr: bigint): void {
  checkAligned('MAP_DMA: iova', iova, pageSize);
  checkAligned('MAP_DMA: size', size, pageSize);
  checkAligned('MAP_DMA: vaddr', vaddr, pageSize);
}

export interface UnmapRange {
  /** Pages of 4096 bytes, `last` inclusive. */
  readonly first: number;
  readonly last: number;
  readonly all: boolean;
  readonly vaddrOnly: boolean;
  /** Null for a request that does not ask for the dirty pages. */
  readonly bitmap: DirtyBitmap | null;
}

/** @throws VfioError EINVAL, EOVERFLOW */
export function checkUnmap(linux: LinuxRules, request: UnmapDma, pageSize: bigint): UnmapRange {
  const flags = checkFlags('UNMAP_DMA', request.flags ?? 0, UNMAP_FLAGS);
  const iova = checkU64(request.iova, 'iova');
  const size = checkU64(request.size, 'size');
  const all = (flags & DmaUnmapFlags.ALL) !== 0;
  const vaddrOnly = (flags & DmaUnmapFlags.VADDR) !== 0;
  const bitmap = (flags & DmaUnmapFlags.GET_DIRTY_BITMAP) !== 0 ? request.dirtyBitmap : null;
  if (bitmap !== null) {
    if (all || vaddrOnly) throw new VfioError('EINVAL', 'UNMAP_DMA: GET_DIRTY_BITMAP goes with neither ALL nor VADDR');
    if (bitmap === undefined) throw new VfioError('EINVAL', 'UNMAP_DMA: GET_DIRTY_BITMAP needs a bitmap');
    verifyBitmapSize(size, bitmap);
  }
  checkAligned('UNMAP_DMA: iova', iova, pageSize);
  if (all) {
    if (iova !== 0n || size !== 0n) throw new VfioError('EINVAL', 'UNMAP_DMA: with ALL, iova and size must be 0');
    return { first: 0, last: LAST_PFN, all, vaddrOnly, bitmap };
  }
  if (size === 0n) throw new VfioError('EINVAL', 'UNMAP_DMA: size is 0');
  checkAligned('UNMAP_DMA: size', size, pageSize);
  checkWrap(linux, 'UNMAP_DMA: iova', iova, size);
  return { first: Number(iova >> 12n), last: Number((iova + size - 1n) >> 12n), all, vaddrOnly, bitmap };
}

/** Pages of 4096 bytes. @throws VfioError EINVAL, EOVERFLOW */
export function checkDirtyRange(linux: LinuxRules, range: DirtyRange, pageSize: bigint): { readonly first: number; readonly last: number } {
  const iova = checkU64(range.iova, 'iova');
  const size = checkU64(range.size, 'size');
  if (size > 0n) checkWrap(linux, 'DIRTY_PAGES: iova', iova, size);
  verifyBitmapSize(size, range.bitmap);
  checkBitmapPage(range.bitmap, pageSize);
  checkAligned('DIRTY_PAGES: iova', iova, pageSize);
  checkAligned('DIRTY_PAGES: size', size, pageSize);
  return { first: Number(iova >> 12n), last: Number((iova + size - 1n) >> 12n) };
}

/** @throws VfioError EINVAL */
export function checkBitmapPage(bitmap: DirtyBitmap, pageSize: bigint): void {
  if (bitmap.pageSize === pageSize) return;
  throw new VfioError('EINVAL', `a dirty bitmap must use the smallest page size, ${pageSize}, not ${bitmap.pageSize}`);
}

function checkAligned(what: string, value: bigint, pageSize: bigint): void {
  if ((value & (pageSize - 1n)) === 0n) return;
  throw new VfioError('EINVAL', `${what} ${hex(value)} is not a multiple of the smallest page, ${pageSize} bytes`);
}

function checkWrap(linux: LinuxRules, what: string, start: bigint, size: bigint): void {
  if (start + size - 1n <= U64_MAX) return;
  throw new VfioError(
    linux.overflowIsNamed ? 'EOVERFLOW' : 'EINVAL',
    `${what} ${hex(start)}+${hex(size)} goes past the last 64-bit address`,
  );
}
