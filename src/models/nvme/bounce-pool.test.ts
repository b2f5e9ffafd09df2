import { expect, it } from 'vitest';
import { BouncePool } from './bounce-pool.ts';

it('bounce buffers are powers of two, kept for the next, and given up for other sizes', () => {
  const pool = new BouncePool(0x4000);
  const small = [1, 4096, 5000].map((bytes) => pool.take(bytes)!);
  expect(small.map((b) => b.length)).toEqual([4096, 4096, 8192]);
  expect(pool.take(1)).toBeNull();
  for (const buffer of small) pool.give(buffer);
  expect(pool.used).toBe(0);
  expect(small).toContain(pool.take(4096));
  expect(pool.take(0x4000)).toBeNull();
  pool.give(small[0]!);
  const large = pool.take(0x4000)!;
  expect(large.length).toBe(0x4000);
  expect(pool.used).toBe(0x4000);
  expect(pool.take(1)).toBeNull();
  pool.give(large);
  expect(pool.take(1)!.length).toBe(4096);
});
