/** Cases with every outcome, for runner.test.ts. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runCases } from './vitest.ts';

let isReady = false;
beforeAll(() => {
  isReady = true;
});
afterAll(() => console.log('after all'));

describe('outer', () => {
  describe('inner', () => {
    it('passes', () => expect([isReady, new Error('four').message]).toEqual([true, 'four']));
    it.each([1, 2])('row %s', (row) => expect(row).toBe(1));
  });
  it('skips', ({ skip }) => skip('for this reason'));
  it('rejects', async () => {
    await Promise.resolve();
    expect(() => {}).toThrow();
  });
  it('compares bytes', () => expect({ bytes: Uint8Array.of(1, 2), n: 3n }).toMatchObject({ bytes: Uint8Array.of(1, 2) }));
});

await runCases();
