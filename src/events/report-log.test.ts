import { describe, expect, it } from 'vitest';
import { ManualClock } from '../base/clock.ts';
import { EventStream } from './stream.ts';

function make() {
  const clock = new ManualClock();
  const lines: string[] = [];
  const stream = new EventStream({ clock, log: { log: (level, message) => lines.push(`${level}: ${message}`) } });
  return { clock, lines, stream, source: stream.source('0000:00:04.0') };
}

describe('S2-47 a flood of like events', () => {
  it('is one line in an interval, with the count of the others at its end', () => {
    const { clock, lines, source } = make();
    for (let i = 0; i < 10_000; i++) source.note('warn', 'rlimit', 'over the limit');
    expect(lines).toEqual(['warn: over the limit']);
    clock.advance(5000);
    expect(lines[1]).toBe('warn: over the limit (9999 more since)');
    clock.advance(100_000);
    expect([lines.length, clock.pendingTimers]).toEqual([2, 0]);
  });

  it('gets longer intervals while it goes on, up to a minute, and short ones after a pause', () => {
    const { clock, lines, source } = make();
    const at: number[] = [];
    for (let second = 0; second < 300; second++) {
      source.note('warn', 'x', 'full');
      if (lines.length > at.length) at.push(second);
      clock.advance(1000);
    }
    expect(at.slice(0, 6)).toEqual([0, 5, 15, 35, 75, 135]);
    clock.advance(200_000);
    lines.length = 0;
    source.note('warn', 'x', 'full');
    source.note('warn', 'x', 'full');
    clock.advance(5000);
    expect(lines).toEqual(['warn: full', 'warn: full (1 more since)']);
  });

  it('of things that are all different ends with a bounded number of lines, and still a count', () => {
    const { clock, lines, source } = make();
    for (let i = 0; i < 100_000; i++) source.note('warn', `about ${i}`, `text ${i}`);
    expect(lines.length).toBeLessThan(300);
    clock.advance(5000);
    const more = lines.map((line) => Number(/\((\d+) more since\)$/.exec(line)?.[1] ?? 1));
    expect(more.reduce((sum, count) => sum + count, 0)).toBe(100_000);
    clock.advance(60_000);
    lines.length = 0;
    for (let i = 0; i < 100; i++) source.note('warn', `later ${i}`, 'text');
    expect(lines.length).toBe(100);
  });

  it('of long texts keeps, and writes, the beginning of each', () => {
    const { lines, source } = make();
    source.note('warn', 'x'.repeat(10 ** 6), 'y'.repeat(10 ** 6));
    expect(lines).toEqual([`warn: ${'y'.repeat(16_384)}…`]);
  });

  it('of a kind with fields that make it alike: another reason is written at once', () => {
    const { lines, source } = make();
    for (const reason of ['not-mapped', 'not-mapped', 'permission', 'not-mapped'] as const) {
      source.emit('dma-refused', { op: 'read', iova: 0x1000n, reason, count: source.count(reason) });
    }
    expect(lines).toEqual([
      'warn: 0000:00:04.0: DMA read at 0x1000 did not land: not-mapped (1 so far)',
      'warn: 0000:00:04.0: DMA read at 0x1000 did not land: permission (1 so far)',
    ]);
    expect([source.counted('not-mapped'), source.counted('permission')]).toEqual([3, 1]);
  });

  it('does not swallow the event of another device', () => {
    const { lines, stream, source } = make();
    for (const each of [source, stream.source('0000:00:05.0')]) each.emit('error', { severity: 'fatal', sent: true });
    expect(lines).toHaveLength(2);
  });

  it('notes that differ in a number only are different', () => {
    const { lines, source } = make();
    for (const queue of [1, 2, 1]) source.note('warn', 'queues', `queue ${queue} is full`);
    expect(lines).toEqual(['warn: queue 1 is full', 'warn: queue 2 is full']);
  });

  it('errors that differ in their stack only are alike', () => {
    const { lines, source } = make();
    source.note('error', 'read', 'Error: no\n    at one.ts:1:1');
    source.note('error', 'read', 'Error: no\n    at one.ts:2:2');
    expect(lines).toHaveLength(1);
  });
});

describe('S0-08 text from a peer', () => {
  it('makes no flood: a few texts about one thing, then one line for all others', () => {
    const { clock, lines, source } = make();
    for (let i = 0; i < 1000; i++) source.note('warn', 'x', `it said ${i}`);
    expect(lines).toHaveLength(9);
    clock.advance(5000);
    expect(lines[9]).toMatch(/ \(991 more since\)$/);
    clock.advance(20_000);
    source.note('warn', 'x', 'something else');
    expect(lines.slice(10)).toEqual(['warn: something else']);
  });
});

it('dispose writes the counts, and leaves no timer', () => {
  const { clock, lines, stream, source } = make();
  for (let i = 0; i < 3; i++) source.note('error', 'x', 'a call');
  stream[Symbol.dispose]();
  stream[Symbol.dispose]();
  expect(lines).toEqual(['error: a call', 'error: a call (2 more since)']);
  expect(clock.pendingTimers).toBe(0);
});
