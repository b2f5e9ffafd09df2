import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { IntervalMap } from './interval-map.ts';

const TOP = 2 ** 52;

describe('IntervalMap', () => {
  test('S2-49 finds each of 65535 intervals, their gaps, and nothing else', () => {
    const map = new IntervalMap();
    for (let i = 0; i < 65535; i++) assert.equal(map.insert(4 * i, 4 * i + 1, i), true);
    for (let i = 0; i < 65535; i += 7) {
      const found = [map.find(4 * i), map.find(4 * i + 1), map.find(4 * i + 2), map.foundFirst, map.foundLast];
      assert.deepEqual(found, [i, i, -1, 4 * i, 4 * i + 1]);
    }
    expect(map.find(4 * 65535)).toBe(-1);
  });

  test('S2-03 refuses an interval that overlaps at either end, inside or around, and changes nothing', () => {
    const map = new IntervalMap();
    map.insert(100, 199, 1);
    for (const [first, last] of [
      [50, 100],
      [199, 300],
      [120, 130],
      [50, 300],
      [100, 199],
    ])
      expect(map.insert(first, last, 2)).toBe(false);
    expect(map.size).toBe(1);
    expect(map.insert(200, 300, 2)).toBe(true);
    expect(map.insert(50, 99, 3)).toBe(true);
  });

  test('B.6 UNMAP the top page of the 64-bit space is a key like any other', () => {
    const map = new IntervalMap();
    expect(map.insert(TOP - 1, TOP - 1, 9)).toBe(true);
    expect(map.find(TOP - 1)).toBe(9);
    expect(map.find(TOP)).toBe(-1);
    expect(map.seek(0)).toBe(9);
    expect(map.remove(TOP - 1)).toBe(9);
    expect(map.size).toBe(0);
  });

  test('B.6 UNMAP a walk may remove the interval that it stands on', () => {
    const map = new IntervalMap();
    for (let i = 0; i < 1000; i++) map.insert(10 * i, 10 * i + 4, i);
    let walked = 0;
    for (let slot = map.seek(2000); slot >= 0 && map.foundFirst <= 4999; ) {
      const next = map.foundLast + 1;
      expect(map.remove(map.foundFirst)).toBe(200 + walked++);
      slot = map.seek(next);
    }
    expect(walked).toBe(300);
    expect(map.size).toBe(700);
    expect(map.overlaps(2000, 4999)).toBe(false);
  });

  test('S2-49 behaves as a plain list does, for any order of inserts and removes', () => {
    const key = fc.nat({ max: 4000 });
    const step = fc.oneof(
      { weight: 6, arbitrary: fc.record({ op: fc.constant('insert' as const), at: key, length: fc.integer({ min: 1, max: 3 }) }) },
      { weight: 3, arbitrary: fc.record({ op: fc.constant('remove' as const), at: key, length: fc.constant(0) }) },
      { weight: 1, arbitrary: fc.record({ op: fc.constant('removeRange' as const), at: key, length: fc.nat({ max: 800 }) }) },
    );
    fc.assert(
      fc.property(fc.array(step, { size: 'max', maxLength: 1500 }), fc.integer(), (steps, seed) => {
        const map = new IntervalMap();
        const model = new Map<number, { last: number; slot: number }>();
        const owner = new Int32Array(5000).fill(-1);
        // A deterministic pre-fill makes blocks split and join.
        let x = seed >>> 0;
        for (let i = 0; i < 900; i++) {
          x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
          const at = x % 4000;
          const free = owner[at] < 0;
          assert.equal(map.insert(at, at, i), free);
          if (free) {
            model.set(at, { last: at, slot: i });
            owner[at] = at;
          }
        }
        steps.forEach(({ op, at, length }, slot) => {
          if (op === 'insert') {
            const last = at + length - 1;
            const free = owner.subarray(at, last + 1).every((o) => o < 0);
            assert.equal(map.insert(at, last, slot), free);
            if (free) {
              model.set(at, { last, slot });
              owner.fill(at, at, last + 1);
            }
          } else if (op === 'remove') {
            const had = model.get(at);
            assert.equal(map.remove(at), had?.slot ?? -1);
            if (had !== undefined) owner.fill(-1, at, had.last + 1);
            model.delete(at);
          } else {
            for (let s = map.seek(at); s >= 0 && map.foundFirst <= at + length; ) {
              const first = map.foundFirst;
              const next = map.foundLast + 1;
              map.remove(first);
              owner.fill(-1, first, model.get(first)!.last + 1);
              model.delete(first);
              s = map.seek(next);
            }
          }
        });
        expect(map.size).toBe(model.size);
        for (let point = 0; point < 4010; point++) {
          const first = owner[point];
          if (map.find(point) !== (first < 0 ? -1 : model.get(first)!.slot)) throw new Error(`find(${point})`);
        }
        const walked: number[] = [];
        for (let s = map.seek(0); s >= 0; s = map.seek(map.foundLast + 1)) walked.push(map.foundFirst);
        expect(walked).toEqual([...model.keys()].sort((a, b) => a - b));
      }),
      { numRuns: 150 },
    );
  });
});
