import { expect, it } from 'vitest';
import type { Doorbell } from '../abi/device.ts';
import { validateBars } from './bars.ts';

const declared = (doorbell: object) => ({
  name: 'bell',
  vendor: 1,
  device: 1,
  classCode: 0,
  bars: [{ index: 0, size: 0x1000, type: 'mem32' as const, doorbells: [doorbell as Doorbell] }],
});

it.each([
  { offset: 0xffc, size: 4, value: 0xffff_ffffn },
  { offset: 0, size: 8, value: null },
])('a doorbell: %o', (doorbell) => {
  expect(() => validateBars(declared(doorbell))).not.toThrow();
});

it.each([
  { offset: 0x1000, size: 4, value: null },
  { offset: 0xffe, size: 4, value: null },
  { offset: 2, size: 4, value: null },
  { offset: -4, size: 4, value: null },
  { offset: Number.NaN, size: 4, value: null },
  { offset: 0, size: 3, value: null },
  { offset: 0, size: 1, value: 256n },
  { offset: 0, size: 4, value: -1n },
])('none: %o', (doorbell) => {
  expect(() => validateBars(declared(doorbell))).toThrow(expect.objectContaining({ code: 'EINVAL' }));
});
