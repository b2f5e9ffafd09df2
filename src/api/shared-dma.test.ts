import { describe, expect, it } from 'vitest';
import { PAGE, SlowMemory, testContainer, testContext, testGroup } from '../../tests/kit/dma-rig.ts';
import { errnoFrom } from '../../tests/kit/errno.ts';
import { Access } from '../abi/memory.ts';
import { VfioError } from '../base/errno.ts';
import type { Container } from '../engine/dma/container.ts';
import { ContainerDmaSpace } from '../engine/dma/container-dma-space.ts';
import type { IommuProperties } from '../engine/dma/iommu-properties.ts';
import { Process } from '../engine/dma/process.ts';
import { HostDma } from '../hardware/host-dma.ts';
import { HeapMemory } from '../sys/fake.ts';
import { MemfdMemory } from '../sys/memfd.ts';
import { type DmaView, SharedDma } from './shared-dma.ts';

const GRAPHICS = '0000:01:00.0';
const SOUND = '0000:01:00.1';

/** Two connections of one process in one container, and DMA of a device of each connection. */
function rig(iommu: Partial<IommuProperties> = {}) {
  const context = testContext();
  const group = testGroup(1, iommu);
  const container = testContainer(context, [group]);
  const process = Process.user({ memlockLimit: 8 * Number(PAGE) });
  const shared = new SharedDma();
  const side = (bdf: string) => ({
    view: shared.view(new ContainerDmaSpace(container, process, context), bdf),
    dma: new HostDma(
      {
        busMaster: true,
        powered: true,
        get domain() {
          return group.domain;
        },
      },
      context.events,
      bdf,
    ),
  });
  return { container, process, shared, a: side(GRAPHICS), b: side(SOUND) };
}

/** The file of `memory`, as another connection sends it: mapped into this process a second time. */
const again = (memory: MemfdMemory, offset = 0): MemfdMemory =>
  MemfdMemory.fromFd(memory.duplicateFd(), offset, memory.size - offset, Access.READ_WRITE);

describe('mappings of two connections of one process', () => {
  it('S1-06 equal ones are one mapping, charged once, which ends with the last of them', () => {
    const { a, b, container, process } = rig();
    using memory = MemfdMemory.allocate(2 * Number(PAGE));
    using same = again(memory);
    a.view.map({ iova: 0x10000n, memory });
    b.view.map({ iova: 0x10000n, memory: same });
    expect([container.size, process.lockedBytes]).toEqual([1, 8192]);
    expect(a.view.unmap(0x10000n, 2n * PAGE)).toBe(2n * PAGE);
    expect([container.size, process.lockedBytes]).toEqual([1, 8192]);
    expect(a.view.unmap(0x10000n, 2n * PAGE)).toBe(0n);
    expect(b.view.unmap(0x10000n, 2n * PAGE)).toBe(2n * PAGE);
    expect([container.size, process.lockedBytes]).toEqual([0, 0]);
    expect([memory.references, same.references]).toEqual([1, 1]);
  });

  it.each<[string, (view: DmaView, memory: MemfdMemory) => void]>([
    ['other memory', (view) => view.map({ iova: 0x10000n, memory: MemfdMemory.allocate(8192) })],
    ['another part of the file', (view, memory) => view.map({ iova: 0x10000n, memory: again(memory, 4096), size: 8192 })],
    ['memory reached by messages', (view) => view.map({ iova: 0x10000n, memory: new SlowMemory(8192) })],
  ])('S1-06 over the same addresses with %s is EEXIST, and changes nothing', (_, map) => {
    const { a, b, container } = rig();
    using memory = MemfdMemory.allocate(3 * 4096);
    a.view.map({ iova: 0x10000n, memory, size: 8192 });
    expect(errnoFrom(() => map(b.view, memory))).toBe('EEXIST');
    expect([container.size, b.view.unmapAll()]).toEqual([1, 0n]);
  });

  it('S1-06 a connection cannot map its own range twice, nor unmap the other’s mapping', () => {
    const { a, b, container } = rig();
    using memory = HeapMemory.allocate(4096);
    a.view.map({ iova: 0x10000n, memory });
    expect(errnoFrom(() => a.view.map({ iova: 0x10000n, memory }))).toBe('EEXIST');
    expect([b.view.unmap(0x10000n, PAGE), b.view.unmapAll(), container.size]).toEqual([0n, 0n, 1]);
  });

  it('S1-06 an unmap takes the connection’s own mappings from among the other’s, and cuts none', () => {
    const { a, b, container } = rig();
    const iovas = [0x10000n, 0x11000n, 0x12000n, 0x13000n];
    for (const [i, iova] of iovas.entries()) (i === 1 ? b : a).view.map({ iova, memory: HeapMemory.allocate(4096) });
    expect(a.view.unmap(0x10000n, 4n * PAGE)).toBe(3n * PAGE);
    expect([...container.mappings()].map(({ iova }) => iova)).toEqual([0x11000n]);
    b.view.map({ iova: 0x20000n, memory: HeapMemory.allocate(8192) });
    expect(errnoFrom(() => b.view.unmap(0x21000n, PAGE))).toBe('EINVAL');
  });

  it('S1-06 the end of a connection takes only its own counts', () => {
    const { a, b, container, process } = rig();
    using memory = HeapMemory.allocate(4096);
    a.view.map({ iova: 0x10000n, memory });
    a.view.map({ iova: 0x20000n, memory: HeapMemory.allocate(4096) });
    b.view.map({ iova: 0x10000n, memory });
    a.view[Symbol.dispose]();
    expect([container.size, process.lockedBytes]).toEqual([1, 4096]);
    const got = new Uint8Array([7]);
    expect(a.dma.tryWrite(0x10000n, got)).toBe(0);
    expect(memory.windows[0]![0]).toBe(7);
  });
});

