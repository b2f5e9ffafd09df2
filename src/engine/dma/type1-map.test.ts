import { describe, expect, test } from 'vitest';
import { SlowMemory, SparseMemory, testContainer, testContext, testGroup } from '../../../tests/kit/dma-rig.ts';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import { Access } from '../../abi/memory.ts';
import type { VfioError } from '../../base/errno.ts';
import { HeapMemory } from '../../sys/fake.ts';
import type { Container } from './container.ts';
import { Process } from './process.ts';

const PAGE = 4096n;
const TOP = 2n ** 64n;
const RW = 3;

function setUp(options: { type?: number; dmaEntryLimit?: number; pageSize?: number } = {}) {
  const context = testContext(options.dmaEntryLimit === undefined ? {} : { dmaEntryLimit: options.dmaEntryLimit }, options.pageSize);
  const group = testGroup(1);
  const container = testContainer(context, [group], options.type);
  const process = Process.user({ allocate: context.allocate, pageSize: context.pageSize, memlockLimit: 2 ** 40 });
  const vaddr = process.addressSpace.anonymous(64 * 4096);
  return { context, group, container, process, vaddr };
}

function state(container: Container, process: Process): unknown {
  return {
    locked: process.lockedBytes,
    info: container.iommuInfo(),
    mappings: [...container.mappings()].map((m) => [m.iova, m.size, m.vaddr]),
  };
}

