/** A short run of the soak of network cards. */
import { expect, it } from 'vitest';
import { net } from './net.ts';

it('house: frames on a bad wire, and ports that are reset, are all accounted for', async () => {
  expect(await net({ seed: 7 }, 20_000)).toMatch(/all counters add up$/);
}, 120_000);
