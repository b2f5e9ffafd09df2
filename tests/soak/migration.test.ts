import { expect, it } from 'vitest';
import { migration } from './migration.ts';

it('S0-19 a disk at work is moved back and forth over links that are cut', async () => {
  expect(await migration({ seed: 1 }, 6)).toContain('a disk moved 6 times');
});