describe('MAP_DMA', () => {
  test("B.6 MAP each check gives its errno, in the kernel's order, and changes nothing", () => {
    const { container, process, vaddr } = setUp();
    const ro = process.addressSpace.anonymous(4096, Access.READ);
    container.mapDma({ process, vaddr, iova: 0x500000n, size: PAGE, flags: RW });
    const before = state(container, process);
    // [name, errno, request]: each row corrects the mistakes of the rows before it.
    const good = { process, vaddr, iova: 0x100000n, size: PAGE, flags: RW };
    const rows: [string, string, Partial<typeof good>][] = [
      ['unknown flag, before size', 'EINVAL', { flags: 0x80 | RW, size: 0n }],
      ['size 0, before access', 'EINVAL', { size: 0n, flags: 0 }],
      ['iova wraps, before access', 'EOVERFLOW', { iova: TOP - PAGE, size: 2n * PAGE, flags: 0 }],
      ['vaddr wraps', 'EOVERFLOW', { vaddr: TOP - PAGE, size: 2n * PAGE }],
      ['iova wraps although misaligned', 'EOVERFLOW', { iova: TOP - 1n, size: PAGE }],
      ['no access', 'EINVAL', { flags: 0 }],
      ['access and VADDR', 'EINVAL', { flags: 7 }],
      ['size misaligned', 'EINVAL', { size: 100n }],
      ['iova misaligned', 'EINVAL', { iova: 0x100010n }],
      ['vaddr misaligned', 'EINVAL', { vaddr: vaddr + 8n }],
      ['VADDR without a mapping', 'ENOENT', { flags: 4 }],
      ['overlap', 'EEXIST', { iova: 0x500000n }],
      ['overlap, before ranges', 'EEXIST', { iova: 0n, size: 2n ** 60n }],
      ['in the MSI window', 'EINVAL', { iova: 0xfee0_0000n }],
      ['across the MSI window', 'EINVAL', { iova: 0xfedf_f000n, size: 0x200000n }],
      ['above the aperture', 'EINVAL', { iova: 2n ** 60n }],
      ['last page of the 64-bit space, above the aperture', 'EINVAL', { iova: TOP - PAGE }],
      ['vaddr not mapped', 'EFAULT', { vaddr: 0x10000n }],
      ['read-only page, RW', 'EFAULT', { vaddr: ro }],
      ['fine', 'none', {}],
    ];
    for (const [what, errno, wrong] of rows) {
      if (errno !== 'none') expect([what, state(container, process)]).toEqual([what, before]);
      expect([what, errnoFrom(() => container.mapDma({ ...good, ...wrong }))]).toEqual([what, errno]);
    }
    expect(errnoFrom(() => container.mapDma({ ...good, vaddr: ro, iova: 0x200000n, flags: 1 }))).toBe('none');
  });

  test('B.6 MAP what is no 64-bit number is EINVAL before anything else', () => {
    const { container, process, vaddr } = setUp();
    const good = { process, vaddr, iova: 0n, size: PAGE, flags: RW };
    const bad = [-1n, TOP, 2n ** 70n, 5 as unknown as bigint, undefined as unknown as bigint, null as unknown as bigint];
    for (const value of bad) {
      expect(errnoFrom(() => container.mapDma({ ...good, iova: value }))).toBe('EINVAL');
      expect(errnoFrom(() => container.mapDma({ ...good, vaddr: value }))).toBe('EINVAL');
      expect(errnoFrom(() => container.mapDma({ ...good, size: value }))).toBe('EINVAL');
    }
    for (const flags of [Number.NaN, -1, 1.5, 2 ** 32, 2 ** 53, Number.POSITIVE_INFINITY]) {
      expect(errnoFrom(() => container.mapDma({ ...good, flags }))).toBe('EINVAL');
    }
    expect(container.size).toBe(0);
  });

  test('B.6 MAP memory that is brought along is checked in the same order', () => {
    const { container, process } = setUp();
    using memory = HeapMemory.allocate(4 * 4096);
    const good = { process, memory, iova: 0x100000n };
    const rows: [string, object][] = [
      ['EINVAL', { size: Number.NaN }],
      ['EINVAL', { size: -4096 }],
      ['EINVAL', { size: 0 }],
      ['EINVAL', { size: 2 ** 53 }],
      ['EINVAL', { offset: 0.5 }],
      ['EINVAL', { offset: -4096 }],
      ['EINVAL', { offset: 5 * 4096 }],
      ['EINVAL', { access: 0 }],
      ['EINVAL', { access: 4 }],
      ['EINVAL', { offset: 8, size: 4096 }],
      ['EINVAL', { size: 100 }],
      ['EOVERFLOW', { iova: TOP - PAGE }],
      ['EFAULT', { offset: 4096, size: 4 * 4096 }],
      ['EFAULT', { size: 2 ** 40, iova: 2n ** 41n }],
    ];
    for (const [errno, wrong] of rows) expect([wrong, errnoFrom(() => container.mapMemory({ ...good, ...wrong }))]).toEqual([wrong, errno]);
    const gone = HeapMemory.allocate(4096);
    gone[Symbol.dispose]();
    expect(errnoFrom(() => container.mapMemory({ ...good, memory: gone }))).toBe('EFAULT');
    expect(memory.references).toBe(1);
    container.mapMemory(good);
    expect(memory.references).toBe(2);
    expect([...container.mappings()]).toMatchObject([{ iova: 0x100000n, size: 4n * PAGE, vaddr: null, access: 3, lockedBytes: 4 * 4096 }]);
  });

  test('S2-03 the same address twice is EEXIST, the engine never picks another', () => {
    const { container, process, vaddr } = setUp();
    container.mapDma({ process, vaddr, iova: 0x100000n, size: 4n * PAGE, flags: RW });
    expect(errnoFrom(() => container.mapDma({ process, vaddr, iova: 0x100000n, size: 4n * PAGE, flags: RW }))).toBe('EEXIST');
    expect(errnoFrom(() => container.mapDma({ process, vaddr, iova: 0x103000n, size: PAGE, flags: RW }))).toBe('EEXIST');
    container.mapDma({ process, vaddr, iova: 0x104000n, size: 4n * PAGE, flags: RW });
    expect([...container.mappings()].map((m) => m.iova)).toEqual([0x100000n, 0x104000n]);
  });

  test('S2-39 a 32-bit aperture refuses what lies above it, and takes its last page', () => {
    const context = testContext();
    const container = testContainer(context, [testGroup(1, { apertureLast: 2n ** 32n - 1n })]);
    const process = Process.root({ allocate: context.allocate });
    const vaddr = process.addressSpace.anonymous(8192);
    expect(errnoFrom(() => container.mapDma({ process, vaddr, iova: 2n ** 32n, size: PAGE, flags: RW }))).toBe('EINVAL');
    expect(errnoFrom(() => container.mapDma({ process, vaddr, iova: 2n ** 32n - PAGE, size: 2n * PAGE, flags: RW }))).toBe('EINVAL');
    expect(errnoFrom(() => container.mapDma({ process, vaddr, iova: 2n ** 32n - PAGE, size: PAGE, flags: RW }))).toBe('none');
  });

  test('B.6 MAP the last page of a 64-bit aperture can be mapped and unmapped', () => {
    const context = testContext();
    const container = testContainer(context, [testGroup(1, { apertureLast: TOP - 1n })]);
    const process = Process.root({ allocate: context.allocate });
    const vaddr = process.addressSpace.anonymous(8192);
    expect(errnoFrom(() => container.mapDma({ process, vaddr, iova: TOP - PAGE, size: 2n * PAGE, flags: RW }))).toBe('EOVERFLOW');
    expect(errnoFrom(() => container.unmapDma({ iova: TOP - PAGE, size: 2n * PAGE }))).toBe('EOVERFLOW');
    container.mapDma({ process, vaddr, iova: TOP - PAGE, size: PAGE, flags: RW });
    expect([...container.mappings()]).toMatchObject([{ iova: TOP - PAGE, size: PAGE }]);
    expect(container.unmapDma({ iova: TOP - PAGE, size: PAGE })).toBe(PAGE);
  });

  test('S2-51 everything is aligned to the smallest page, also when that is 64 KiB', () => {
    const { container, process, vaddr } = setUp({ pageSize: 65536 });
    expect(container.iommuInfo().pageSizeBitmap).toBe(65536n);
    const good = { process, vaddr, iova: 0x100000n, size: 65536n, flags: RW };
    for (const wrong of [{ vaddr: vaddr + PAGE }, { iova: 0x101000n }, { size: PAGE }, { size: 65536n + PAGE }]) {
      expect(errnoFrom(() => container.mapDma({ ...good, ...wrong }))).toBe('EINVAL');
    }
    container.mapDma(good);
    expect(process.lockedPages).toBe(1);
    expect(errnoFrom(() => container.unmapDma({ iova: 0x100000n, size: PAGE }))).toBe('EINVAL');
    expect(container.unmapDma({ iova: 0x100000n, size: 65536n })).toBe(65536n);
  });

  test('B.6 dma_entry_limit 65535 mappings fit, the next is ENOSPC, and unmapping makes room', () => {
    const { container, process, vaddr } = setUp();
    const map = (k: number) => container.mapDma({ process, vaddr, iova: 0x10000000n + BigInt(k) * 2n * PAGE, size: PAGE, flags: RW });
    for (let k = 0; k < 65535; k++) {
      if (k === 1000) expect(container.iommuInfo().available).toBe(64535);
      map(k);
    }
    expect(container.iommuInfo().available).toBe(0);
    expect(errnoFrom(() => map(65535))).toBe('ENOSPC');
    expect(container.unmapDma({ iova: 0x10000000n, size: PAGE })).toBe(PAGE);
    map(65535);
    expect(container.unmapDma({ iova: 0n, size: 0n, flags: 2 })).toBe(65535n * PAGE);
    expect(process.lockedBytes).toBe(0);
  });

  test('B.6 dma_entry_limit counts before the ranges are looked at', () => {
    const { container, process, vaddr } = setUp({ dmaEntryLimit: 16 });
    for (let k = 0; k < 16; k++) container.mapDma({ process, vaddr, iova: BigInt(k) * 2n * PAGE, size: PAGE, flags: RW });
    expect(errnoFrom(() => container.mapDma({ process, vaddr, iova: 2n ** 60n, size: PAGE, flags: RW }))).toBe('ENOSPC');
    expect(errnoFrom(() => container.mapDma({ process, vaddr, iova: 0n, size: PAGE, flags: RW }))).toBe('EEXIST');
  });

  test('E-04 a warning comes at 90 % of the entry limit, once, and the refusal names the limit', () => {
    const { context, container, process, vaddr } = setUp({ dmaEntryLimit: 20 });
    const map = (k: number) => container.mapDma({ process, vaddr, iova: BigInt(k) * PAGE, size: PAGE, flags: RW });
    for (let k = 0; k < 17; k++) map(k);
    expect(context.lines).toEqual([]);
    const warning = 'warn: the container has 18 of at most 20 DMA mappings; 2 are left';
    for (let k = 17; k < 20; k++) {
      map(k);
      context.clock.advance(60_000);
    }
    expect(context.lines).toEqual([warning]);
    expect(() => map(20)).toThrow('20 DMA mappings, which is its limit (dma_entry_limit 20)');
    for (let k = 16; k < 20; k++) container.unmapDma({ iova: BigInt(k) * PAGE, size: PAGE });
    for (let k = 16; k < 20; k++) map(k);
    expect(context.lines).toEqual([warning, warning]);
  });
});

