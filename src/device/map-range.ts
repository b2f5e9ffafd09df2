/**
 * The part of a region that a user may map: whole pages, inside the region, and inside one of its
 * areas where the region's information names some.
 */
import type { RegionInfo } from '../abi/device.ts';
import { RegionFlags } from '../abi/vfio.ts';
import { hex } from '../base/check.ts';
import { VfioError } from '../base/errno.ts';

/**
 * @param size bytes, rounded up to whole pages. Default: to the region's end
 * @returns bytes of the mapping
 * @throws VfioError EINVAL for a region that cannot be mapped, and for a range that is misaligned,
 * past the end, or not inside an area that can be mapped
 */
export function checkMapRange(name: string, info: RegionInfo, offset: number, size: number | undefined, pageSize: number): number {
  const whole = Math.ceil(info.size / pageSize) * pageSize;
  if ((info.flags & RegionFlags.MMAP) === 0) {
    throw new VfioError(
      'EINVAL',
      `${name} cannot be mapped: it is no memory, shares its page with others, or its mediator sees each access`,
      {
        fix: 'Use read and write.',
      },
    );
  }
  if (!Number.isSafeInteger(offset) || offset < 0 || offset % pageSize !== 0) {
    throw new VfioError('EINVAL', `${name}: map offset ${String(offset)} is not a multiple of ${pageSize}`);
  }
  const wanted = size ?? info.size - offset;
  const length = Number.isSafeInteger(wanted) ? Math.ceil(wanted / pageSize) * pageSize : 0;
  if (length <= 0 || offset + length > whole) {
    throw new VfioError('EINVAL', `${name}: cannot map ${String(wanted)} bytes at ${hex(offset)} of ${hex(whole)}`);
  }
  if (!insideArea(info, offset, length, whole)) {
    throw new VfioError('EINVAL', `${name}: ${hex(length)} bytes at ${hex(offset)} are not inside an area that can be mapped`, {
      fix: 'Map one of the areas that its info names, or use read and write.',
    });
  }
  return length;
}

/** An area that ends with the region reaches to the end of its last page. */
export function insideArea({ sparseAreas, size }: RegionInfo, offset: number, length: number, whole = size): boolean {
  if (sparseAreas === undefined) return true;
  return sparseAreas.some((area) => {
    const end = area.offset + area.size === size ? whole : area.offset + area.size;
    return offset >= area.offset && offset + length <= end;
  });
}
