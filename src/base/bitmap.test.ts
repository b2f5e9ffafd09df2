import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Bitmap } from './bitmap.ts';
import { Slots } from './slots.ts';

describe('Bitmap', () => {
  test('B.6 dirty pages: bits of any range are found at any offset, and can be cleared', () => {
    const range = fc.record({ first: fc.nat({ max: 70_000 }), length: fc.integer({ min: 1, max: 40_000 }) });
    fc.assert(
      fc.property(fc.array(range, { maxLength: 5 }), range, range, fc.nat({ max: 63 }), (marks, cleared, asked, bitOffset) => {
        const bitmap = new Bitmap();
        const model = new Set<number>();
        for (const { first, length } of marks) {
          bitmap.mark(first, first + length - 1);
          for (let i = first; i < first + length; i++) model.add(i);
        }
        bitmap.clear(cleared.first, cleared.first + cleared.length - 1);
        for (let i = cleared.first; i < cleared.first + cleared.length; i++) model.delete(i);
        const bytes = new Uint8Array(Math.ceil((asked.length + bitOffset) / 8));
        bitmap.orInto(asked.first, asked.first + asked.length - 1, bytes, bitOffset);
        for (let i = 0; i < bytes.length * 8; i++) {
          const inRange = i >= bitOffset && i < bitOffset + asked.length;
          const got = ((bytes[i >> 3] >> (i & 7)) & 1) === 1;
          if (got !== (inRange && model.has(asked.first + i - bitOffset))) throw new Error(`bit ${i}`);
        }
      }),
      { numRuns: 200 },
    );
  });

  test('B.11 DMA_LOGGING report: take reports and clears exactly the bits of a range; next and count walk the bits that are left', () => {
    const range = fc.record({ first: fc.nat({ max: 70_000 }), length: fc.integer({ min: 1, max: 40_000 }) });
    const shift = fc.constantFrom(0, 32768 * 65530, 2 ** 51);
    fc.assert(
      fc.property(fc.array(range, { maxLength: 5 }), range, shift, fc.constantFrom(1, 2, 16), (marks, asked, base, unit) => {
        const bitmap = new Bitmap();
        const model = new Set<number>();
        for (const { first, length } of marks) {
          bitmap.mark(base + first, base + first + length - 1);
          for (let i = first; i < first + length; i++) model.add(i);
        }
        const { first, length } = asked;
        const bytes = new Uint8Array(Math.ceil(length / unit / 8));
        const expected = new Uint8Array(bytes.length);
        for (let i = 0; i < length; i++)
          if (model.delete(first + i)) expected[Math.floor(i / unit) >> 3] |= 1 << (Math.floor(i / unit) & 7);
        bitmap.take(base + first, base + first + length - 1, bytes, 0, unit);
        expect(bytes).toEqual(expected);
        const left = [...model].sort((a, b) => a - b);
        expect(bitmap.countSet(base, base + 120_000)).toBe(left.length);
        let walked = 0;
        for (let at = bitmap.next(base, base + 120_000); at >= 0; at = bitmap.next(at + 1, base + 120_000)) {
          if (at !== base + left[walked++]) throw new Error(`bit ${at - base}`);
        }
        expect(walked).toBe(left.length);
      }),
      { numRuns: 100 },
    );
  });

  test('B.6 dirty pages: one output bit stands for 16 bits, and is set when any of them is', () => {
    const bitmap = new Bitmap();
    bitmap.mark(160, 160);
    bitmap.mark(191, 192);
    const bytes = new Uint8Array(2);
    bitmap.orInto(128, 255, bytes, 0, 16);
    expect([...bytes]).toEqual([0b0001_1100, 0]);
  });

  test('B.6 dirty pages: bits that the output has already stay set', () => {
    const bitmap = new Bitmap();
    bitmap.mark(1, 1);
    const bytes = new Uint8Array([0x81]);
    bitmap.orInto(0, 7, bytes);
    expect(bytes[0]).toBe(0x83);
  });

  test('S2-49 a bit anywhere in 64 bits of address costs one chunk, and clearing frees the chunk', () => {
    const bitmap = new Bitmap();
    bitmap.mark(2 ** 52 - 1, 2 ** 52 - 1);
    bitmap.mark(5, 5);
    expect(bitmap.chunks).toBe(2);
    expect(bitmap.test(2 ** 52 - 1)).toBe(true);
    expect(bitmap.test(2 ** 52 - 2)).toBe(false);
    bitmap.clear(0, 2 ** 52 - 1);
    expect(bitmap.chunks).toBe(0);
    expect(bitmap.test(5)).toBe(false);
  });
});

describe('Slots', () => {
  test('S2-49 hands out each slot once, below the capacity, and shrinks when all slots are free', () => {
    fc.assert(
      fc.property(fc.array(fc.boolean(), { maxLength: 300, size: 'max' }), (steps) => {
        const slots = new Slots();
        const held: number[] = [];
        for (const take of steps) {
          if (take || held.length === 0) {
            const slot = slots.take();
            expect(held).not.toContain(slot);
            expect(slot).toBeLessThan(slots.capacity);
            held.push(slot);
          } else slots.give(held.shift()!);
        }
        expect(slots.used).toBe(held.length);
        for (const slot of held) slots.give(slot);
        expect([slots.used, slots.capacity]).toEqual([0, Slots.initialCapacity]);
      }),
    );
  });
});
