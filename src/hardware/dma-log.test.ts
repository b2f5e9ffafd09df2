/** DMA logging of a device (B.11), through the device's own file. */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SlowMemory } from '../../tests/kit/dma-rig.ts';
import { errnoFrom } from '../../tests/kit/errno.ts';
import { MigrationSide } from '../../tests/kit/migration-rig.ts';
import { type MovableModel, movable } from '../../tests/kit/movable-model.ts';
import { Access, type DirectMemory } from '../abi/memory.ts';
import { bitmapBytes, Feature } from '../abi/vfio.ts';
import { featureBytes } from '../device/feature-bytes.ts';
import { HeapMemory } from '../sys/fake.ts';
import { DmaLog } from './dma-log.ts';

const PAGE = 4096n;
const PAGES = 64;

/** A device that may do DMA, with memory at `iova`. */
function open(iova = 0x10_0000n, memory: DirectMemory | SlowMemory = HeapMemory.allocate(PAGES * 4096)) {
  const side = new MigrationSide(movable());
  side.device.region(7).write16(4, 6);
  side.device.dma.map({ iova, memory });
  const { dma } = (side.host.model as MovableModel).host;
  const pagesOf = (from: bigint, length: bigint, unit = PAGE): number[] => {
    const bitmap = new Uint8Array(bitmapBytes(length, unit));
    side.migration.report(from, length, bitmap, unit);
    return [...Array(bitmap.length * 8).keys()].filter((i) => ((bitmap[i >> 3]! >> (i & 7)) & 1) === 1);
  };
  return Object.assign(side, { dma, iova, memory, pages: () => pagesOf(iova, BigInt(PAGES) * PAGE), pagesOf });
}

const some = new Uint8Array(100);
const all = (side: { iova: bigint }) => [{ iova: side.iova, length: BigInt(PAGES) * PAGE }];

describe('B.11 DMA_LOGGING_START', () => {
  const start = (ranges: readonly (readonly [bigint, bigint])[], pageSize = PAGE) => {
    using side = open();
    return errnoFrom(() =>
      side.migration.startLogging(
        ranges.map(([iova, length]) => ({ iova, length })),
        pageSize,
      ),
    );
  };

  it('0 ranges EINVAL, more than 256 E2BIG, 256 fine', () => {
    const many = (n: number) => Array.from({ length: n }, (_, i) => [BigInt(i) * 2n * PAGE, PAGE] as const);
    expect([start([]), start(many(257)), start(many(256))]).toEqual(['EINVAL', 'E2BIG', 'none']);
  });

  it('misaligned or overlapping EINVAL, past 2^64 EOVERFLOW, empty EINVAL, less ranges than said EFAULT', () => {
    expect(start([[1n, PAGE]])).toBe('EINVAL');
    expect(start([[0n, 100n]])).toBe('EINVAL');
    expect(start([[PAGE, PAGE]], 8192n)).toBe('EINVAL');
    expect(start([[0n, 0n]])).toBe('EINVAL');
    expect(
      start([
        [0n, 4n * PAGE],
        [3n * PAGE, PAGE],
      ]),
    ).toBe('EINVAL');
    expect(start([[2n ** 64n - PAGE, PAGE]])).toBe('EOVERFLOW');
    expect(start([[2n ** 64n - 2n * PAGE, 2n ** 64n - 2n * PAGE]])).toBe('EOVERFLOW');
    expect(start([[2n ** 64n - 2n * PAGE, PAGE]])).toBe('none');
    using side = open();
    const data = new Uint8Array(24);
    data.set([0, 0x10], 0);
    data[8] = 2;
    const request = { feature: Feature.DMA_LOGGING_START, set: true, data, ranges: new Uint8Array(31).fill(0) };
    new DataView(request.ranges.buffer).setBigUint64(8, PAGE, true);
    expect(errnoFrom(() => featureBytes(side.device, request))).toBe('EFAULT');
    expect(errnoFrom(() => featureBytes(side.device, { feature: Feature.DMA_LOGGING_START, set: true, data }))).toBe('EFAULT');
  });

  it('the page size is a hint: what is used is said; what is none is EINVAL; twice is EINVAL', () => {
    using side = open();
    expect(side.migration.startLogging([{ iova: 0n, length: 2n ** 21n }], 2n ** 21n)).toBe(PAGE);
    expect(errnoFrom(() => side.migration.startLogging(all(side)))).toBe('EINVAL');
    side.migration.stopLogging();
    side.migration.stopLogging();
    expect([start([[0n, PAGE]], 2048n), start([[0n, 3n * PAGE]], 3n * PAGE), start([[0n, PAGE]], 0n)]).toEqual([
      'EINVAL',
      'EINVAL',
      'EINVAL',
    ]);
  });
});

