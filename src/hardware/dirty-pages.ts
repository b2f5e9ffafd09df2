/**
 * Pages that devices have written since the last report (B.6 dirty pages): one log for all domains
 * of a container.
 *
 * Linux reports every page of a mapping as dirty when a group's IOMMU does not track writes, and
 * for PCI devices on type1 no IOMMU does. This engine sees each write and reports exactly the pages
 * written: finer than Linux, and never too few. A view for writing counts as a write of all its
 * pages, when it is taken.
 *
 * @see linux/drivers/vfio/vfio_iommu_type1.c, vfio_iova_dirty_bitmap(), verify_bitmap_size()
 */
import { DIRTY_BITMAP_SIZE_MAX } from '../abi/vfio.ts';
import { Bitmap } from '../base/bitmap.ts';
import { checkU64 } from '../base/check.ts';
import { VfioError } from '../base/errno.ts';

/** struct vfio_bitmap. */
export interface DirtyBitmap {
  /** Bytes that one bit stands for: the smallest page size of the container. */
  readonly pageSize: bigint;
  /** The size of the bitmap, as the caller gives it. Default: `data.length`. */
  readonly size?: bigint;
  /**
   * The report sets bits and clears none: zero the bitmap first. Bit 0 of byte 0 is the first page
   * of the range.
   */
  readonly data: Uint8Array;
}

/**
 * Check a bitmap's numbers, before any lock: it needs one bit a page.
 *
 * @throws VfioError EINVAL for no pages, no bitmap, one of more than 256 MiB, or one too small
 */
export function verifyBitmapSize(rangeSize: bigint, bitmap: DirtyBitmap): void {
  if (typeof bitmap !== 'object' || bitmap === null) throw new VfioError('EINVAL', 'there is no dirty bitmap');
  checkU64(bitmap.pageSize, 'bitmap page size');
  const size = checkU64(bitmap.size ?? BigInt(bytesOf(bitmap).length), 'bitmap size');
  if (bitmap.pageSize === 0n) throw new VfioError('EINVAL', "the bitmap's page size is 0");
  // As __ffs: only the lowest bit counts here; a later check looks at the others.
  const pages = rangeSize / (bitmap.pageSize & -bitmap.pageSize);
  const needed = ((pages + 63n) / 64n) * 8n;
  if (pages === 0n || size === 0n || size > BigInt(DIRTY_BITMAP_SIZE_MAX) || size < needed) {
    throw new VfioError('EINVAL', `a dirty bitmap for ${pages} pages takes ${needed} bytes, at most ${DIRTY_BITMAP_SIZE_MAX}; got ${size}`);
  }
}

/** Read late: an accessor may find the memory only then. */
function bytesOf({ data }: DirtyBitmap): Uint8Array {
  if (data instanceof Uint8Array) return data;
  throw new VfioError('EFAULT', 'the bytes of the dirty bitmap are not a Uint8Array');
}

/** @throws VfioError EFAULT when the caller promised more bytes than it has */
export function checkBitmapData(bitmap: DirtyBitmap): void {
  const { length } = bytesOf(bitmap);
  if (bitmap.size !== undefined && BigInt(length) < bitmap.size) {
    throw new VfioError('EFAULT', `the bitmap has ${length} bytes, not the ${bitmap.size} it was said to have`);
  }
}

export class DirtyPages {
  readonly #bitmap = new Bitmap();

  /** Memory of the log, in 4 KiB chunks. */
  get chunks(): number {
    return this.#bitmap.chunks;
  }

  /** Pages of 4096 bytes were written. */
  mark(firstPfn: number, lastPfn: number): void {
    this.#bitmap.mark(firstPfn, lastPfn);
  }

  /** OR the dirty pages of [firstPfn, lastPfn] into `into`, one bit for `unit` pages. */
  report(firstPfn: number, lastPfn: number, unit: number, into: Uint8Array): void {
    this.#bitmap.orInto(firstPfn, lastPfn, into, 0, unit);
  }

  forget(firstPfn: number, lastPfn: number): void {
    this.#bitmap.clear(firstPfn, lastPfn);
  }
}