/** The mappings of the container, in pages: first to last, and the rights. */
const layout = (container: Container): string[] =>
  [...container.mappings()].map(({ iova, size, access }) => `${iova >> 12n}-${(iova + size) / PAGE - 1n}:${access}`);

describe('the same memory, cut in other ways', () => {
  it('S1-06 a new layout comes for one connection after the other, and no mapping is lost or left', () => {
    const { a, b, container, process } = rig();
    process.memlockLimit = Number.POSITIVE_INFINITY;
    using memory = MemfdMemory.allocate(16 * 4096);
    using same = again(memory);
    a.view.map({ iova: 0n, memory });
    b.view.map({ iova: 0n, memory: same });
    // The first connection: pages 4 to 7 become read-only.
    a.view.unmap(0n, 16n * PAGE);
    expect(layout(container)).toEqual(['0-15:3']);
    a.view.map({ iova: 0n, memory, size: 4 * 4096 });
    a.view.map({ iova: 4n * PAGE, memory, offset: 4 * 4096, size: 4 * 4096, access: Access.READ });
    a.view.map({ iova: 8n * PAGE, memory, offset: 8 * 4096, size: 8 * 4096 });
    expect(layout(container)).toEqual(['0-15:3']);
    // The second one.
    b.view.unmap(0n, 16n * PAGE);
    expect(layout(container)).toEqual(['0-3:3', '4-7:1', '8-15:3']);
    b.view.map({ iova: 0n, memory: same, size: 4 * 4096 });
    b.view.map({ iova: 4n * PAGE, memory: same, offset: 4 * 4096, size: 4 * 4096, access: Access.READ });
    b.view.map({ iova: 8n * PAGE, memory: same, offset: 8 * 4096, size: 8 * 4096 });
    a.view[Symbol.dispose]();
    expect(layout(container)).toEqual(['0-3:3', '4-7:1', '8-15:3']);
    expect(b.dma.tryWrite(9n * PAGE, new Uint8Array([6]))).toBe(0);
    expect(memory.windows[0]![9 * 4096]).toBe(6);
    b.view[Symbol.dispose]();
    expect([container.size, process.lockedBytes, memory.references, same.references]).toEqual([0, 0, 1, 1]);
  });

  it('S1-06 the part beyond the other’s mapping is added, and ends with its own mapping', () => {
    const { a, b, container, process } = rig();
    using memory = MemfdMemory.allocate(8 * 4096);
    a.view.map({ iova: 0x2000n, memory, offset: 8192, size: 8192 });
    b.view.map({ iova: 0n, memory: again(memory) });
    expect([layout(container), process.lockedBytes]).toEqual([['0-1:3', '2-3:3', '4-7:3'], 8 * 4096]);
    a.view.unmap(0x2000n, 2n * PAGE);
    expect(layout(container)).toEqual(['0-1:3', '2-3:3', '4-7:3']);
    b.view.unmap(0n, 8n * PAGE);
    expect([layout(container), process.lockedBytes]).toEqual([[], 0]);
  });

  it('S1-06 more rights hold for as long as one connection has them', () => {
    const { a, b, container } = rig();
    using memory = MemfdMemory.allocate(4 * 4096);
    a.view.map({ iova: 0n, memory, access: Access.READ });
    b.view.map({ iova: 0x1000n, memory: again(memory), offset: 4096, size: 8192 });
    expect(layout(container)).toEqual(['0-0:1', '1-2:3', '3-3:1']);
    b.view.unmap(0x1000n, 2n * PAGE);
    expect(layout(container)).toEqual(['0-0:1', '1-2:1', '3-3:1']);
    a.view.unmap(0n, 4n * PAGE);
    b.view.map({ iova: 0n, memory, access: Access.WRITE });
    expect(errnoFrom(() => a.view.map({ iova: 0n, memory, access: Access.READ }))).toBe('EEXIST');
    expect(layout(container)).toEqual(['0-3:2']);
  });

  it('S1-06 a mapping that does not fit changes nothing: over the account, other memory in one page, misaligned', () => {
    const { a, b, container, process } = rig();
    using memory = MemfdMemory.allocate(16 * 4096);
    a.view.map({ iova: 0x4000n, memory, offset: 4 * 4096, size: 4 * 4096 });
    a.view.map({ iova: 0xa000n, memory: HeapMemory.allocate(4096) });
    const before = layout(container);
    expect(errnoFrom(() => b.view.map({ iova: 0n, memory: again(memory) }))).toBe('EEXIST');
    expect(errnoFrom(() => b.view.map({ iova: 0n, memory: again(memory), size: 10 * 4096 }))).toBe('ENOMEM');
    expect(errnoFrom(() => b.view.map({ iova: 0x4800n, memory: again(memory), offset: 4 * 4096, size: 4096 }))).toBe('EINVAL');
    expect(errnoFrom(() => b.view.map({ iova: 0x4000n, memory: again(memory), offset: 4 * 4096, size: 100 }))).toBe('EINVAL');
    expect([layout(container), b.view.unmapAll(), process.lockedBytes]).toEqual([before, 0n, 5 * 4096]);
  });

  it('S1-06 written pages are reported also after their mapping is cut in another way', () => {
    const { a, b } = rig();
    using memory = MemfdMemory.allocate(4 * 4096);
    a.view.map({ iova: 0n, memory });
    b.view.map({ iova: 0n, memory: again(memory), size: 8192 });
    b.view.dirty!.start();
    expect(a.dma.tryWrite(0x1000n, new Uint8Array(1))).toBe(0);
    a.view.unmap(0n, 4n * PAGE);
    const data = new Uint8Array(8);
    b.view.dirty!.report(0n, 2n * PAGE, PAGE, data);
    expect(data[0]).toBe(2);
  });
});

