import fc from 'fast-check';
import { expect, it } from 'vitest';
import { lifecycle, steps, World } from './lifecycle.ts';

it('any sequence, with any step failing, closed in any order: rules hold at each step and nothing is left', () => {
  fc.assert(lifecycle(80), { numRuns: 1500 });
});

it('the reference sees a byte that was changed behind its back', () => {
  const world = new World();
  world.memories[0]!.windows[0]![5] = 1;
  expect(() => world.check()).toThrow('no device may have written');
});

it('the random sequences do enough: devices are opened, DMA lands and is stopped, steps fail', () => {
  const total = { opened: 0, mapped: 0, landed: 0, stopped: 0, failed: 0 };
  for (const sequence of fc.sample(steps(80), { numRuns: 300, seed: 7 })) {
    const world = new World();
    for (const step of sequence) world.run(step);
    for (const key of Object.keys(total) as (keyof typeof total)[]) total[key] += world.seen[key];
  }
  for (const count of Object.values(total)) expect(count).toBeGreaterThan(100);
});