describe('locked memory of mappings', () => {
  test('S2-46 as a kernel answered: limits, CAP_IPC_LOCK, and the same page counted twice', () => {
    const { container, process, vaddr } = setUp();
    process.memlockLimit = 8 * 4096;
    const map = (iova: bigint, pages: bigint, at = vaddr) =>
      errnoFrom(() => container.mapDma({ process, vaddr: at, iova, size: pages * PAGE, flags: RW }));
    const unmapAll = () => container.unmapDma({ iova: 0n, size: 0n, flags: 2 });
    process.capabilities.add('CAP_IPC_LOCK');
    expect(map(0x100000n, 16n)).toBe('none');
    expect(unmapAll()).toBe(16n * PAGE);
    process.capabilities.delete('CAP_IPC_LOCK');
    expect(map(0x100000n, 16n)).toBe('ENOMEM');
    expect(process.lockedBytes).toBe(0);
    expect(map(0x100000n, 8n)).toBe('none');
    expect(map(0x200000n, 1n, vaddr + 8n * PAGE)).toBe('ENOMEM');
    expect(process.lockedPages).toBe(8);
    expect(unmapAll()).toBe(8n * PAGE);
    expect(map(0x100000n, 8n)).toBe('none');
    expect(map(0x200000n, 1n)).toBe('ENOMEM');
    expect(unmapAll()).toBe(8n * PAGE);
    expect(process.lockedBytes).toBe(0);
  });

  test('S2-46 CAP_IPC_LOCK counts when the mapping is made, not later', () => {
    const { container, process, vaddr } = setUp();
    process.memlockLimit = 4096;
    process.capabilities.add('CAP_IPC_LOCK');
    container.mapDma({ process, vaddr, iova: 0n, size: 4n * PAGE, flags: RW });
    process.capabilities.clear();
    expect(container.size).toBe(1);
    expect(errnoFrom(() => container.mapDma({ process, vaddr, iova: 0x10000n, size: PAGE, flags: RW }))).toBe('ENOMEM');
    container.unmapDma({ iova: 0n, size: 4n * PAGE });
    expect(errnoFrom(() => container.mapDma({ process, vaddr, iova: 0x10000n, size: PAGE, flags: RW }))).toBe('none');
  });

  test('S2-46 device memory mapped by the process is not counted, remote memory neither', () => {
    const { container, process } = setUp();
    process.memlockLimit = 0;
    using bar = HeapMemory.allocate(8192);
    using remote = new SlowMemory(4096);
    const vaddr = process.addressSpace.map(bar, { counted: false });
    container.mapDma({ process, vaddr, iova: 0n, size: 2n * PAGE, flags: RW });
    container.mapMemory({ process, memory: remote, iova: 0x10000n });
    container.mapMemory({ process, memory: bar, iova: 0x20000n, counted: false });
    expect(process.lockedBytes).toBe(0);
    expect(errnoFrom(() => container.mapMemory({ process, memory: bar, iova: 0x30000n }))).toBe('ENOMEM');
  });

  test('S2-47 ten thousand failing maps make one line in five seconds', () => {
    const { context, container, process, vaddr } = setUp();
    process.memlockLimit = 0;
    for (let k = 0; k < 10_000; k++) errnoFrom(() => container.mapDma({ process, vaddr, iova: 0n, size: PAGE, flags: RW }));
    expect(context.lines).toHaveLength(1);
    context.clock.advance(5000);
    errnoFrom(() => container.mapDma({ process, vaddr, iova: 0n, size: PAGE, flags: RW }));
    expect(context.lines).toHaveLength(2);
    expect(context.lines[1]).toContain('9999 more');
  });

  test('S2-48 each process is charged for what it mapped into the same container', () => {
    const { context, container, process, vaddr } = setUp();
    const other = Process.user({ pid: 2, allocate: context.allocate });
    const theirs = other.addressSpace.anonymous(3 * 4096);
    container.mapDma({ process, vaddr, iova: 0n, size: 2n * PAGE, flags: RW });
    container.mapDma({ process: other, vaddr: theirs, iova: 0x10000n, size: 3n * PAGE, flags: RW });
    expect([process.lockedPages, other.lockedPages]).toEqual([2, 3]);
    expect([...container.mappings()].map((m) => m.process.pid)).toEqual([1000, 2]);
    container.unmapDma({ iova: 0n, size: 2n * PAGE });
    expect([process.lockedPages, other.lockedPages]).toEqual([0, 3]);
    container.unmapDma({ iova: 0n, size: 0n, flags: 2 });
    expect(other.lockedPages).toBe(0);
  });

  test("S2-52 after a process exits its mappings in another's container keep memory and accounting until they go", () => {
    const { context, container, process, vaddr } = setUp();
    container.mapDma({ process, vaddr, iova: 0n, size: PAGE, flags: RW });
    const memory = context.memories[0];
    process.exit();
    expect(memory.references).toBe(1);
    expect(process.lockedPages).toBe(1);
    expect(errnoFrom(() => container.mapDma({ process, vaddr, iova: 0x10000n, size: PAGE, flags: RW }))).toBe('ESRCH');
    expect(container.unmapDma({ iova: 0n, size: PAGE })).toBe(PAGE);
    expect([memory.references, process.lockedBytes]).toEqual([0, 0]);
  });

  test('S2-52 killing the only user frees everything', () => {
    const { context, container, group, process, vaddr } = setUp();
    process.onExit(() => {
      container.detachGroup(group);
      container.close();
    });
    container.mapDma({ process, vaddr, iova: 0n, size: 8n * PAGE, flags: RW });
    process.exit();
    expect([process.lockedBytes, context.memories[0].references, container.references, group.domain]).toEqual([0, 0, 0, null]);
  });

  test('S2-49 mapping 64 GiB is one entry, whatever its size', () => {
    const context = testContext();
    const container = testContainer(context, [testGroup(1)]);
    const process = Process.root();
    using memory = new SparseMemory(2 ** 36);
    const vaddr = process.addressSpace.map(memory);
    container.mapDma({ process, vaddr, iova: 2n ** 40n, size: 2n ** 36n, flags: RW });
    expect(container.domains[0].size).toBe(1);
    expect(process.lockedBytes).toBe(2 ** 36);
    expect(container.unmapDma({ iova: 2n ** 40n, size: 2n ** 36n })).toBe(2n ** 36n);
  });

  test('E-03 a refused map says how much more the process would need', () => {
    const { container, process, vaddr } = setUp();
    process.memlockLimit = 8 * 4096;
    let fix: string | undefined;
    try {
      container.mapDma({ process, vaddr, iova: 0n, size: 16n * PAGE, flags: RW });
    } catch (error) {
      fix = (error as VfioError).fix;
    }
    expect(fix).toBe('Raise RLIMIT_MEMLOCK to at least 65536 bytes (ulimit -l 64), or give the process CAP_IPC_LOCK.');
  });

  test('B.6 MAP any step that is made to fail leaves nothing behind', () => {
    const steps = ['type1.map.resolve', 'type1.map.charge', 'type1.map.domain', 'type1.map.record'];
    for (const step of steps) {
      for (const skip of [0, 1, 2, 3]) {
        const { context, container, process, vaddr } = setUp();
        container.attachGroup(testGroup(2, { unit: {} }));
        using other = HeapMemory.allocate(4096);
        process.addressSpace.map(other, { at: 0x10000n });
        using more = HeapMemory.allocate(4096);
        process.addressSpace.map(more, { at: 0x11000n });
        container.mapDma({ process, vaddr, iova: 0x800000n, size: PAGE, flags: RW });
        const before = state(container, process);
        context.faults.failNext(step, 'EIO', skip);
        const errno = errnoFrom(() => container.mapDma({ process, vaddr: 0x10000n, iova: 0x100000n, size: 2n * PAGE, flags: RW }));
        if (step !== 'type1.map.domain' && skip > 0) expect(errno).toBe('none');
        else {
          expect([step, skip, errno]).toEqual([step, skip, 'EIO']);
          expect(state(container, process)).toEqual(before);
          expect([other.references, more.references]).toEqual([2, 2]);
          expect(container.domains.map((d) => d.size)).toEqual([1, 1]);
        }
      }
    }
  });
});

