import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { BundleFolder } from './bundle.ts';
import { caseResults } from './results.ts';

async function run(entry: string) {
  using folder = new BundleFolder();
  const file = await folder.add(join(import.meta.dirname, entry));
  return spawnSync(process.execPath, [file], { encoding: 'utf8', cwd: '/' });
}

it('a bundle of cases prints each result, and fails when one fails', async () => {
  const { status, stdout, stderr } = await run('runner-cases.ts');
  expect([stderr, status]).toEqual(['', 1]);
  const results = caseResults(stdout);
  expect(results.map(({ title, outcome }) => [title, outcome])).toEqual([
    ['outer > inner > passes', 'passed'],
    ['outer > inner > row 1', 'passed'],
    ['outer > inner > row 2', 'failed'],
    ['outer > skips', 'skipped'],
    ['outer > rejects', 'failed'],
    ['outer > compares bytes', 'passed'],
  ]);
  expect(results[3]!.why).toBe('for this reason');
  expect(results[2]!.why).toContain('is     2\nshould 1');
  expect(stdout.trimEnd().endsWith('after all')).toBe(true);
});
