import { describe, expect, test } from 'vitest';
import { testContainer, testContext, testGroup } from '../../../tests/kit/dma-rig.ts';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import { Process } from './process.ts';

const PAGE = 4096n;
const TOP = 2n ** 64n;
const RW = 3;
const ALL = 2;
const VADDR = 4;
const GET_DIRTY = 1;

function setUp(type = 3) {
  const context = testContext();
  const group = testGroup(1);
  const container = testContainer(context, [group], type);
  const process = Process.root({ allocate: context.allocate });
  const vaddr = process.addressSpace.anonymous(64 * 4096);
  const map = (iova: bigint, pages: bigint) => container.mapDma({ process, vaddr, iova, size: pages * PAGE, flags: RW });
  const unmap = (iova: bigint, size: bigint, flags = 0) => container.unmapDma({ iova, size, flags });
  return { context, group, container, process, vaddr, map, unmap };
}

describe('UNMAP_DMA', () => {
  test("B.6 UNMAP each check gives its errno, in the kernel's order, and changes nothing", () => {
    const { container, map } = setUp();
    map(0x100000n, 4n);
    const bitmap = { pageSize: PAGE, data: new Uint8Array(8) };
    const good = { iova: 0x100000n, size: 4n * PAGE };
    const rows: [string, string, Parameters<typeof container.unmapDma>[0]][] = [
      ['unknown flag', 'EINVAL', { ...good, flags: 0x80 }],
      ['dirty with ALL', 'EINVAL', { iova: 0n, size: 0n, flags: GET_DIRTY | ALL, dirtyBitmap: bitmap }],
      ['dirty with VADDR', 'EINVAL', { ...good, flags: GET_DIRTY | VADDR, dirtyBitmap: bitmap }],
      ['dirty without a bitmap', 'EINVAL', { ...good, flags: GET_DIRTY }],
      ['dirty bitmap too small', 'EINVAL', { ...good, flags: GET_DIRTY, dirtyBitmap: { pageSize: PAGE, data: new Uint8Array(7) } }],
      ['iova misaligned', 'EINVAL', { iova: 0x100001n, size: PAGE }],
      ['iova misaligned, before wrap', 'EINVAL', { iova: TOP - 1n, size: PAGE }],
      ['ALL with iova', 'EINVAL', { iova: 0x100000n, size: 0n, flags: ALL }],
      ['ALL with size', 'EINVAL', { iova: 0n, size: PAGE, flags: ALL }],
      ['size 0', 'EINVAL', { iova: 0x100000n, size: 0n }],
      ['size misaligned', 'EINVAL', { iova: 0x100000n, size: 100n }],
      ['size ~0, misaligned before wrap', 'EINVAL', { iova: 0x100000n, size: TOP - 1n }],
      ['wraps', 'EOVERFLOW', { iova: 0x100000n, size: TOP - PAGE }],
      ['dirty while tracking is off', 'EINVAL', { ...good, flags: GET_DIRTY, dirtyBitmap: bitmap }],
      ['negative', 'EINVAL', { iova: -PAGE, size: PAGE }],
      ['2^64', 'EINVAL', { iova: 0n, size: TOP }],
      ['NaN flags', 'EINVAL', { ...good, flags: Number.NaN }],
      ['a number for an address', 'EINVAL', { iova: 0x100000 as unknown as bigint, size: PAGE }],
    ];
    for (const [what, errno, request] of rows) {
      expect([what, errnoFrom(() => container.unmapDma(request))]).toEqual([what, errno]);
      expect(container.size).toBe(1);
    }
    expect(container.unmapDma(good)).toBe(4n * PAGE);
  });

  test('B.6 UNMAP as a kernel answered, line by line', () => {
    const { map, unmap } = setUp();
    const out = (iova: bigint, size: bigint, flags = 0): unknown => {
      try {
        return unmap(iova, size, flags);
      } catch (error) {
        return (error as { code: string }).code;
      }
    };
    map(0x100000n, 4n);
    map(0x104000n, 4n);
    expect(out(0x100000n, PAGE)).toBe('EINVAL');
    expect(out(0x101000n, 3n * PAGE)).toBe('EINVAL');
    expect(out(0x900000n, PAGE)).toBe(0n);
    expect(out(0x100000n, 8n * PAGE)).toBe(0x8000n);
    map(0x100000n, 1n);
    map(0x200000n, 2n);
    expect(out(0x100000n, PAGE, ALL)).toBe('EINVAL');
    expect(out(0n, 0n, ALL)).toBe(0x3000n);
    map(0x100000n, 1n);
    expect(out(0x100000n, PAGE, VADDR)).toBe(0x1000n);
    expect(out(0n, TOP - 1n)).toBe('EINVAL');
    expect(out(0n, 1n << 47n)).toBe(0x1000n);
    expect(out(0n, 0n, ALL)).toBe(0n);
  });

  test('B.6 UNMAP v2 cuts no mapping, at either end, and takes several whole ones with the gaps between', () => {
    const { container, map, unmap } = setUp();
    map(0x100000n, 4n);
    map(0x200000n, 4n);
    map(0x300000n, 4n);
    for (const [iova, end] of [
      [0x100000n, 0x101000n],
      [0x101000n, 0x104000n],
      [0x101000n, 0x102000n],
      [0x101000n, 0x304000n],
      [0x100000n, 0x301000n],
      [0x0n, 0x103000n],
    ]) {
      expect(errnoFrom(() => unmap(iova, end - iova))).toBe('EINVAL');
    }
    expect(container.size).toBe(3);
    expect(unmap(0xff000n, 0x106000n)).toBe(8n * PAGE);
    expect([...container.mappings()].map((m) => m.iova)).toEqual([0x300000n]);
  });

  test('B.6 UNMAP v1 inside a mapping is success with size 0; its first page takes all of it', () => {
    const { container, map, unmap } = setUp(1);
    map(0x100000n, 4n);
    map(0x104000n, 4n);
    expect(unmap(0x101000n, PAGE)).toBe(0n);
    expect(unmap(0x101000n, 16n * PAGE)).toBe(0n);
    expect(container.size).toBe(2);
    expect(unmap(0x100000n, PAGE)).toBe(4n * PAGE);
    expect(unmap(0x103000n, 2n * PAGE)).toBe(4n * PAGE);
    expect(container.size).toBe(0);
    map(0x100000n, 4n);
    expect(unmap(0n, 0n, ALL)).toBe(4n * PAGE);
  });

  test('B.6 UNMAP VADDR marks and undoes; meanwhile DMA goes on and no group may come', () => {
    const { container, group, map, unmap } = setUp();
    map(0x100000n, 1n);
    map(0x200000n, 2n);
    expect(unmap(0x200000n, 2n * PAGE, VADDR)).toBe(2n * PAGE);
    expect(errnoFrom(() => unmap(0x100000n, 0x102000n, VADDR))).toBe('EINVAL');
    expect([...container.mappings()].map((m) => m.vaddrInvalid)).toEqual([false, true]);
    expect(group.domain!.copyIn(0x200, 0, new Uint8Array(1))).toBe(0);
    expect(errnoFrom(() => container.attachGroup(testGroup(2)))).toBe('EBUSY');
    expect(container.groups).toHaveLength(1);
    expect(unmap(0x200000n, 2n * PAGE)).toBe(2n * PAGE);
    container.attachGroup(testGroup(2));
    expect(unmap(0n, 0n, ALL | VADDR)).toBe(PAGE);
    expect(errnoFrom(() => unmap(0n, 0n, ALL | VADDR))).toBe('EINVAL');
  });

  test('B.6 UNMAP v2 can cut nothing at the top of the 64-bit space either', () => {
    const context = testContext();
    const container = testContainer(context, [testGroup(1, { apertureLast: TOP - 1n })]);
    const process = Process.root({ allocate: context.allocate });
    const vaddr = process.addressSpace.anonymous(8192);
    container.mapDma({ process, vaddr, iova: TOP - 2n * PAGE, size: 2n * PAGE, flags: RW });
    expect(errnoFrom(() => container.unmapDma({ iova: TOP - PAGE, size: PAGE }))).toBe('EINVAL');
    expect(container.unmapDma({ iova: 0n, size: 0n, flags: ALL })).toBe(2n * PAGE);
  });
});

