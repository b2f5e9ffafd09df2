import { describe, expect, it } from 'vitest';
import { Slabs } from './slabs.ts';

const BYTES = 64;

const piece = (slabs: Slabs, number: number) => slabs.slab(number).subarray(slabs.offset(number), slabs.offset(number) + BYTES);

describe('Slabs', () => {
  it('gives pieces that are zeroed and do not overlap, whatever was given back in between', () => {
    const slabs = new Slabs(BYTES);
    const held = new Map<number, number>();
    let state = 1;
    for (let i = 0; i < 20_000; i++) {
      state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
      // Phases that fill and phases that empty.
      if (state >>> 28 < (i % 2000 < 1000 ? 11 : 4)) {
        const number = slabs.take();
        expect(held.has(number)).toBe(false);
        expect(piece(slabs, number).every((byte) => byte === 0)).toBe(true);
        held.set(number, (i % 255) + 1);
        piece(slabs, number).fill((i % 255) + 1);
      } else if (held.size > 0) {
        const number = [...held.keys()][state % held.size]!;
        const value = held.get(number)!;
        expect(piece(slabs, number).every((byte) => byte === value)).toBe(true);
        held.delete(number);
        slabs.give(number);
      }
    }
    for (const [number, value] of held) expect(piece(slabs, number).every((byte) => byte === value)).toBe(true);
  });

  it('takes the room of pieces that were given back before more memory', () => {
    const slabs = new Slabs(BYTES);
    const numbers = Array.from({ length: 40 }, () => slabs.take());
    for (const number of [3, 17, 39]) slabs.give(numbers[number]!);
    const again = [slabs.take(), slabs.take(), slabs.take()];
    expect(Math.max(...again)).toBeLessThan(48);
  });

  it('frees a slab without pieces, and uses its number again', () => {
    const slabs = new Slabs(BYTES);
    for (let round = 0; round < 100; round++) {
      const numbers = Array.from({ length: 32 }, () => slabs.take());
      expect(Math.max(...numbers)).toBe(31);
      for (const number of numbers) slabs.give(number);
      expect(slabs.slab(0)).toBe(undefined);
      expect(slabs.slab(16)).toBe(undefined);
    }
  });

  it('has nothing after clear, and begins anew', () => {
    const slabs = new Slabs(BYTES);
    piece(slabs, slabs.take()).fill(1);
    slabs.clear();
    const number = slabs.take();
    expect([number, piece(slabs, number).every((byte) => byte === 0)]).toEqual([0, true]);
  });
});
