import { describe, expect, it } from 'vitest';
import { formatBinary, formatBytes, formatClock, formatNanoseconds, formatRate, grouped, parseBytes } from './quantities.ts';

describe('parseBytes', () => {
  it.each([
    ['0', 0],
    ['512', 512],
    ['4K', 4096],
    ['4k', 4096],
    ['1.5M', 1_572_864],
    ['10GiB', 10 * 2 ** 30],
    ['2T', 2 * 2 ** 40],
  ])('%s is %d', (text, bytes) => expect(parseBytes(text)).toBe(bytes));

  it.each(['', 'K', '-1', '4KB', '0x10', '1e3', '1.3', '9007199254740993', '99999999T'])("'%s' is no size", (text) => {
    expect(() => parseBytes(text)).toThrow(/no size/);
  });
});

it('formats what it is given in units that fit', () => {
  expect([0, 999, 1000, 65_536, 999_999, 10_737_418_240].map(formatBytes)).toEqual([
    '0 B',
    '999 B',
    '1.00 kB',
    '65.5 kB',
    '1.00 MB',
    '10.7 GB',
  ]);
  expect([512, 4096, 131_072, 1000].map(formatBinary)).toEqual(['512 B', '4 KiB', '128 KiB', '1000 B']);
  expect([0, 1_500_000, 2_345_000_000].map(formatRate)).toEqual(['0.0 MB/s', '1.5 MB/s', '2345 MB/s']);
  expect([850, 1500, 12_345, 4_560_000, 1.2e9].map(formatNanoseconds)).toEqual(['850 ns', '1.50 µs', '12.3 µs', '4.56 ms', '1.20 s']);
  expect([0, 6.2, 750, 11_100].map(formatClock)).toEqual(['0:00', '0:07', '12:30', '3:05:00']);
  expect([7, 1234, 123456789012345678901n].map(grouped)).toEqual(['7', '1,234', '123,456,789,012,345,678,901']);
});
