/** Address spaces as Linux 7.3 answers them (kernel-answers/linux-7.3/iommufd-ioas.txt). */
import { describe, expect, it } from 'vitest';
import { answersOf, iommufdOptions, isolated } from '../../../tests/kit/iommufd.ts';
import { HeapMemory } from '../../sys/fake.ts';
import { Process } from '../dma/process.ts';
import { Iommufd } from './iommufd.ts';
import { IommufdDevice } from './iommufd-device.ts';

const PAGE = 4096n;
const ALL = 2n ** 64n - 1n;
const [FIXED, W, R] = [1, 2, 4];
const RW = FIXED | W | R;

/** An iommufd with the device as object 1, address spaces `a` (attached) and `b`. */
function setUp() {
  const iommufd = new Iommufd(iommufdOptions());
  const process = Process.root({ allocate: HeapMemory.allocate });
  const m = process.addressSpace.anonymous(64 * 4096);
  const device = IommufdDevice.bind(iommufd, '0000:00:04.0', isolated(2));
  const a = iommufd.allocIoas();
  const b = iommufd.allocIoas();
  device.attach(a);
  const map = (ioas: number, flags: number, vaddr: bigint, length: bigint, iova: bigint) => () =>
    iommufd.map({ ioas, process, flags, source: { kind: 'address', vaddr }, length, iova });
  const unmap = (ioas: number, iova: bigint, length: bigint) => () => iommufd.unmap(ioas, iova, length);
  const copy = (destination: number, destinationIova: bigint, source: number, sourceIova: bigint, length: bigint, flags: number) => () =>
    iommufd.copy({ flags, destination, source, length, destinationIova, sourceIova });
  return { iommufd, process, m, device, a, b, map, unmap, copy };
}

