/** Events of a container, as a reader sees them. */
import { expect, it } from 'vitest';
import { SlowMemory, testContainer, testContext, testGroup } from '../../../tests/kit/dma-rig.ts';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import { eventLines } from '../../../tests/kit/event-words.ts';
import { Access } from '../../abi/memory.ts';
import { DirtyFlags, DmaMapFlags, DmaUnmapFlags } from '../../abi/vfio.ts';
import { HeapMemory } from '../../sys/fake.ts';
import { Container } from './container.ts';
import { Process } from './process.ts';

function rig() {
  const context = testContext();
  const reader = context.stream.read();
  const process = Process.root({ allocate: context.allocate });
  return { context, process, reader, lines: () => eventLines(reader.take()) };
}

it('its groups, its IOMMU type, and the refusals of both', () => {
  const { context, lines } = rig();
  const group = testGroup(7);
  const container = new Container(context);
  expect(errnoFrom(() => container.setIommu(3))).toBe('EINVAL');
  container.attachGroup(group);
  expect(errnoFrom(() => container.attachGroup(group))).toBe('EINVAL');
  container.setIommu(3);
  container.detachGroup(group);
  expect(lines()).toEqual([
    'container 0: set SET_IOMMU: TYPE1v2: EINVAL: SET_IOMMU: the container has no group',
    'container 0: group 7 attached to container 0',
    'container 0: group 7 attached to container 0: EINVAL: group 7 is in the container already',
    'container 0: set SET_IOMMU: TYPE1v2',
    'container 0: group 7 detached from container 0',
  ]);
});

it('mappings of both ways, and the end of those that are left at the last detach', () => {
  const { context, process, lines } = rig();
  const group = testGroup(1);
  const container = testContainer(context, [group]);
  lines();
  const vaddr = process.addressSpace.anonymous(8192);
  container.mapDma({ process, vaddr, iova: 0x1000n, size: 4096n, flags: DmaMapFlags.READ });
  container.mapMemory({ process, memory: HeapMemory.allocate(8192), iova: 0x2000n });
  container.mapMemory({ process, memory: new SlowMemory(4096), iova: 0x8000n, access: Access.WRITE });
  container.unmapDma({ iova: 0x1000n, size: 0x3000n });
  container.unmapDma({ iova: 0x1000n, size: 0x1000n });
  container.mapMemory({ process, memory: HeapMemory.allocate(4096), iova: 0n });
  container.unmapDma({ iova: 0n, size: 0n, flags: DmaUnmapFlags.ALL });
  container.mapMemory({ process, memory: HeapMemory.allocate(8192), iova: 0x4000n });
  container.detachGroup(group);
  expect(lines()).toEqual([
    'container 0: map 0x1000 bytes at IOVA 0x1000, read, direct',
    'container 0: map 0x2000 bytes at IOVA 0x2000, read, write, direct',
    'container 0: map 0x1000 bytes at IOVA 0x8000, write, remote',
    'container 0: unmap 0x3000 bytes at IOVA 0x1000',
    'container 0: unmap 0x0 bytes at IOVA 0x1000',
    'container 0: map 0x1000 bytes at IOVA 0x0, read, write, direct',
    'container 0: unmap 0x2000 bytes at IOVA 0x0',
    'container 0: map 0x2000 bytes at IOVA 0x4000, read, write, direct',
    'container 0: group 1 detached from container 0',
    'container 0: unmap 0x2000 bytes at IOVA 0x0 (after 8)',
  ]);
});

it('mappings that were refused, with the size that the request names', () => {
  const { context, process, reader } = rig();
  const container = testContainer(context, [testGroup(1)]);
  container.mapMemory({ process, memory: HeapMemory.allocate(8192), iova: 0n });
  reader.take();
  expect(errnoFrom(() => container.mapMemory({ process, memory: HeapMemory.allocate(4096), iova: 0x1000n }))).toBe('EEXIST');
  expect(errnoFrom(() => container.unmapDma({ iova: 0x1000n, size: 0x1000n }))).toBe('EINVAL');
  expect(reader.take()).toMatchObject([
    { kind: 'dma-map', iova: 0x1000n, size: 4096n, errno: 'EEXIST', reason: expect.stringContaining('overlaps the mapping at 0x0') },
    { kind: 'dma-unmap', iova: 0x1000n, size: 4096n, errno: 'EINVAL', reason: expect.stringContaining('would cut the mapping') },
  ]);
});

