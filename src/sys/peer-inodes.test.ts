import type { BigIntStats, Stats } from 'node:fs';
import { describe, expect, it, vi } from 'vitest';
import { Access } from '../abi/memory.ts';
import { MemfdMemory } from './memfd.ts';
import { PeerFiles } from './peer-files.ts';

/**
 * A filesystem that numbers its files from 2^62 on, as overlayfs and others do that keep something
 * in the high bits.
 */
const HIGH = 2n ** 62n;

vi.mock('node:fs', async (original) => {
  const fs = await original<typeof import('node:fs')>();
  return {
    ...fs,
    fstatSync(fd: number, options?: { readonly bigint?: boolean }): Stats | BigIntStats {
      const stat = fs.fstatSync(fd, options);
      const ino = HIGH + BigInt(stat.ino);
      return Object.assign(stat, { ino: typeof stat.ino === 'bigint' ? ino : Number(ino) });
    },
  };
});

describe('files of a peer', () => {
  it('two whose numbers are too large for a double are two', () => {
    const files = new PeerFiles(2 ** 30);
    using one = MemfdMemory.allocate(0x1000) as MemfdMemory;
    using other = MemfdMemory.allocate(0x1000) as MemfdMemory;
    const first = files.range(one.duplicateFd(), 0, 0x1000, Access.READ_WRITE);
    first.memory.get();
    files.settle();
    const second = files.range(other.duplicateFd(), 0, 0x1000, Access.READ_WRITE);
    second.memory.get();
    expect([second.memory === first.memory, second.file === first.file]).toEqual([false, false]);
    using fd = other.duplicateFd();
    expect(files.identify(fd)).toBe(second.file);
    files.settle();
    for (const { memory } of [first, second]) memory.put();
    files[Symbol.dispose]();
  });
});
