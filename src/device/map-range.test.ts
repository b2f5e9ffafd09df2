import { expect, it } from 'vitest';
import type { RegionInfo } from '../abi/device.ts';
import { RegionFlags } from '../abi/vfio.ts';
import { VfioError } from '../base/errno.ts';
import { checkMapRange } from './map-range.ts';

const flags = RegionFlags.READ | RegionFlags.WRITE | RegionFlags.MMAP;
const region: RegionInfo = { index: 0, flags, size: 0x2800 };
const lengthOf = (info: RegionInfo, offset: number, size?: number): number | string => {
  try {
    return checkMapRange('device BAR 0', info, offset, size, 4096);
  } catch (error) {
    if (error instanceof VfioError) return error.code;
    throw error;
  }
};

it('a mapping is of whole pages, to the region’s end where no size is given', () => {
  expect([lengthOf(region, 0), lengthOf(region, 0x1000), lengthOf(region, 0, 1), lengthOf(region, 0x2000, 0x1000)]).toEqual([
    0x3000, 0x2000, 0x1000, 0x1000,
  ]);
});

it('a range that is misaligned, empty or past the end is EINVAL', () => {
  const ranges: [number, number?][] = [[1], [-4096], [0.5], [0x3000], [0, 0], [0, 0x3001], [0, Number.NaN], [Number.NaN]];
  expect(ranges.map(([offset, size]) => lengthOf(region, offset, size))).toEqual(Array(ranges.length).fill('EINVAL'));
});

it('a region without MMAP cannot be mapped', () => {
  expect(lengthOf({ ...region, flags: flags & ~RegionFlags.MMAP }, 0)).toBe('EINVAL');
});

it('a range lies inside one area; the last area reaches to the end of its page', () => {
  const sparseAreas = [
    { offset: 0, size: 0x1000 },
    { offset: 0x2000, size: 0x800 },
  ];
  const sparse: RegionInfo = { ...region, sparseAreas };
  expect([lengthOf(sparse, 0, 0x1000), lengthOf(sparse, 0x2000)]).toEqual([0x1000, 0x1000]);
  expect([lengthOf(sparse, 0), lengthOf(sparse, 0x1000, 0x1000)]).toEqual(['EINVAL', 'EINVAL']);
});
