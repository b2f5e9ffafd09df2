import fc from 'fast-check';
import { expect, it } from 'vitest';
import { steps } from './lifecycle.ts';
import { SharedWorld, sharing } from './sharing.ts';

it('VFs, tokens, mediators, machines and migration together, with any step failing, closed in any order: counts hold at each step and nothing is left', async () => {
  await fc.assert(sharing(120), { numRuns: 600 });
});

it('the random sequences do enough', async () => {
  const total = new SharedWorld().seen;
  for (const sequence of fc.sample(steps(120), { numRuns: 200, seed: 7 })) {
    const world = new SharedWorld();
    for (const step of sequence) world.run(step);
    for (const key of Object.keys(total) as (keyof typeof total)[]) total[key] += world.seen[key];
    await world.end(1);
  }
  expect(Object.entries(total).filter(([, count]) => count <= 50)).toEqual([]);
});