describe('memory that the server reaches by messages', () => {
  it('S1-06 each device uses its own connection, and the other where its own has not mapped the memory', async () => {
    const { a, b } = rig();
    const [mine, theirs, alone] = [new SlowMemory(4096), new SlowMemory(4096), new SlowMemory(4096)];
    a.view.map({ iova: 0x10000n, memory: mine });
    b.view.map({ iova: 0x10000n, memory: theirs });
    b.view.map({ iova: 0x20000n, memory: alone });
    const done = [a.dma.write(0x10010n, new Uint8Array([1])), b.dma.write(0x10020n, new Uint8Array([2]))];
    await new Promise(setImmediate);
    expect([mine.pending, theirs.pending]).toEqual([1, 1]);
    await mine.answer();
    await theirs.answer();
    await Promise.all(done);
    expect([mine.bytes[0x10], theirs.bytes[0x20]]).toEqual([1, 2]);
    const third = a.dma.write(0x20030n, new Uint8Array([3]));
    await new Promise(setImmediate);
    await alone.answer();
    await third;
    expect(alone.bytes[0x30]).toBe(3);
  });

  it('S1-06 when a connection ends in the middle of a DMA, the other finishes the DMA', async () => {
    const { a, b } = rig();
    const [mine, theirs] = [new SlowMemory(4096), new SlowMemory(4096)];
    theirs.bytes[5] = 55;
    a.view.map({ iova: 0x10000n, memory: mine });
    b.view.map({ iova: 0x10000n, memory: theirs });
    const into = new Uint8Array(1);
    const done = a.dma.read(0x10005n, into);
    await new Promise(setImmediate);
    a.view[Symbol.dispose]();
    await mine.fail(new VfioError('ENODEV', 'the client is gone'));
    await theirs.answer();
    await done;
    expect(into[0]).toBe(55);
  });

  it('S1-06 an access that the process refuses is not sent to it again', async () => {
    const { a, b } = rig();
    const [mine, theirs] = [new SlowMemory(4096), new SlowMemory(4096)];
    a.view.map({ iova: 0x10000n, memory: mine });
    b.view.map({ iova: 0x10000n, memory: theirs });
    const done = a.dma.read(0x10005n, new Uint8Array(1));
    await new Promise(setImmediate);
    await mine.fail(new VfioError('EFAULT', 'no'));
    await expect(done).rejects.toMatchObject({ reason: 'remote-failed' });
    expect(theirs.pending).toBe(0);
  });

  it('S1-06 DMA crosses the border of two spans', async () => {
    const { a } = rig({ apertureLast: 2n ** 64n - 1n, reserved: [] });
    const memory = new SlowMemory(8192);
    a.view.map({ iova: 2n ** 52n - PAGE, memory });
    const done = a.dma.write(2n ** 52n - 6n, new Uint8Array(12).fill(9));
    await new Promise(setImmediate);
    await memory.answer();
    await done;
    expect(memory.bytes.subarray(4089, 4103)).toEqual(Uint8Array.from([0, ...new Array(12).fill(9), 0]));
    expect(a.view.unmapAll()).toBe(8192n);
    expect(memory.references).toBe(1);
  });
});

