/** Memory in huge pages, where the computer has some. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { openDescriptorsAndFiles } from '../../tests/kit/open-descriptors.ts';
import { addressOf } from './kernel-file.ts';
import { MEMFD_MAX_BYTES, MemfdMemory } from './memfd.ts';

const MIB = 2 ** 20;

function inFile(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return '';
  }
}

/** The line of `word` for the mapping that holds `address`: kB. */
function kilobytes(address: bigint, word: string): number {
  let inside = false;
  for (const line of readFileSync('/proc/self/smaps', 'utf8').split('\n')) {
    const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line) ?? [];
    if (from !== undefined) inside = address >= BigInt(`0x${from}`) && address < BigInt(`0x${to}`);
    if (inside && line.startsWith(`${word}:`)) return Number.parseInt(line.slice(word.length + 1), 10);
  }
  return -1;
}

const free = Number(inFile('/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages'));
const shared = /\[(\w+)\]/.exec(inFile('/sys/kernel/mm/transparent_hugepage/shmem_enabled'))?.[1] ?? 'absent';

describe('house: memory in huge pages', () => {
  it('house: is zeroed memory of at least the size, whatever the computer has', () => {
    for (const size of [1, 4096, MIB, 2 * MIB, 3 * MIB, 64 * MIB]) {
      using memory = MemfdMemory.allocateHuge(size);
      expect(memory.size).toBeGreaterThanOrEqual(size);
      expect(memory.size).toBeLessThanOrEqual(Math.max(4096, size * 1.125));
      expect(memory.size % memory.pageBytes).toBe(0);
      expect(memory.windows[0]!.subarray(0, 4096).every((byte) => byte === 0)).toBe(true);
      memory.windows[0]![size - 1] = 7;
      expect(memory.windows[0]![size - 1]).toBe(7);
    }
  });

  it('house: small memory, and memory that would be rounded up by much, has small pages', () => {
    for (const size of [4096, MIB, 2 * MIB + 4096, 3 * MIB]) {
      using memory = MemfdMemory.allocateHuge(size);
      expect([memory.pageBytes, memory.size]).toEqual([4096, size]);
    }
  });

  it('house: a size that is none, or too large, is refused, and nothing is left', () => {
    const before = openDescriptorsAndFiles();
    for (const size of [0, -1, 0.5, Number.NaN]) {
      expect(() => MemfdMemory.allocateHuge(size)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    }
    expect(() => MemfdMemory.allocateHuge(MEMFD_MAX_BYTES + 1)).toThrow(expect.objectContaining({ code: 'ENOMEM' }));
    MemfdMemory.allocateHuge(2 ** 36)[Symbol.dispose]();
    expect(openDescriptorsAndFiles()).toEqual(before);
  });

  it.skipIf(!(free >= 4))(`house: comes from the pool of huge pages (skipped unless 4 are free: ${free} are)`, () => {
    using memory = MemfdMemory.allocateHuge(4 * MIB - 4096);
    expect([memory.pageBytes, memory.size]).toEqual([2 * MIB, 4 * MIB]);
    expect(addressOf(memory.windows[0]!) % BigInt(2 * MIB)).toBe(0n);
    memory.windows[0]![0] = 1;
    expect(kilobytes(addressOf(memory.windows[0]!), 'KernelPageSize')).toBe(2048);
  });

  it.skipIf(!(free >= 1))(`house: has small pages when the pool has too few (skipped unless 1 is free: ${free} are)`, () => {
    using memory = MemfdMemory.allocateHuge((free + 1) * 2 * MIB);
    expect([memory.pageBytes, memory.size]).toEqual([4096, (free + 1) * 2 * MIB]);
  });

  it.skipIf(!['advise', 'within_size', 'always', 'force'].includes(shared) || free >= 2)(
    `house: Linux makes huge pages of plain memory (skipped unless shmem_enabled allows it: ${shared}; and the pool is empty: ${free} are free)`,
    () => {
      using memory = MemfdMemory.allocateHuge(4 * MIB);
      memory.windows[0]!.fill(1);
      expect(memory.pageBytes).toBe(4096);
      expect(kilobytes(addressOf(memory.windows[0]!), 'ShmemPmdMapped')).toBeGreaterThanOrEqual(2048);
    },
  );
});
