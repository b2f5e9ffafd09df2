/**
 * Where a `Device` answers the calls of the conformance cases differently from the engine, with the
 * reason and who is right. docs/kernel-differences.md has the same rows for people.
 */
import type { Difference } from './answers.ts';

/** A way to a device, which is compared with the engine's own device file. */
export type Way = 'socket' | 'virtual group' | 'virtual cdev' | 'real group' | 'real cdev';

interface KnownDifference {
  readonly ways: readonly Way[];
  /** Matches the whole call, as `Difference.call` has it. */
  readonly call: RegExp;
  /** Matches the whole answer. */
  readonly answer: RegExp;
  readonly right: 'both' | 'the engine' | 'the kernel';
  readonly why: string;
}

export const knownDifferences: readonly KnownDifference[] = [
  {
    ways: ['socket'],
    call: /dma\.ranges/,
    answer: /\[\{ first: 0x0n, last: 0xf{16}n \}\]/,
    right: 'both',
    why: 'vfio-user has no message for the ranges of an IOMMU: a server refuses what it cannot map.',
  },
  {
    ways: ['socket'],
    call: /dma\.map\(\{ iova: 0x1000000000000n, .*/,
    answer: /dma\.map\(\{ iova: 0x10000000000000000n, .*\}\): EINVAL/,
    right: 'both',
    why: 'The case maps past the last range, which another way has elsewhere.',
  },
  {
    ways: ['virtual cdev', 'real cdev'],
    call: /dma\.pageSizes/,
    answer: /0x1000n/,
    right: 'both',
    why: 'iommufd reports the alignment of addresses only, type1 every page size of the IOMMU.',
  },
  {
    ways: ['virtual cdev', 'real cdev'],
    call: /dma\.available/,
    answer: /0xfffffff[c-f]/,
    right: 'both',
    why: 'iommufd has no limit on mappings; type1 has dma_entry_limit.',
  },
  {
    ways: ['real group', 'real cdev'],
    call: /region\(0\)\.read\(1, 3 bytes\)/,
    answer: /3, bytes 000000/,
    right: 'both',
    why: "The bus of QEMU reads 0 where edu takes no access of that width; hardware, and so the package's edu, reads all ones.",
  },
  {
    ways: ['real group', 'real cdev'],
    call: /feature\(\{ feature: [126789], probe: true, .*/,
    answer: /ENOTTY/,
    right: 'both',
    why: "QEMU's edu cannot be moved and keeps no log of its writes; the package's edu does both.",
  },
];

/** The differences of a way that no row explains. */
export function unexplained(way: Way, found: readonly Difference[]): Difference[] {
  const whole = (pattern: RegExp, text: string) => pattern.exec(text)?.[0] === text;
  return found.filter(
    ({ call, answer }) => !knownDifferences.some((row) => row.ways.includes(way) && whole(row.call, call) && whole(row.answer, answer)),
  );
}
