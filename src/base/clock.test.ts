import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { typescript } from '../../tests/kit/typescript.ts';

/** The status that a process of its own ends with: here something always wakes the event loop. */
function statusOf(code: string): number | null {
  const text = `import { SystemClock } from ${JSON.stringify(join(import.meta.dirname, 'clock.ts'))}; const clock = new SystemClock(); ${code}`;
  return spawnSync(process.execPath, [...typescript, '--input-type=module', '-e', text], { timeout: 180_000 }).status;
}

it('SystemClock: a delay of 0 is over before anything else has to wake a process that sleeps', () => {
  expect(statusOf('setTimeout(() => process.exit(1), 100_000); clock.after(0, () => process.exit(0));')).toBe(0);
});

it('SystemClock: a process does not stay for a delay, nor for one that was cancelled', () => {
  expect(statusOf('clock.after(100_000, () => process.exit(1)); clock.after(0, () => process.exit(1))[Symbol.dispose]();')).toBe(0);
});
