import { expect, it } from 'vitest';
import { Errno } from '../base/errno.ts';
import { MappingLimits } from './limits.ts';

const KIB = 1024;

function watched(limits: MappingLimits) {
  const lines: string[] = [];
  return {
    lines,
    map: (bytes: number, entries = 0) => limits.before(bytes, entries, (about, text) => void lines.push(`${about}: ${text}`)),
  };
}

it('S2-47 warns once when mappings come near RLIMIT_MEMLOCK, before the kernel refuses', () => {
  const limits = new MappingLimits({ maxMaps: null }, () => ({ limit: 100 * KIB, locked: 10 * KIB }));
  const { lines, map } = watched(limits);
  map(70 * KIB);
  limits.mapped(70 * KIB);
  expect(lines).toEqual([]);
  map(12 * KIB);
  limits.mapped(12 * KIB);
  map(4 * KIB);
  expect(lines).toEqual(['memlock: mappings for DMA lock 92 KiB; this process may lock 100 KiB (RLIMIT_MEMLOCK)']);
});

it('S2-47 warns again after mappings have gone', () => {
  const limits = new MappingLimits({ maxMaps: null }, () => ({ limit: 100 * KIB, locked: 0 }));
  const { lines, map } = watched(limits);
  map(95 * KIB);
  map(4 * KIB);
  map(95 * KIB);
  expect(lines).toHaveLength(2);
});

it('S2-47 gives the numbers that would be needed when the kernel has refused', () => {
  const limits = new MappingLimits({ maxMaps: null }, () => ({ limit: 64 * KIB, locked: 0 }));
  limits.before(60 * KIB, 0, () => {});
  limits.mapped(60 * KIB);
  expect(limits.reason(-Errno.ENOMEM, 8 * KIB, 1)).toEqual({
    why: 'the mapping locks 8 KiB more, which makes 68 KiB needed; this process may lock 64 KiB (RLIMIT_MEMLOCK)',
    fix: 'Raise the limit to 69632 bytes (ulimit -l 68, or LimitMEMLOCK=69632 in a systemd unit), or give the process CAP_IPC_LOCK.',
  });
});

it('has no numbers for a lack of memory that is not the limit', () => {
  const limits = new MappingLimits({ maxMaps: null }, () => ({ limit: Number.POSITIVE_INFINITY, locked: 0 }));
  expect(limits.reason(-Errno.ENOMEM, KIB, 0)).toBeNull();
  expect(limits.reason(-Errno.EFAULT, KIB, 0)).toBeNull();
});

it('B.6 dma_entry_limit: warns at nine tenths, and gives the numbers at the end', () => {
  const limits = new MappingLimits({ maxMaps: 100 }, () => ({ limit: Number.POSITIVE_INFINITY, locked: 0 }));
  const { lines, map } = watched(limits);
  map(4096, 88);
  expect(lines).toEqual([]);
  map(4096, 89);
  expect(lines).toEqual(['dma-entry-limit: the container has 90 of at most 100 DMA mappings; 10 are left']);
  expect(limits.reason(-Errno.ENOSPC, 4096, 100)?.why).toBe('the container has 100 DMA mappings, and its limit (dma_entry_limit) is 100');
});
