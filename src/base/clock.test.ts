import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { typescript } from '../../tests/kit/typescript.ts';
import { ManualClock, PausableClock } from './clock.ts';

/** The exit status of a separate process. In this one, other work always wakes the event loop. */
function statusOf(code: string): number | null {
  const text = `import { SystemClock } from ${JSON.stringify(join(import.meta.dirname, 'clock.ts'))}; const clock = new SystemClock(); ${code}`;
  return spawnSync(process.execPath, [...typescript, '--input-type=module', '-e', text], { timeout: 180_000 }).status;
}

it('SystemClock: a delay of 0 ends without another event that wakes the process', () => {
  expect(statusOf('setTimeout(() => process.exit(1), 100_000); clock.after(0, () => process.exit(0));')).toBe(0);
});

it('SystemClock: a delay does not keep a process alive, and a cancelled one does not run', () => {
  expect(statusOf('clock.after(100_000, () => process.exit(1)); clock.after(0, () => process.exit(1))[Symbol.dispose]();')).toBe(0);
});

it('a paused clock keeps the rest of every timer, and its time stands still', () => {
  const inner = new ManualClock();
  const clock = new PausableClock(inner);
  const fired: string[] = [];
  clock.after(30, () => fired.push('b'));
  clock.after(20, () => fired.push('a'));
  const never = clock.after(25, () => fired.push('never'));
  inner.advance(10);
  clock.pause();
  clock.pause();
  clock.after(0, () => fired.push('asked while paused'));
  expect([inner.pendingTimers, clock.paused]).toEqual([0, true]);
  inner.advance(1_000);
  never[Symbol.dispose]();
  expect([fired, clock.nowNs()]).toEqual([[], 10e6]);
  clock.goOn();
  clock.goOn();
  inner.advance(10);
  expect(fired).toEqual(['asked while paused', 'a']);
  inner.advance(10);
  expect([fired, clock.nowNs(), inner.pendingTimers]).toEqual([['asked while paused', 'a', 'b'], 30e6, 0]);
});