describe('DIRTY_PAGES', () => {
  const START = 1;
  const STOP = 2;
  const GET = 4;

  function tracked() {
    const made = setUp();
    made.map(0x100000n, 64n);
    made.map(0x200000n, 8n);
    made.container.dirtyPages(START);
    const get = (iova: bigint, pages: bigint, data = new Uint8Array(Number((pages + 63n) / 64n) * 8)) => {
      made.container.dirtyPages(GET, { iova, size: pages * PAGE, bitmap: { pageSize: PAGE, data } });
      return [...data].flatMap((byte, i) => [0, 1, 2, 3, 4, 5, 6, 7].filter((bit) => ((byte >> bit) & 1) === 1).map((bit) => 8 * i + bit));
    };
    const write = (pfn: number, byte: number, size: number) => made.group.domain!.copyIn(pfn, byte, new Uint8Array(size));
    return { ...made, get, write };
  }

  test('B.6 dirty pages are exactly the pages devices wrote, and asking clears them', () => {
    const { get, write } = tracked();
    write(0x103, 10, 4);
    write(0x105, 4095, 2);
    write(0x207, 0, 1);
    expect(get(0x100000n, 64n)).toEqual([3, 5, 6]);
    expect(get(0x100000n, 64n)).toEqual([]);
    expect(get(0x100000n, 0x108n)).toEqual([0x107]);
    expect(get(0x200000n, 8n)).toEqual([]);
  });

  test('B.6 dirty pages: reads mark nothing, what did not land marks nothing', () => {
    const { get, group, write } = tracked();
    group.domain!.copyOut(0x100, 0, new Uint8Array(8192));
    expect(write(0x13f, 4090, 100)).toBe(1);
    expect(get(0x100000n, 64n)).toEqual([]);
  });

  test('B.6 dirty pages: a view for writing is a write of its pages, and must be taken anew after each report', () => {
    const { get, group } = tracked();
    const domain = group.domain!;
    const epoch = domain.epoch;
    domain.view(0x110, 100, 8192, 3);
    domain.view(0x120, 0, 4096, 1);
    expect(get(0x100000n, 64n)).toEqual([0x10, 0x11, 0x12]);
    expect(domain.epoch).not.toBe(epoch);
    const after = domain.epoch;
    expect(get(0x100000n, 64n)).toEqual([]);
    expect(domain.epoch).toBe(after);
  });

  test('B.6 dirty pages: a view taken before START expires then', () => {
    const { container, group, map } = setUp();
    map(0n, 1n);
    const domain = group.domain!;
    domain.view(0, 0, 16, 2);
    const epoch = domain.epoch;
    container.dirtyPages(START);
    expect(domain.epoch).not.toBe(epoch);
  });

  test('B.6 dirty pages: START and STOP are idempotent, STOP forgets', () => {
    const { container, get, write } = tracked();
    write(0x100, 0, 1);
    container.dirtyPages(START);
    expect(get(0x100000n, 64n)).toEqual([0]);
    write(0x100, 0, 1);
    container.dirtyPages(STOP);
    container.dirtyPages(STOP);
    expect(errnoFrom(() => get(0x100000n, 64n))).toBe('EINVAL');
    container.dirtyPages(START);
    expect(get(0x100000n, 64n)).toEqual([]);
  });

  test('B.6 dirty pages: unmapping can report, and what is unmapped is forgotten', () => {
    const { container, get, map, write } = tracked();
    write(0x207, 0, 1);
    write(0x201, 0, 1);
    const data = new Uint8Array(8);
    expect(container.unmapDma({ iova: 0x200000n, size: 8n * PAGE, flags: GET_DIRTY, dirtyBitmap: { pageSize: PAGE, data } })).toBe(
      8n * PAGE,
    );
    expect(data[0]).toBe(0b1000_0010);
    map(0x200000n, 8n);
    expect(get(0x200000n, 8n)).toEqual([]);
  });

  test('B.6 dirty pages: bits that were set stay set, bits beyond the range stay as they are', () => {
    const { get, write } = tracked();
    write(0x202, 0, 1);
    const data = new Uint8Array(16);
    data[0] = 0x01;
    data[15] = 0x80;
    expect(get(0x200000n, 8n, data)).toEqual([0, 2, 127]);
  });

  test('B.6 dirty pages: a group that comes later is tracked too', () => {
    const { container, get } = tracked();
    const late = testGroup(2, { unit: {} });
    container.attachGroup(late);
    late.domain!.copyIn(0x104, 0, new Uint8Array(1));
    expect(get(0x100000n, 64n)).toEqual([4]);
  });

  test('B.6 dirty pages: each check gives its errno', () => {
    const { container } = tracked();
    const data = new Uint8Array(8);
    const good = { iova: 0x100000n, size: 64n * PAGE, bitmap: { pageSize: PAGE, data } };
    for (const flags of [0, 3, 5, 7, 8, 12, -1, Number.NaN, 2 ** 33]) {
      expect([flags, errnoFrom(() => container.dirtyPages(flags, good))]).toEqual([flags, 'EINVAL']);
    }
    expect(errnoFrom(() => container.dirtyPages(GET))).toBe('EINVAL');
    const rows: [string, string, object][] = [
      ['bitmap too small', 'EINVAL', { bitmap: { pageSize: PAGE, data: data.subarray(1) } }],
      ['bitmap of nothing', 'EINVAL', { bitmap: { pageSize: PAGE, data, size: 0n } }],
      ['bitmap over 256 MiB', 'EINVAL', { bitmap: { pageSize: PAGE, data, size: 2n ** 28n + 1n } }],
      ['bitmap shorter than said', 'EFAULT', { bitmap: { pageSize: PAGE, data, size: 16n } }],
      ['page size 0', 'EINVAL', { bitmap: { pageSize: 0n, data } }],
      ['page size not the smallest', 'EINVAL', { bitmap: { pageSize: 0x200000n, data } }],
      ['page size no power of two', 'EINVAL', { bitmap: { pageSize: 0x3000n, data } }],
      ['size 0', 'EINVAL', { size: 0n }],
      ['size less than a page', 'EINVAL', { size: 100n }],
      ['size misaligned', 'EINVAL', { size: 64n * PAGE - 100n }],
      ['iova misaligned', 'EINVAL', { iova: 0x100001n }],
      ['cuts a mapping at its start', 'EINVAL', { iova: 0x101000n, size: 63n * PAGE }],
      ['cuts a mapping at its end', 'EINVAL', { size: 63n * PAGE }],
      ['wraps', 'EOVERFLOW', { iova: TOP - PAGE, size: 2n * PAGE }],
      ['negative', 'EINVAL', { size: -PAGE }],
    ];
    for (const [what, errno, wrong] of rows) {
      expect([what, errnoFrom(() => container.dirtyPages(GET, { ...good, ...wrong }))]).toEqual([what, errno]);
    }
    const v1 = setUp(1);
    for (const flags of [0, 1, 2, 4, 99]) expect(errnoFrom(() => v1.container.dirtyPages(flags))).toBe('EACCES');
  });

  test('B.6 dirty pages: with a smallest page of 64 KiB one bit stands for 16 pages', () => {
    const context = testContext({}, 65536);
    const group = testGroup(1);
    const container = testContainer(context, [group]);
    const process = Process.root({ allocate: context.allocate, pageSize: 65536 });
    const vaddr = process.addressSpace.anonymous(4 * 65536);
    container.mapDma({ process, vaddr, iova: 0n, size: 4n * 65536n, flags: RW });
    container.dirtyPages(START);
    group.domain!.copyIn(0x1f, 0, new Uint8Array(1));
    group.domain!.copyIn(0x30, 0, new Uint8Array(1));
    const data = new Uint8Array(8);
    expect(errnoFrom(() => container.dirtyPages(GET, { iova: 0n, size: 4n * 65536n, bitmap: { pageSize: PAGE, data } }))).toBe('EINVAL');
    container.dirtyPages(GET, { iova: 0n, size: 4n * 65536n, bitmap: { pageSize: 65536n, data } });
    expect(data[0]).toBe(0b1010);
  });

  test('B.6 dirty pages: tracking 1 TiB allocates for what is written only', () => {
    const { container, process, group } = setUp();
    container.mapMemory({
      process,
      iova: 2n ** 41n,
      memory: { kind: 'remote', size: 2 ** 40, references: 1, get: () => null, put() {}, [Symbol.dispose]() {} } as never,
    });
    container.dirtyPages(START);
    expect(group.domain!.dirty!.chunks).toBe(0);
    group.domain!.dirty!.mark(2 ** 29 + 5, 2 ** 29 + 5);
    expect(group.domain!.dirty!.chunks).toBe(1);
  });
});
