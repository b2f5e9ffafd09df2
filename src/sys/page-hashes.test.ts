import { describe, expect, it } from 'vitest';
import { MemfdMemory } from './memfd.ts';
import { PAGE_BYTES, PageHashes } from './page-hashes.ts';

const marked = (hashes: PageHashes): number[] =>
  Array.from({ length: hashes.pages }, (_, page) => page).filter((page) => ((hashes.changed[page >> 3]! >> (page & 7)) & 1) === 1);

describe('hashes of pages', () => {
  it('finds the pages that differ from zeroes, then those that differ from their copies, in whichever byte', () => {
    const memory = new Uint8Array(64 * PAGE_BYTES);
    const hashes = new PageHashes(memory, PAGE_BYTES, 60);
    expect(hashes.scan(0, 60)).toBe(0);
    memory[PAGE_BYTES] = 1;
    memory[61 * PAGE_BYTES - 1] = 0x80;
    memory[0] = 7; // before the first
    expect(hashes.scan(0, 60)).toBe(2);
    expect(marked(hashes)).toEqual([0, 59]);
    const copy = new Uint8Array(60 * PAGE_BYTES);
    expect(hashes.take(0, 60, copy)).toBe(2);
    expect(Buffer.compare(copy, memory.subarray(PAGE_BYTES, 61 * PAGE_BYTES))).toBe(0);
    hashes.changed.fill(0);
    expect(hashes.scan(0, 60)).toBe(0);
    expect([hashes.isZero(0), hashes.isZero(1)]).toEqual([false, true]);
    for (let byte = 0; byte < PAGE_BYTES; byte += 13) {
      memory[PAGE_BYTES * 6 + byte]! ^= 0x40;
      expect(hashes.scan(0, 60)).toBe(1);
      memory[PAGE_BYTES * 6 + byte]! ^= 0x40;
      expect(hashes.scan(0, 60)).toBe(0);
    }
  });

  it('notices words that changed places, and a page that became zeroes again', () => {
    const memory = new Uint8Array(8 * PAGE_BYTES);
    const words = new Uint32Array(memory.buffer);
    for (let i = 0; i < 1024; i++) words[i] = i;
    const hashes = new PageHashes(memory, 0, 8);
    hashes.take(0, 8, new Uint8Array(8 * PAGE_BYTES));
    for (const [a, b] of [
      [0, 1],
      [0, 2],
      [3, 1000],
      [4, 8],
      [1022, 1023],
    ] as const) {
      [words[a], words[b]] = [words[b]!, words[a]!];
      expect(hashes.scan(0, 8)).toBe(1);
      [words[a], words[b]] = [words[b]!, words[a]!];
    }
    memory.fill(0);
    expect(hashes.scan(0, 8)).toBe(1);
    expect(hashes.take(0, 1, new Uint8Array(PAGE_BYTES))).toBe(0);
    expect(hashes.isZero(0)).toBe(true);
  });

  it('works in several threads as in one', () => {
    const pages = 16_384;
    const memory = new Uint8Array(pages * PAGE_BYTES);
    const wanted = [0, 1, 2047, 2048, 8191, 8192, 8193, 16_383];
    for (const page of wanted) memory[page * PAGE_BYTES + 100] = 1;
    const hashes = new PageHashes(memory, 0, pages);
    expect(hashes.scan(0, pages)).toBe(wanted.length);
    expect(marked(hashes)).toEqual(wanted);
  });

  it('refuses what does not lie in the memory', () => {
    const memory = new Uint8Array(4 * PAGE_BYTES);
    expect(() => new PageHashes(memory, PAGE_BYTES, 4)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    const hashes = new PageHashes(memory, 0, 4);
    expect(() => hashes.scan(0, 5)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => hashes.scan(1, 2)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => hashes.take(0, 2, new Uint8Array(PAGE_BYTES))).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });

  it('memory in a file reports where it has pages', () => {
    using memory = MemfdMemory.allocate(64 * PAGE_BYTES);
    expect(memory.nextData(0)).toBeNull();
    memory.windows[0]!.fill(1, 8 * PAGE_BYTES, 10 * PAGE_BYTES);
    expect(memory.nextData(0)).toEqual({ first: 8 * PAGE_BYTES, end: 10 * PAGE_BYTES });
    expect(memory.nextData(9 * PAGE_BYTES)).toEqual({ first: 9 * PAGE_BYTES, end: 10 * PAGE_BYTES });
    expect(memory.nextData(10 * PAGE_BYTES)).toBeNull();
  });
});
