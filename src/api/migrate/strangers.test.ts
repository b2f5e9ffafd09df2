import { expect, it } from 'vitest';
import { ManualClock } from '../../base/clock.ts';
import { Strangers } from './strangers.ts';

function made(max: number) {
  const clock = new ManualClock();
  const dropped: string[] = [];
  const strangers = new Strangers<string>({ clock, max, timeoutMs: 1000, drop: (name, why) => dropped.push(`${name}: ${why}`) });
  return { clock, dropped, strangers };
}

it('each silent connection has its own time limit, counted from its arrival', () => {
  const { clock, dropped, strangers } = made(4);
  strangers.add('a');
  clock.advance(600);
  strangers.add('b');
  clock.advance(500);
  expect(dropped).toEqual(['a: late']);
  strangers.remove('b');
  clock.advance(5000);
  expect([dropped, strangers.size, clock.pendingTimers]).toEqual([['a: late'], 0, 0]);
});

it('of too many connections the oldest one of the address that has most ends', () => {
  const { dropped, strangers } = made(3);
  strangers.add('holder', 'here');
  for (let i = 0; i < 10; i++) strangers.add(`silent ${i}`, 'there');
  expect([dropped.length, dropped.includes('holder: too many'), strangers.size]).toEqual([8, false, 3]);
  expect(dropped[0]).toBe('silent 0: too many');
});