describe('B.11 DMA_LOGGING_REPORT', () => {
  it('a page size that is none EINVAL, past 2^64 EOVERFLOW, before START and after STOP EINVAL, a bitmap too small EFAULT', () => {
    using side = open();
    const report = (iova: bigint, length: bigint, pageSize = PAGE, bytes = 64) =>
      errnoFrom(() => side.migration.report(iova, length, new Uint8Array(bytes), pageSize));
    expect(report(0n, PAGE)).toBe('EINVAL');
    side.migration.startLogging(all(side));
    expect([report(0n, PAGE, 2048n), report(0n, PAGE, 12288n), report(0n, PAGE, 0n), report(0n, 0n), report(1n, PAGE)]).toEqual(
      Array(5).fill('EINVAL'),
    );
    expect([report(2n ** 64n - PAGE, PAGE), report(PAGE, 2n ** 64n - PAGE)]).toEqual(['EOVERFLOW', 'EOVERFLOW']);
    expect([report(0n, 2n ** 63n), report(0n, 65n * PAGE, PAGE, 8)]).toEqual(['EFAULT', 'EFAULT']);
    expect(report(0n, 2n ** 40n, 2n ** 30n, 128)).toBe('none');
    side.migration.stopLogging();
    expect(report(0n, PAGE)).toBe('EINVAL');
  });

  it('reports the writes of the device, sets bits only, and clears the reported pages', () => {
    using side = open();
    side.dma.tryWrite(side.iova, some);
    side.migration.startLogging(all(side));
    expect(side.pages()).toEqual([]);
    side.dma.tryWrite(side.iova + 5n * PAGE, some);
    side.dma.tryWrite(side.iova + 8n * PAGE - 50n, some);
    side.dma.tryRead(side.iova + 20n * PAGE, new Uint8Array(100));
    side.dma.tryWrite(side.iova + 30n * PAGE, new Uint8Array(0));
    side.dma.tryWrite(0x9000_0000n, some);
    const bitmap = new Uint8Array(8).fill(0x80);
    side.migration.report(side.iova, BigInt(PAGES) * PAGE, bitmap);
    expect([...bitmap]).toEqual([0xa0, 0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80]);
    expect(side.pages()).toEqual([]);
    // A write of the CPU is no DMA.
    (side.memory as DirectMemory).windows[0]!.fill(1);
    expect(side.pages()).toEqual([]);
  });

  it('reports part of a range at a time, in pages of any size', () => {
    using side = open();
    side.migration.startLogging(all(side));
    for (const page of [0n, 3n, 17n, 40n]) side.dma.tryWrite(side.iova + page * PAGE, some);
    expect(side.pagesOf(side.iova, 4n * PAGE)).toEqual([0, 3]);
    expect(side.pagesOf(side.iova, 64n * PAGE, 16n * PAGE)).toEqual([1, 2]);
    expect(side.pages()).toEqual([]);
  });

  it('writes of every kind are seen: at once, asynchronous, to remote memory, and through views, also those taken before', async () => {
    using side = open();
    const view = side.dma.view(side.iova, 4096, Access.WRITE)!;
    const epoch = side.dma.epoch;
    side.migration.startLogging(all(side));
    expect(side.dma.epoch).not.toBe(epoch);
    view.fill(1);
    await side.dma.write(side.iova + PAGE, some);
    side.dma.view(side.iova + 2n * PAGE, 8192, Access.READ_WRITE);
    side.dma.view(side.iova + 10n * PAGE, 8192, Access.READ);
    expect(side.pages()).toEqual([1, 2, 3]);
    const then = side.dma.epoch;
    side.dma.view(side.iova + 2n * PAGE, 8192, Access.READ_WRITE);
    expect(side.dma.epoch).toBe(then);
    expect(side.pages()).toEqual([2, 3]);
    expect(side.dma.epoch).not.toBe(then);

    const memory = new SlowMemory(PAGES * 4096);
    using remote = open(0x10_0000n, memory);
    remote.migration.startLogging(all(remote));
    const written = remote.dma.write(remote.iova + 7n * PAGE - 4n, some);
    await new Promise(setImmediate);
    expect(remote.pages()).toEqual([6, 7]);
    await memory.answer();
    await written;
    // Perhaps reported too early, so reported again.
    expect(remote.pages()).toEqual([6, 7]);
  });

  it('a write to remote memory is seen also when it fails, or its mapping goes, after the log was read: it may have landed', async () => {
    for (const end of ['fails', 'is unmapped'] as const) {
      const memory = new SlowMemory(PAGES * 4096);
      using side = open(0x10_0000n, memory);
      side.migration.startLogging(all(side));
      const written = side.dma.write(side.iova + 3n * PAGE, some).catch(() => {});
      expect([end, side.pages(), side.pages()]).toEqual([end, [3], []]);
      if (end === 'fails') await memory.fail(new Error('the connection broke'));
      else {
        side.device.dma.unmap(side.iova, BigInt(PAGES) * PAGE);
        await memory.answer();
      }
      await written;
      expect([end, side.pages()]).toEqual([end, [3]]);
    }
  });

  it('depends neither on the state of migration nor on what the container tracks', () => {
    using side = open();
    const { dirty } = side.device.dma;
    dirty!.start();
    side.migration.startLogging(all(side));
    side.dma.tryWrite(side.iova + PAGE, some);
    expect(side.pages()).toEqual([1]);
    const bitmap = new Uint8Array(8);
    dirty!.report(side.iova, BigInt(PAGES) * PAGE, PAGE, bitmap);
    expect(bitmap[0]).toBe(2);
    side.dma.tryWrite(side.iova + 2n * PAGE, some);
    dirty!.report(side.iova, BigInt(PAGES) * PAGE, PAGE, bitmap);
    dirty!.stop();
    side.migration.go('STOP');
    expect(side.dma.tryWrite(side.iova + 3n * PAGE, some)).toBe(1);
    expect(side.host.dma.lastFault!.reason).toBe('stopped');
    expect(side.pages()).toEqual([2]);
    side.migration.go('RUNNING');
    side.migration.stopLogging();
  });
});

