import { expect, it } from 'vitest';
import { formatBinary, formatBytes, formatClock, formatNanoseconds, formatRate, grouped } from './quantities.ts';

it('shows a value in the unit that fits it', () => {
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
