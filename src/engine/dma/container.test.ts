import { describe, expect, test } from 'vitest';
import { testContainer, testContext, testGroup } from '../../../tests/kit/dma-rig.ts';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import { HeapMemory } from '../../sys/fake.ts';
import { Container } from './container.ts';
import { ContainerDmaSpace } from './container-dma-space.ts';
import { Process } from './process.ts';

const PAGE = 4096n;
const RW = 3;

function setUp() {
  const context = testContext();
  const process = Process.root({ allocate: context.allocate });
  const vaddr = process.addressSpace.anonymous(64 * 4096);
  return { context, process, vaddr };
}

const extensions = (container: Container) => Array.from({ length: 14 }, (_, n) => container.checkExtension(n));

describe('Container', () => {
  test('B.3 CHECK_EXTENSION answers what a kernel answered, before and after SET_IOMMU', () => {
    const { context } = setUp();
    const container = new Container(context);
    const before = [0, 1, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    expect(extensions(container)).toEqual(before);
    const group = testGroup(1);
    container.attachGroup(group);
    expect(extensions(container)).toEqual(before);
    container.setIommu(3);
    expect(extensions(container)).toEqual([0, 1, 0, 1, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0]);
    container.detachGroup(group);
    expect(extensions(container)).toEqual(before);
    for (const odd of [Number.NaN, -1, 2 ** 53, 1.5]) expect(container.checkExtension(odd)).toBe(0);
  });

  test('B.3 CHECK_EXTENSION DMA_CC holds when every domain blocks no-snoop', () => {
    const { context } = setUp();
    const container = testContainer(context, [testGroup(1, { enforcesCoherency: true })]);
    expect(container.checkExtension(4)).toBe(1);
    container.attachGroup(testGroup(2));
    expect(container.domains).toHaveLength(2);
    expect(container.checkExtension(4)).toBe(0);
  });

  test('B.3 SET_IOMMU errnos', () => {
    const { context } = setUp();
    const container = new Container(context);
    expect(errnoFrom(() => container.setIommu(1))).toBe('EINVAL');
    expect(errnoFrom(() => container.setIommu(99))).toBe('EINVAL');
    container.attachGroup(testGroup(1));
    for (const type of [99, 8, 2, 4, 5, 6, 7, 10, 0, -1, Number.NaN, 2 ** 53])
      expect(errnoFrom(() => container.setIommu(type))).toBe('ENODEV');
    expect(errnoFrom(() => container.setIommu(9))).toBe('EINVAL');
    expect(container.iommuType).toBe(null);
    container.setIommu(3);
    expect(container.iommuType).toBe(3);
    expect(errnoFrom(() => container.setIommu(3))).toBe('EINVAL');
    expect(errnoFrom(() => container.setIommu(99))).toBe('EINVAL');
  });

  test('B.3 SET_IOMMU takes all groups out again when one cannot be attached', () => {
    const { context } = setUp();
    const groups = [testGroup(1), testGroup(2, { unit: {} }), testGroup(3, { isolatedMsi: false })];
    const container = new Container(context);
    for (const group of groups) container.attachGroup(group);
    expect(errnoFrom(() => container.setIommu(3))).toBe('EPERM');
    expect(groups.map((group) => group.domain)).toEqual([null, null, null]);
    expect([container.iommuType, container.groups.length]).toEqual([null, 3]);
    container.detachGroup(groups[2]);
    container.setIommu(3);
    expect(groups.slice(0, 2).every((group) => group.domain !== null)).toBe(true);
  });

  test('B.3 attach and everything else before SET_IOMMU', () => {
    const { context, process, vaddr } = setUp();
    const container = new Container(context);
    const group = testGroup(1);
    container.attachGroup(group);
    expect(errnoFrom(() => container.attachGroup(group))).toBe('EINVAL');
    expect(group.domain).toBe(null);
    expect(errnoFrom(() => container.mapDma({ process, vaddr, iova: 0n, size: PAGE, flags: RW }))).toBe('EINVAL');
    expect(errnoFrom(() => container.unmapDma({ iova: 0n, size: 0n, flags: 2 }))).toBe('EINVAL');
    expect(errnoFrom(() => container.iommuInfo())).toBe('EINVAL');
    expect(errnoFrom(() => container.dirtyPages(1))).toBe('EINVAL');
    expect([...container.mappings()]).toEqual([]);
  });

  test('B.3 last group leaving frees all mappings and sets the container back', () => {
    const { context, process, vaddr } = setUp();
    const one = testGroup(1);
    const two = testGroup(2);
    const container = testContainer(context, [one, two]);
    container.mapDma({ process, vaddr, iova: 0n, size: 4n * PAGE, flags: RW });
    container.dirtyPages(1);
    container.detachGroup(one);
    expect([container.size, process.lockedPages, one.domain]).toEqual([1, 4, null]);
    container.detachGroup(two);
    expect([container.size, process.lockedPages, two.domain, container.iommuType, container.dirtyTracking]).toEqual([
      0,
      0,
      null,
      null,
      false,
    ]);
    expect(context.memories[0].references).toBe(1);
    expect(errnoFrom(() => container.iommuInfo())).toBe('EINVAL');
    container.attachGroup(one);
    container.setIommu(1);
    expect(container.iommuType).toBe(1);
  });

  test('B.3 lifetime: the file may close before the groups leave, and mappings stay until they do', () => {
    const { context, process, vaddr } = setUp();
    const group = testGroup(1);
    const container = testContainer(context, [group]);
    container.mapDma({ process, vaddr, iova: 0n, size: PAGE, flags: RW });
    container.close();
    container.close();
    expect([container.references, process.lockedPages]).toEqual([1, 1]);
    expect(group.domain!.copyIn(0, 0, new Uint8Array([1]))).toBe(0);
    container.detachGroup(group);
    expect([container.references, process.lockedPages]).toEqual([0, 0]);
    expect(errnoFrom(() => container.attachGroup(group))).toBe('EBADF');
    expect(errnoFrom(() => container.get())).toBe('EBADF');
    expect(() => container.put()).toThrow('too many');
  });

  test('S2-04 leaving a container one is not in is EINVAL; leaving takes the domain away at once', () => {
    const { context } = setUp();
    const group = testGroup(1);
    const container = testContainer(context, [group]);
    expect(errnoFrom(() => container.detachGroup(testGroup(2)))).toBe('EINVAL');
    const domain = group.domain;
    expect(domain).not.toBe(null);
    container.detachGroup(group);
    expect(group.domain).toBe(null);
    expect(errnoFrom(() => container.detachGroup(group))).toBe('EINVAL');
  });

  test('S1-05 a group without an IOMMU, or with one that only translates, cannot be attached', () => {
    const { context } = setUp();
    const container = new Container(context);
    expect(errnoFrom(() => container.attachGroup(testGroup(1, { kind: 'none' })))).toBe('EINVAL');
    expect(errnoFrom(() => container.attachGroup(testGroup(1, { kind: 'translation' })))).toBe('EINVAL');
    expect([container.groups.length, container.references]).toEqual([0, 1]);
  });

  test('S2-36 a group whose MSIs are not isolated is EPERM; allowUnsafeInterrupts accepts it, with a warning', () => {
    const strict = testContext();
    const group = testGroup(7, { isolatedMsi: false });
    const container = testContainer(strict, [testGroup(1)]);
    expect(errnoFrom(() => container.attachGroup(group))).toBe('EPERM');
    expect([container.groups.length, group.domain, container.domains.length, strict.lines.length]).toEqual([1, null, 1, 0]);
    const loose = testContext({ allowUnsafeInterrupts: true });
    testContainer(loose, [group]);
    expect(loose.lines).toEqual(['warn: group 7 is attached although its interrupts are not isolated (allowUnsafeInterrupts)']);
  });

  test("S1-06 the domain is the group's: all its devices reach the same mappings", () => {
    const { context, process, vaddr } = setUp();
    const group = testGroup(1);
    const container = testContainer(context, [group]);
    container.mapDma({ process, vaddr, iova: 0x10000n, size: PAGE, flags: RW });
    expect(group.domain).toBe(container.domains[0]);
    expect(container.domains[0].groups).toBe(1);
    group.domain!.copyIn(0x10, 5, new Uint8Array([42]));
    expect(context.memories[0].windows[0][5]).toBe(42);
  });

  test('S1-07 groups on one IOMMU share a domain, whichever way they differ otherwise', () => {
    const { context } = setUp();
    const container = testContainer(context, [testGroup(1), testGroup(2, { reserved: [] })]);
    expect(container.domains).toHaveLength(1);
    expect(container.domains[0].groups).toBe(2);
    container.attachGroup(testGroup(3, { coherent: false }));
    container.attachGroup(testGroup(4, { enforcesCoherency: true }));
    container.attachGroup(testGroup(5, { unit: {} }));
    expect(container.domains).toHaveLength(4);
  });

  test('S1-07 B.6 new group: what was mapped before is there at once, and unmapping hits both domains', () => {
    const { context, process, vaddr } = setUp();
    const one = testGroup(1);
    const two = testGroup(2, { unit: {} });
    const container = testContainer(context, [one]);
    using memory = HeapMemory.allocate(8192);
    container.mapDma({ process, vaddr, iova: 0x10000n, size: 4n * PAGE, flags: 1 });
    container.mapMemory({ process, memory, iova: 0x20000n });
    const locked = process.lockedBytes;
    container.attachGroup(two);
    expect(process.lockedBytes).toBe(locked);
    expect(memory.references).toBe(3);
    expect(two.domain!.copyIn(0x20, 0, new Uint8Array([9]))).toBe(0);
    expect(memory.windows[0][0]).toBe(9);
    expect(two.domain!.copyIn(0x10, 0, new Uint8Array(1))).toBe(2);
    container.mapDma({ process, vaddr, iova: 0x30000n, size: PAGE, flags: RW });
    expect([one.domain!.size, two.domain!.size]).toEqual([3, 3]);
    container.unmapDma({ iova: 0x20000n, size: 2n * PAGE });
    expect([one.domain!.copyIn(0x20, 0, new Uint8Array(1)), two.domain!.copyIn(0x20, 0, new Uint8Array(1))]).toEqual([1, 1]);
    expect(memory.references).toBe(1);
  });

  test('B.6 new group: replaying into a new domain is undone when any step fails', () => {
    for (const [step, skip] of [
      ['container.attach', 0],
      ['type1.attach.domain', 0],
      ['type1.attach.reserved', 0],
      ['type1.attach.replay', 0],
      ['type1.attach.replay', 2],
    ] as const) {
      const { context, process, vaddr } = setUp();
      const container = testContainer(context, [testGroup(1)]);
      for (let k = 0n; k < 3n; k++) container.mapDma({ process, vaddr, iova: k * 0x10000n, size: PAGE, flags: RW });
      const references = context.memories[0].references;
      const two = testGroup(2, { unit: {} });
      context.faults.failNext(step, 'ENOMEM', skip);
      expect(errnoFrom(() => container.attachGroup(two))).toBe('ENOMEM');
      expect([two.domain, container.groups.length, container.references, container.domains.length]).toEqual([null, 1, 2, 1]);
      expect(context.memories[0].references).toBe(references);
      container.attachGroup(two);
      expect(two.domain!.size).toBe(3);
    }
  });

  test('B.6 new group: one whose smallest page cuts a mapping cannot come', () => {
    const { context, process, vaddr } = setUp();
    const container = testContainer(context, [testGroup(1, { pageSizes: 0x11000n })]);
    container.mapDma({ process, vaddr, iova: 0n, size: PAGE, flags: RW });
    const big = testGroup(2, { unit: {}, pageSizes: 0x10000n });
    expect(errnoFrom(() => container.attachGroup(big))).toBe('EINVAL');
    expect(container.iommuInfo().pageSizes).toBe(0x11000n);
    expect(context.memories[0].references).toBe(2);
    container.unmapDma({ iova: 0n, size: PAGE });
    container.attachGroup(big);
    expect(container.iommuInfo()).toMatchObject({ pageSizes: 0x10000n, pageSizeBitmap: 0x10000n });
    expect(errnoFrom(() => container.mapDma({ process, vaddr, iova: 0n, size: PAGE, flags: RW }))).toBe('EINVAL');
    container.detachGroup(big);
    expect(container.iommuInfo().pageSizes).toBe(0x11000n);
  });

  test('B.6 page sizes are those of all domains, smaller ones than a page hidden', () => {
    const info = (pageSizes: bigint[], pageSize = 4096) =>
      testContainer(
        testContext({}, pageSize),
        pageSizes.map((sizes, id) => testGroup(id, { unit: {}, pageSizes: sizes })),
      ).iommuInfo();
    expect(info([0x4020_1000n])).toMatchObject({ pageSizes: 0x4020_1000n, pageSizeBitmap: 0x1000n });
    expect(info([0x4020_1000n, 0x20_1000n])).toMatchObject({ pageSizes: 0x20_1000n });
    expect(info([0x20_0400n])).toMatchObject({ pageSizes: 0x20_1000n, pageSizeBitmap: 0x1000n });
    expect(info([0x4020_1000n], 65536)).toMatchObject({ pageSizes: 0x4021_0000n, pageSizeBitmap: 0x10000n });
    expect(errnoFrom(() => info([0x1000n, 0x20_0000n]))).toBe('EINVAL');
    expect(errnoFrom(() => info([0n]))).toBe('EINVAL');
  });

  test('B.6 IOVA ranges are the aperture without what is reserved; relaxable windows may be used', () => {
    const { context } = setUp();
    const ranges = (...groups: Parameters<typeof testGroup>[1][]) =>
      testContainer(
        context,
        groups.map((g, id) => testGroup(id, g)),
      ).iommuInfo().ranges;
    expect(ranges({})).toEqual([
      { first: 0n, last: 0xfedf_ffffn },
      { first: 0xfef0_0000n, last: 0xffff_ffff_ffffn },
    ]);
    expect(ranges({ reserved: [{ first: 0n, last: 0xffffn, kind: 'relaxable' }], apertureLast: 0xfffffn })).toEqual([
      { first: 0n, last: 0xfffffn },
    ]);
    expect(
      ranges(
        { apertureFirst: 0x1000n, apertureLast: 0xfffffn, reserved: [{ first: 0n, last: 0x1fffn, kind: 'direct' }] },
        { apertureFirst: 0n, apertureLast: 0x7ffffn, reserved: [{ first: 0x7f000n, last: 0xfffffn, kind: 'reserved' }] },
      ),
    ).toEqual([{ first: 0x2000n, last: 0x7efffn }]);
  });

  test('B.6 IOVA ranges: a conflicting group cannot come, detaching widens them again', () => {
    const { context, process, vaddr } = setUp();
    const container = testContainer(context, [testGroup(1, { reserved: [] })]);
    const before = container.iommuInfo();
    container.mapDma({ process, vaddr, iova: 0x4000_0000n, size: PAGE, flags: RW });
    const conflicts = [
      { reserved: [{ first: 0x4000_0fffn, last: 0x4000_0fffn, kind: 'reserved' as const }] },
      { apertureLast: 0x3fff_ffffn },
      { apertureFirst: 0x4000_1000n },
      { apertureFirst: 2n ** 48n, apertureLast: 2n ** 49n },
      { apertureFirst: 5n, apertureLast: 4n },
      { reserved: [{ first: 0n, last: 2n ** 64n - 1n, kind: 'reserved' as const }] },
    ];
    for (const iommu of conflicts) {
      expect(errnoFrom(() => container.attachGroup(testGroup(2, iommu)))).toBe('EINVAL');
      expect([container.groups.length, container.domains.length]).toEqual([1, 1]);
    }
    const narrow = testGroup(3, { apertureLast: 0x4fff_ffffn, reserved: [{ first: 0n, last: 0xfffn, kind: 'direct' }] });
    container.attachGroup(narrow);
    expect(container.iommuInfo().ranges).toEqual([{ first: 0x1000n, last: 0x4fff_ffffn }]);
    container.detachGroup(narrow);
    expect(container.iommuInfo().ranges).toEqual(before.ranges);
  });

  test('B.6 MSI window of a later group must be free, and is taken from the ranges', () => {
    const { context, process, vaddr } = setUp();
    const container = testContainer(context, [testGroup(1, { reserved: [] })]);
    container.mapDma({ process, vaddr, iova: 0xfee0_0000n, size: PAGE, flags: RW });
    expect(errnoFrom(() => container.attachGroup(testGroup(2)))).toBe('EINVAL');
    container.unmapDma({ iova: 0xfee0_0000n, size: PAGE });
    container.attachGroup(testGroup(2));
    expect(errnoFrom(() => container.mapDma({ process, vaddr, iova: 0xfee0_0000n, size: PAGE, flags: RW }))).toBe('EINVAL');
  });

  test('B.6 page sizes, ranges and what is available are what a kernel reported for this machine', () => {
    const { context } = setUp();
    expect(testContainer(context, [testGroup(1)]).iommuInfo()).toEqual({
      pageSizes: 0x4020_1000n,
      ranges: [
        { first: 0n, last: 0xfedf_ffffn },
        { first: 0xfef0_0000n, last: 0xffff_ffff_ffffn },
      ],
      available: 65535,
      pageSizeBitmap: 0x1000n,
      maxDirtyBitmapSize: 268435456,
    });
  });
});

describe('ContainerDmaSpace', () => {
  test('S2-03 allocates, maps and unmaps for its process', () => {
    const { context } = setUp();
    const container = testContainer(context, [testGroup(1)]);
    const process = Process.user();
    const dma = new ContainerDmaSpace(container, process, context);
    using memory = dma.allocate(5000);
    expect(memory.size).toBe(8192);
    dma.map({ iova: 0x1000n, memory });
    dma.map({ iova: 0x10000n, memory, offset: 4096, size: 4096, access: 1 });
    expect([process.lockedPages, dma.available, memory.references]).toEqual([3, 65533, 3]);
    expect(errnoFrom(() => dma.map({ iova: 0x2000n, memory }))).toBe('EEXIST');
    expect(dma.unmap(0x1000n, 8192n)).toBe(8192n);
    expect(dma.unmapAll()).toBe(4096n);
    expect([process.lockedPages, memory.references]).toEqual([0, 1]);
    expect([dma.pageSizes, dma.ranges.length]).toEqual([0x4020_1000n, 2]);
  });

  test('S2-21 allocating what is no size is EINVAL, more than an address space ENOMEM, and asks for nothing', () => {
    const context = testContext();
    const dma = new ContainerDmaSpace(testContainer(context, [testGroup(1)]), Process.user(), context);
    for (const size of [Number.NaN, 0, -1, 1.5, 2 ** 53]) expect(errnoFrom(() => dma.allocate(size))).toBe('EINVAL');
    expect(errnoFrom(() => dma.allocate(2 ** 50))).toBe('ENOMEM');
    expect(context.memories).toEqual([]);
  });
});