it('requests that are nonsense are refused and emitted as any other', () => {
  const { context, process, reader } = rig();
  const container = testContainer(context, [testGroup(1)]);
  reader.take();
  const odd = [null, 0.5, -1n, 2n ** 70n, 'x', Symbol('y'), {}, Number.NaN];
  for (const value of odd as never[]) {
    const [iova, flags, memory, size] = [value, value, value, value];
    expect(errnoFrom(() => container.mapDma({ process, vaddr: value, iova, size, flags }))).toBe('EINVAL');
    expect(errnoFrom(() => container.mapMemory({ process, memory, iova, size, access: value, offset: value }))).toMatch(/EINVAL|EFAULT/);
    expect(errnoFrom(() => container.unmapDma({ iova, size, flags }))).toBe('EINVAL');
    expect(errnoFrom(() => container.dirtyPages(flags))).toBe('EINVAL');
    expect(errnoFrom(() => container.setIommu(value))).toMatch(/EINVAL/);
  }
  const events = reader.take();
  expect(events).toHaveLength(5 * odd.length);
  for (const event of events) expect(event).toMatchObject({ errno: expect.stringMatching(/EINVAL|EFAULT/), reason: expect.any(String) });
});

it('new addresses of mappings', () => {
  const { context, process, lines } = rig();
  const container = testContainer(context, [testGroup(1)]);
  const vaddr = process.addressSpace.anonymous(8192);
  container.mapDma({ process, vaddr, iova: 0n, size: 4096n, flags: DmaMapFlags.READ });
  lines();
  container.unmapDma({ iova: 0n, size: 4096n, flags: DmaUnmapFlags.VADDR });
  container.mapDma({ process, vaddr: vaddr + 4096n, iova: 0n, size: 4096n, flags: DmaMapFlags.VADDR });
  expect(lines()).toEqual([
    'container 0: unmap vaddr of 0x1000 bytes at IOVA 0x0',
    'container 0: new vaddr of 0x1000 bytes at IOVA 0x0, direct',
  ]);
});

it('dirty tracking', () => {
  const { context, lines } = rig();
  const container = testContainer(context, [testGroup(1)]);
  lines();
  container.dirtyPages(DirtyFlags.START);
  const bitmap = { pageSize: 4096n, data: new Uint8Array(8) };
  container.dirtyPages(DirtyFlags.GET_BITMAP, { iova: 0n, size: 4096n, bitmap });
  container.dirtyPages(DirtyFlags.STOP);
  expect(errnoFrom(() => container.dirtyPages(DirtyFlags.GET_BITMAP, { iova: 0n, size: 4096n, bitmap }))).toBe('EINVAL');
  expect(lines()).toEqual([
    'container 0: set DIRTY_PAGES: START',
    'container 0: get DIRTY_PAGES: GET_BITMAP',
    'container 0: set DIRTY_PAGES: STOP',
    'container 0: get DIRTY_PAGES: GET_BITMAP: EINVAL: dirty tracking is off',
  ]);
});

it('its number is free when it is closed and its last group has left', () => {
  const { context } = rig();
  const group = testGroup(1);
  const container = testContainer(context, [group]);
  container.close();
  const second = new Container(context);
  expect([container.events.name, second.events.name]).toEqual(['container 0', 'container 1']);
  container.detachGroup(group);
  expect(new Container(context).events.name).toBe('container 0');
});

it('without a reader nothing is built', () => {
  const context = testContext();
  const container = testContainer(context, [testGroup(1)]);
  const process = Process.root({ allocate: context.allocate });
  let asked = 0;
  const request = (iova: bigint) => ({
    process,
    memory: HeapMemory.allocate(4096),
    iova,
    get access() {
      asked++;
      return Access.READ;
    },
  });
  container.mapMemory(request(0n));
  const off = asked;
  using _reader = context.stream.read();
  container.mapMemory(request(0x1000n));
  // The engine reads it as often; the event once more.
  expect(asked - off).toBe(off + 1);
});