describe('dirty pages', () => {
  const seen = (view: DmaView): number => {
    const data = new Uint8Array(8);
    view.dirty!.report(0x10000n, 4n * PAGE, PAGE, data);
    return data[0]!;
  };

  it('S1-06 pages that one connection has read are still unread for the other', () => {
    const { a, b, container } = rig();
    a.view.map({ iova: 0x10000n, memory: HeapMemory.allocate(4 * 4096) });
    a.view.dirty!.start();
    b.view.dirty!.start();
    expect(a.dma.tryWrite(0x11000n, new Uint8Array(1))).toBe(0);
    expect([seen(a.view), seen(a.view)]).toEqual([2, 0]);
    expect(b.dma.tryWrite(0x13000n, new Uint8Array(1))).toBe(0);
    expect([seen(b.view), seen(b.view), seen(a.view), seen(a.view)]).toEqual([10, 0, 8, 0]);
    a.view.dirty!.stop();
    expect(errnoFrom(() => seen(a.view))).toBe('EINVAL');
    expect(container.dirtyTracking).toBe(true);
    b.view[Symbol.dispose]();
    expect(container.dirtyTracking).toBe(false);
  });

  it('S1-06 an unmap reports written pages, also where the other connection keeps the mapping', () => {
    const { a, b, container } = rig();
    using memory = HeapMemory.allocate(4 * 4096);
    a.view.map({ iova: 0x10000n, memory });
    b.view.map({ iova: 0x10000n, memory });
    a.view.dirty!.start();
    a.dma.tryWrite(0x12000n, new Uint8Array(1));
    const data = new Uint8Array(8);
    expect([a.view.dirty!.unmap(0x10000n, 4n * PAGE, PAGE, data), data[0], container.size]).toEqual([4n * PAGE, 4, 1]);
  });
});