it('B.11 what lies in no range is not noted; pieces of writes that lie in one are', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.nat(40), { minLength: 2, maxLength: 12 }),
      fc.array(fc.tuple(fc.nat(45), fc.integer({ min: 1, max: 12 })), { maxLength: 12 }),
      (cuts, writes) => {
        const sorted = [...cuts].sort((a, b) => a - b);
        const ranges = [];
        for (let i = 0; i + 1 < sorted.length; i += 2) ranges.push({ first: sorted[i]!, last: sorted[i + 1]! - 1 });
        const log = new DmaLog([...ranges].reverse());
        const expected = new Set<number>();
        for (const [first, count] of writes) {
          log.mark(first, first + count - 1);
          for (let page = first; page < first + count; page++) {
            if (ranges.some((range) => page >= range.first && page <= range.last)) expected.add(page);
          }
        }
        const bitmap = new Uint8Array(8);
        log.take(0, 63, 1, bitmap);
        const got = [...Array(64).keys()].filter((i) => ((bitmap[i >> 3]! >> (i & 7)) & 1) === 1);
        expect(got).toEqual([...expected].sort((a, b) => a - b));
      },
    ),
  );
});

it('B.11 no dirty page is missed: whatever a device writes by whatever way, memory that is copied by what is reported is the same', () => {
  const page = fc.nat(PAGES - 1);
  const act = fc.oneof(
    fc.record({ do: fc.constant('write' as const), page, at: fc.nat(4095), size: fc.integer({ min: 1, max: 9000 }) }),
    fc.record({ do: fc.constant('take view' as const), page, pages: fc.integer({ min: 1, max: 4 }) }),
    fc.record({ do: fc.constant('use view' as const), at: fc.nat(20_000) }),
    fc.record({ do: fc.constant('report' as const), page, pages: fc.integer({ min: 1, max: PAGES }) }),
    fc.record({ do: fc.constant('container report' as const) }),
    fc.record({ do: fc.constant('stop and go' as const) }),
  );
  fc.assert(
    fc.property(fc.array(act, { maxLength: 60 }), (acts) => {
      using side = open();
      const memory = (side.memory as DirectMemory).windows[0]!;
      const { dirty } = side.device.dma;
      dirty!.start();
      side.migration.startLogging(all(side));
      const copy = memory.slice();
      let views: { bytes: Uint8Array; epoch: number }[] = [];
      let value = 0;
      const size = (first: number, pages: number) => BigInt(Math.min(pages, PAGES - first)) * PAGE;
      const take = (first: number, pages: number) => {
        for (const at of side.pagesOf(side.iova + BigInt(first) * PAGE, size(first, pages))) {
          const from = (first + at) * 4096;
          copy.set(memory.subarray(from, from + 4096), from);
        }
      };
      for (const each of acts) {
        value = (value % 255) + 1;
        if (each.do === 'write') {
          const at = each.page * 4096 + each.at;
          const bytes = new Uint8Array(Math.min(each.size, memory.length - at)).fill(value);
          side.dma.tryWrite(side.iova + BigInt(at), bytes);
        } else if (each.do === 'take view') {
          const bytes = side.dma.view(side.iova + BigInt(each.page) * PAGE, Number(size(each.page, each.pages)), Access.WRITE);
          if (bytes !== null) views.push({ bytes, epoch: side.dma.epoch });
        } else if (each.do === 'use view') {
          // As a model does it: a view is valid while the epoch is the same.
          views = views.filter(({ epoch }) => epoch === side.dma.epoch);
          for (const { bytes } of views) bytes[each.at % bytes.length] = value;
        } else if (each.do === 'report') take(each.page, each.pages);
        else if (each.do === 'container report') dirty!.report(side.iova, BigInt(PAGES) * PAGE, PAGE, new Uint8Array(8));
        else {
          side.migration.go('STOP');
          side.migration.go('RUNNING');
        }
      }
      take(0, PAGES);
      expect(Buffer.compare(copy, memory)).toBe(0);
    }),
    { numRuns: 200 },
  );
});