describe('MAP_DMA with VADDR', () => {
  test('B.6 MAP VADDR moves accounting to the new process, and DMA goes on to the same memory', () => {
    const { context, container, process, vaddr } = setUp();
    const heir = Process.user({ pid: 2, allocate: context.allocate });
    container.mapDma({ process, vaddr, iova: 0x100000n, size: 4n * PAGE, flags: RW });
    expect(container.unmapDma({ iova: 0x100000n, size: 4n * PAGE, flags: 4 })).toBe(4n * PAGE);
    expect(container.domains[0].copyIn(0x100, 0, new Uint8Array([7]))).toBe(0);
    container.mapDma({ process: heir, vaddr: 0x7000_0000n, iova: 0x100000n, size: 4n * PAGE, flags: 4 });
    expect([process.lockedPages, heir.lockedPages]).toEqual([0, 4]);
    expect([...container.mappings()]).toMatchObject([{ vaddr: 0x7000_0000n, process: heir, vaddrInvalid: false }]);
    expect(context.memories[0].windows[0][0]).toBe(7);
  });

  test('B.6 MAP VADDR each refusal keeps the old owner and the invalid mark', () => {
    const { context, container, process, vaddr } = setUp();
    const heir = Process.user({ pid: 2, memlockLimit: 4096 });
    const request = { process: heir, vaddr: 0n, iova: 0x100000n, size: 4n * PAGE, flags: 4 };
    container.mapDma({ process, vaddr, iova: 0x100000n, size: 4n * PAGE, flags: RW });
    expect(errnoFrom(() => container.mapDma(request))).toBe('EINVAL');
    container.unmapDma({ iova: 0x100000n, size: 4n * PAGE, flags: 4 });
    expect(errnoFrom(() => container.mapDma({ ...request, size: PAGE }))).toBe('EINVAL');
    expect(errnoFrom(() => container.mapDma({ ...request, iova: 0x101000n, size: 3n * PAGE }))).toBe('EINVAL');
    expect(errnoFrom(() => container.mapDma({ ...request, iova: 0x900000n }))).toBe('ENOENT');
    expect(errnoFrom(() => container.mapDma(request))).toBe('ENOMEM');
    heir.memlockLimit = 2 ** 30;
    context.faults.failNext('type1.vaddr.charge', 'EIO');
    expect(errnoFrom(() => container.mapDma(request))).toBe('EIO');
    expect([process.lockedPages, heir.lockedPages]).toEqual([4, 0]);
    expect([...container.mappings()][0].vaddrInvalid).toBe(true);
    container.mapDma(request);
    expect([process.lockedPages, heir.lockedPages]).toEqual([0, 4]);
  });

  test('B.6 MAP VADDR by the same process needs no accounting', () => {
    const { container, process, vaddr } = setUp();
    container.mapDma({ process, vaddr, iova: 0n, size: PAGE, flags: RW });
    process.memlockLimit = 0;
    container.unmapDma({ iova: 0n, size: PAGE, flags: 4 });
    container.mapDma({ process, vaddr: 0x1000n, iova: 0n, size: PAGE, flags: 4 });
    expect([...container.mappings()]).toMatchObject([{ vaddr: 0x1000n, lockedBytes: 4096 }]);
  });
});
