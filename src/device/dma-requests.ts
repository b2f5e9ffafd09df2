/**
 * The checks of DMA requests that every client of a device makes before it asks the other side: the
 * same errno in the same order, whichever way the device is reached.
 *
 * @see linux/drivers/vfio/vfio_iommu_type1.c, vfio_dma_do_map(), vfio_dma_do_unmap()
 */
import type { DmaSpace } from '../abi/device.ts';
import type { EventDetails } from '../abi/event.ts';
import { Access, type Memory } from '../abi/memory.ts';
import { bitmapBytes } from '../abi/vfio.ts';
import { checkIndex, checkU64, hex, U64_MAX } from '../base/check.ts';
import { VfioError } from '../base/errno.ts';
import type { MappingTable } from './mapping-table.ts';

export type MapRequest = Parameters<DmaSpace['map']>[0];

/** A request that has passed `checkMap`. */
export interface CheckedMap {
  readonly iova: bigint;
  readonly memory: Memory;
  /** Bytes of `memory` before the mapping. */
  readonly offset: number;
  readonly bytes: number;
  readonly access: Access;
  /** Pages of 4096 bytes, `last` inclusive. */
  readonly first: number;
  readonly last: number;
}

/** A number of a caller that may be none. */
export const anyU64 = (value: unknown): bigint => (typeof value === 'bigint' ? BigInt.asUintN(64, value) : 0n);

/** The fields of an event about a request, which may be wrong in any way. */
export function mapDetails({ iova, memory, offset = 0, size, access }: MapRequest, kind: 'direct' | 'remote'): EventDetails<'dma-map'> {
  const bytes = size ?? (memory?.size ?? 0) - offset;
  return {
    iova: anyU64(iova),
    size: Number.isSafeInteger(bytes) && bytes > 0 ? BigInt(bytes) : 0n,
    access: access === Access.READ ? 'read' : access === Access.WRITE ? 'write' : 'read, write',
    memory: kind,
  };
}

/**
 * The numbers of a request: what can be said without the mappings that there are.
 *
 * @param what the call's name, for the error
 * @param page the smallest page, in bytes
 * @throws VfioError EINVAL for numbers that are none, no bytes, another access, and addresses that
 *   are not whole pages; EOVERFLOW past 2^64; EFAULT for an object that is no memory
 */
export function checkMap(what: string, request: MapRequest, page: bigint): CheckedMap {
  const { memory } = request ?? ({} as MapRequest);
  if (typeof memory?.get !== 'function') throw new VfioError('EFAULT', 'the object to map is no Memory');
  const iova = checkU64(request.iova, 'iova');
  const access = request.access ?? Access.READ_WRITE;
  const offset = checkIndex(request.offset ?? 0, Number.MAX_SAFE_INTEGER, 'offset');
  const bytes = checkIndex(request.size ?? memory.size - offset, Number.MAX_SAFE_INTEGER, 'size');
  if (access !== Access.READ && access !== Access.WRITE && access !== Access.READ_WRITE) {
    throw new VfioError('EINVAL', `access ${String(access)} is neither READ, WRITE nor both`);
  }
  const size = BigInt(bytes);
  if (size === 0n) throw new VfioError('EINVAL', `${what}: size is 0`);
  checkEnd(what, iova, size);
  checkAligned(what, 'iova', iova, page);
  checkAligned(what, 'size', size, page);
  checkAligned(what, 'offset', BigInt(offset), page);
  const first = Number(iova >> 12n);
  return { iova, memory, offset, bytes, access, first, last: first + bytes / 4096 - 1 };
}

/** @throws VfioError EEXIST over a mapping */
export function checkFree(what: string, { iova, bytes, first, last }: CheckedMap, mappings: MappingTable): void {
  if (!mappings.overlaps(first, last)) return;
  throw new VfioError('EEXIST', `${what}: ${hex(iova)}+${hex(bytes)} overlaps another mapping`, { fix: 'Unmap it first.' });
}

/** @throws VfioError EFAULT for memory that is gone, or too small */
export function checkMemory({ memory, offset, bytes }: CheckedMap): void {
  if (memory.references === 0) throw new VfioError('EFAULT', 'the memory to map has been disposed');
  if (bytes > memory.size - offset) {
    throw new VfioError('EFAULT', `bytes ${offset} to ${offset + bytes} do not lie inside a memory of ${memory.size} bytes`);
  }
}

/**
 * The range of an unmap, in pages of 4096 bytes.
 *
 * @throws VfioError EINVAL for no bytes and for addresses that are not whole pages; EOVERFLOW past
 *   2^64
 */
export function checkUnmap(what: string, iova: bigint, size: bigint, page: bigint): { readonly first: number; readonly last: number } {
  checkU64(iova, 'iova');
  checkU64(size, 'size');
  checkAligned(what, 'iova', iova, page);
  if (size === 0n) throw new VfioError('EINVAL', `${what}: size is 0`);
  checkAligned(what, 'size', size, page);
  checkEnd(what, iova, size);
  return { first: Number(iova >> 12n), last: Number((iova + size - 1n) >> 12n) };
}

/** @throws VfioError EINVAL when an end of the range lies inside a mapping */
export function checkNotCut(what: string, first: number, last: number, mappings: MappingTable): void {
  const at = mappings.at(first);
  const end = mappings.at(last);
  if ((at === null || at.first === first) && (end === null || end.last === last)) return;
  const cut = at === null || at.first === first ? end! : at;
  throw new VfioError('EINVAL', `${what} would cut the mapping at ${hex(BigInt(cut.first) << 12n)} in two`, {
    fix: 'Name whole mappings; a mapping cannot be unmapped in part.',
  });
}

/**
 * The range of a report of dirty pages, in pages of 4096 bytes.
 *
 * @param page the smallest page
 * @throws VfioError EINVAL for another page size, a bitmap that is too small, and addresses that
 *   are not whole pages; EFAULT for a bitmap that is none; EOVERFLOW past 2^64
 */
export function checkDirtyRange(
  what: string,
  request: { readonly iova: bigint; readonly size: bigint; readonly pageSize: bigint; readonly into: Uint8Array },
  page: bigint,
): { readonly first: number; readonly last: number } {
  const { iova, size, pageSize, into } = request;
  checkU64(iova, 'iova');
  checkU64(size, 'size');
  if (!(into instanceof Uint8Array)) throw new VfioError('EFAULT', `${what}: the bitmap is not a Uint8Array`);
  const pages = pageSize === page ? size / page : 0n;
  if (pages === 0n || into.length < bitmapBytes(size, page)) {
    throw new VfioError(
      'EINVAL',
      `${what}: a bitmap of ${into.length} bytes for ${hex(size)} bytes in pages of ${pageSize}, which are ${page}`,
    );
  }
  if (((iova | size) & (page - 1n)) !== 0n) throw new VfioError('EINVAL', `${what}: ${hex(iova)}+${hex(size)} is not made of whole pages`);
  checkEnd(what, iova, size);
  return { first: Number(iova >> 12n), last: Number((iova + size - 1n) >> 12n) };
}

function checkEnd(what: string, iova: bigint, size: bigint): void {
  if (iova + size - 1n <= U64_MAX) return;
  throw new VfioError('EOVERFLOW', `${what}: ${hex(iova)}+${hex(size)} goes past the last 64-bit address`);
}

function checkAligned(what: string, name: string, value: bigint, page: bigint): void {
  if ((value & (page - 1n)) === 0n) return;
  throw new VfioError('EINVAL', `${what}: ${name} ${hex(value)} is not a multiple of the smallest page, ${page} bytes`);
}