describe('B.5 IOAS', () => {
  it('has all addresses before a device is attached, and those of its IOMMU afterwards', () => {
    const { iommufd, device, a, b } = setUp();
    expect([device.id, a, b, device.hwpt?.ioas === iommufd.ioas(a)]).toEqual([1, 2, 3, true]);
    expect(iommufd.ranges(b)).toEqual({ ranges: [{ first: 0n, last: ALL }], alignment: 1n });
    expect(iommufd.ranges(a)).toEqual({
      ranges: [
        { first: 0n, last: 0xfedf_ffffn },
        { first: 0xfef0_0000n, last: 0xffff_ffff_ffffn },
      ],
      alignment: PAGE,
    });
  });

  it('checks a mapping in the order of Linux', () => {
    const { a, b, m, map } = setUp();
    expect(
      answersOf({
        'flag 0x10': map(a, 0x17, m, PAGE, 0x10_0000n),
        'flags 0': map(a, 0, m, PAGE, 0x10_0000n),
        'FIXED only': map(a, FIXED, m, PAGE, 0x10_0000n),
        'len 0': map(a, RW, m, 0n, 0x10_0000n),
        'len ~0': map(a, RW, m, ALL, 0x10_0000n),
        'iova ~0': map(a, RW, m, PAGE, ALL),
        'iova -4096 len 4096': map(a, RW, m, PAGE, 2n ** 64n - PAGE),
        'iova -4096 len 8192': map(a, RW, m, 2n * PAGE, 2n ** 64n - PAGE),
        'va wraps': map(a, RW, 2n ** 64n - PAGE, 2n * PAGE, 0x10_0000n),
        'va kernel half': map(a, RW, 2n ** 47n, PAGE, 0x10_0000n),
        'va+1': map(a, RW, m + 1n, PAGE, 0x10_0000n),
        'va+16 iova+16': map(a, RW, m + 16n, PAGE - 16n, 0x10_0010n),
        'len 100': map(a, RW, m, 100n, 0x10_0000n),
        'ioas 999': map(999, RW, m, PAGE, 0x10_0000n),
        'ioas = device id': map(1, RW, m, PAGE, 0x10_0000n),
        'va not mapped': map(a, RW, 0x1_0000n, PAGE, 0x10_0000n),
        'va not mapped, no device': map(b, RW, 0x1_0000n, PAGE, 0x10_0000n),
        'MSI window': map(a, RW, m, PAGE, 0xfee0_0000n),
        'straddles the MSI window': map(a, RW, m, 2n * PAGE, 0xfedf_f000n),
        'above 48 bits': map(a, RW, m, PAGE, 2n ** 48n),
        '1<<60, no device': map(b, RW, m, PAGE, 2n ** 60n),
      }),
    ).toEqual({
      'flag 0x10': 'EOPNOTSUPP',
      'flags 0': 'EINVAL',
      'FIXED only': 'EINVAL',
      'len 0': 'EINVAL',
      'len ~0': 'EOVERFLOW',
      'iova ~0': 'EOVERFLOW',
      'iova -4096 len 4096': 'EINVAL',
      'iova -4096 len 8192': 'EOVERFLOW',
      'va wraps': 'EOVERFLOW',
      'va kernel half': 'EFAULT',
      'va+1': 'EINVAL',
      'va+16 iova+16': 'EINVAL',
      'len 100': 'EINVAL',
      'ioas 999': 'ENOENT',
      'ioas = device id': 'ENOENT',
      'va not mapped': 'EFAULT',
      'va not mapped, no device': '0x100000',
      'MSI window': 'EINVAL',
      'straddles the MSI window': 'EINVAL',
      'above 48 bits': 'EINVAL',
      '1<<60, no device': '0x1000000000000000',
    });
  });

  it('unmaps whole mappings only', () => {
    const { a, m, map, unmap } = setUp();
    expect(
      answersOf({
        '4 pages': map(a, RW, m, 4n * PAGE, 0x10_0000n),
        same: map(a, RW, m, 4n * PAGE, 0x10_0000n),
        'last page': map(a, RW, m, PAGE, 0x10_3000n),
        adjacent: map(a, RW, m + 4n * PAGE, 4n * PAGE, 0x10_4000n),
        'first page of 4': unmap(a, 0x10_0000n, PAGE),
        'middle page': unmap(a, 0x10_1000n, PAGE),
        'spans both, cuts both': unmap(a, 0x10_2000n, 4n * PAGE),
        'nothing there': unmap(a, 0x90_0000n, PAGE),
        'len 0': unmap(a, 0x10_0000n, 0n),
        both: unmap(a, 0x10_0000n, 8n * PAGE),
        'both again': unmap(a, 0x10_0000n, 8n * PAGE),
        'all, empty': unmap(a, 0n, ALL),
        'iova 1 len ~0': unmap(a, 1n, ALL),
        'ioas 999': unmap(999, 0n, ALL),
      }),
    ).toEqual({
      '4 pages': '0x100000',
      same: 'EEXIST',
      'last page': 'EEXIST',
      adjacent: '0x104000',
      'first page of 4': 'ENOENT',
      'middle page': 'ENOENT',
      'spans both, cuts both': 'ENOENT',
      'nothing there': 'ENOENT',
      'len 0': 'EINVAL',
      both: '0x8000',
      'both again': 'ENOENT',
      'all, empty': '0x0',
      'iova 1 len ~0': 'EOVERFLOW',
      'ioas 999': 'ENOENT',
    });
  });

  it('picks addresses among those that are allowed', () => {
    const { iommufd, a, m, map } = setUp();
    const allow =
      (...ranges: readonly [bigint, bigint][]) =>
      () =>
        iommufd.ioas(a).allow(ranges.map(([first, last]) => ({ first, last })));
    expect(
      answersOf({
        'pick 1 page': map(a, W | R, m, PAGE, 0x77_7000n),
        'pick 1 page more': map(a, W | R, m, PAGE, 0n),
        'allow two ranges': allow([0x10_0000n, 0x1f_ffffn], [0x40_0000n, 0x7f_ffffn]),
        'pick in them': map(a, W | R, m, PAGE, 0n),
        'pick 5 MiB': map(a, W | R, m, 0x50_0000n, 0n),
        'fixed outside': map(a, RW, m, PAGE, 0x90_0000n),
        'allow reversed': allow([0x2000n, 0x1000n]),
        'allow one address': allow([0x1000n, 0x1000n]),
        'allow overlapping': allow([0x1000n, 0x5fffn], [0x5000n, 0x8fffn]),
        'allow the MSI window': allow([0xfee0_0000n, 0xfeef_ffffn]),
      }),
    ).toEqual({
      'pick 1 page': '0x1000',
      'pick 1 page more': '0x2000',
      'allow two ranges': 'undefined',
      'pick in them': '0x100000',
      'pick 5 MiB': 'ENOSPC',
      'fixed outside': '0x900000',
      'allow reversed': 'EINVAL',
      'allow one address': 'EINVAL',
      'allow overlapping': 'EINVAL',
      'allow the MSI window': 'EADDRINUSE',
    });
  });

  it('copies what is mapped elsewhere, down to the byte where no device asks for pages', () => {
    const { iommufd, process, a, b, m, map, unmap, copy } = setUp();
    expect(
      answersOf({
        '8 pages in a': map(a, RW, m, 8n * PAGE, 0x10_0000n),
        'a->b whole': copy(b, 0x50_0000n, a, 0x10_0000n, 8n * PAGE, RW),
        again: copy(b, 0x50_0000n, a, 0x10_0000n, 8n * PAGE, RW),
        '32 bytes unaligned, dst aligned': copy(b, 0x70_0000n, a, 0x10_1010n, 32n, RW),
        '32 bytes, kernel picks': copy(b, 0n, a, 0x10_1010n, 32n, W | R),
        'past the end': copy(b, 0x80_0000n, a, 0x10_7000n, 2n * PAGE, RW),
        'len 0': copy(b, 0x80_0000n, a, 0x10_0000n, 0n, RW),
        'dst MSI window': copy(a, 0xfee0_0000n, a, 0x10_0000n, PAGE, RW),
        'read-only page': map(a, FIXED | R, m, PAGE, 0x30_0000n),
        'copied for writing': copy(b, 0x90_0000n, a, 0x30_0000n, PAGE, RW),
        'source unmapped': unmap(a, 0x10_0000n, 8n * PAGE),
        'copied back from b': copy(a, 0x10_0000n, b, 0x50_0000n, 8n * PAGE, RW),
      }),
    ).toEqual({
      '8 pages in a': '0x100000',
      'a->b whole': '0x500000',
      again: 'EEXIST',
      '32 bytes unaligned, dst aligned': '0x700000',
      '32 bytes, kernel picks': '0x1010',
      'past the end': 'ENOENT',
      'len 0': 'EINVAL',
      'dst MSI window': 'EINVAL',
      'read-only page': '0x300000',
      'copied for writing': 'EPERM',
      'source unmapped': '0x8000',
      'copied back from b': '0x100000',
    });
    // Copies share the pages, which keep their memory when the process unmaps it.
    process.addressSpace.unmap(m);
    const { domain } = [...iommufd.objects.ofKind('hwpt')][0]!;
    expect(domain.size).toBe(2);
  });

  it('refuses a device whose windows are mapped, and memory that is not there', () => {
    const { iommufd, process, device, b, m, map, unmap } = setUp();
    const c = iommufd.allocIoas();
    map(c, RW, m, PAGE, 0xfee0_0000n)();
    map(b, RW, m, PAGE, 0x20_0000n)();
    process.addressSpace.unmap(m);
    expect(
      answersOf({
        'a mapping in the MSI window': () => device.attach(c),
        'memory that was unmapped': () => device.attach(b),
        'b emptied': unmap(b, 0n, ALL),
        'b again': () => device.attach(b),
      }),
    ).toEqual({
      'a mapping in the MSI window': 'EADDRINUSE',
      'memory that was unmapped': 'EFAULT',
      'b emptied': '0x1000',
      'b again': '6',
    });
  });
});
