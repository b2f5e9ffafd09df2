/** The table of mappings above a container, on a container that notes its requests. */
import { expect, it } from 'vitest';
import { errnoFrom } from '../../tests/kit/errno.ts';
import { Access, WINDOW_BYTES } from '../abi/memory.ts';
import { Errno, VfioError } from '../base/errno.ts';
import { HeapMemory } from '../sys/fake.ts';
import { MemfdMemory } from '../sys/memfd.ts';
import type { DmaBackend } from './dma-backend.ts';
import { KernelSpace, type Requester } from './kernel-space.ts';

const requester: Requester = { device: 'card', map: 'card: MAP', unmap: 'card: UNMAP', warn: () => {} };

/** A container that answers 0 to each map, but `refuses` to the map of that number. */
class NotedBackend implements DmaBackend {
  readonly mapName = 'MAP';
  readonly unmapName = 'UNMAP';
  readonly path = '/dev/vfio/vfio';
  readonly maxMaps = 65535;
  readonly dirty = {
    start: () => {},
    stop: () => {},
    report: (iova: bigint, size: bigint, _page: bigint, into: Uint8Array) => {
      this.requests.push(`dirty ${iova.toString(16)}+${size.toString(16)}`);
      into[0] = 0b101;
    },
    unmap: (iova: bigint, size: bigint, page: bigint, into: Uint8Array) => {
      this.dirty.report(iova, size, page, into);
      return this.unmap(iova, size);
    },
  };
  readonly requests: string[] = [];
  refuses = -1;
  closed = false;

  abilities() {
    return { pageSizes: 4096n, ranges: [{ first: 0n, last: 0xff_ffff_ffffn }] };
  }

  available(used: number): number {
    return this.maxMaps - used;
  }

  map(iova: bigint, _address: bigint, size: bigint, _access: Access): number {
    if (this.requests.length === this.refuses) return -Errno.EFAULT;
    this.requests.push(`map ${iova.toString(16)}+${size.toString(16)}`);
    return 0;
  }

  mapFailure(result: number, what: string, fix?: string): VfioError {
    return new VfioError(result === -Errno.EFAULT ? 'EFAULT' : 'EIO', what, fix === undefined ? {} : { fix });
  }

  unmap(iova: bigint, size: bigint): bigint {
    this.requests.push(`unmap ${iova.toString(16)}+${size.toString(16)}`);
    return size;
  }

  unmapAll(): bigint | null {
    return null;
  }

  [Symbol.dispose](): void {
    this.closed = true;
  }
}

function opened() {
  const backend = new NotedBackend();
  return { backend, space: new KernelSpace(backend).get() };
}

const large = WINDOW_BYTES + 8192;

it('maps memory of several windows by several requests, and unmaps it by one', () => {
  const { backend, space } = opened();
  using memory = MemfdMemory.allocate(large);
  space.map({ iova: 0x1000n, memory }, requester);
  expect(backend.requests).toEqual(['map 1000+100000000', 'map 100001000+2000']);
  expect(space.available).toBe(65533);
  expect(space.unmap(0x1000n, BigInt(large), requester)).toBe(BigInt(large));
  expect(backend.requests.at(-1)).toBe('unmap 1000+100002000');
  expect([space.available, memory.references]).toEqual([65535, 1]);
});

it('takes back the first windows when the kernel refuses a later one', () => {
  const { backend, space } = opened();
  using memory = MemfdMemory.allocate(large);
  backend.refuses = 1;
  expect(errnoFrom(() => space.map({ iova: 0n, memory }, requester))).toBe('EFAULT');
  expect(backend.requests).toEqual(['map 0+100000000', 'unmap 0+100000000']);
  expect([space.available, memory.references]).toEqual([65535, 1]);
});

it('refuses a range outside of those of the IOMMU before it asks the kernel', () => {
  const { backend, space } = opened();
  using memory = MemfdMemory.allocate(4096);
  expect(errnoFrom(() => space.map({ iova: 0x100_0000_0000n, memory }, requester))).toBe('EINVAL');
  expect(backend.requests).toEqual([]);
});

it('explains a refusal of memory that does not begin at a page', () => {
  const { backend, space } = opened();
  using memory = HeapMemory.allocate(8192);
  const inside = {
    ...memory,
    kind: 'direct',
    size: 4096,
    references: 1,
    windows: [memory.windows[0]!.subarray(16)],
    get: () => inside,
  } as never;
  backend.refuses = 0;
  expect(() => space.map({ iova: 0n, memory: inside }, requester)).toThrow(/which does not begin at a page/);
});

it('reports dirty pages of each mapping at their place, and keeps bits that were set', () => {
  const { backend, space } = opened();
  using memory = MemfdMemory.allocate(16384);
  space.map({ iova: 0x1000n, memory, size: 8192 }, requester);
  space.map({ iova: 0x5000n, memory, size: 12288 }, requester);
  const dirty = space.dirty(requester)!;
  expect(errnoFrom(() => dirty.report(0n, 0x8000n, 4096n, new Uint8Array(8)))).toBe('EINVAL');
  dirty.start();
  const into = Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0);
  dirty.report(0n, 0x8000n, 4096n, into);
  expect(into[0]).toBe(0b1010_1011);
  expect(dirty.unmap(0x5000n, 0x3000n, 4096n, new Uint8Array(8))).toBe(0x3000n);
  expect(backend.requests.slice(-2)).toEqual(['dirty 5000+3000', 'unmap 5000+3000']);
  space.unmapAll();
});

it('S2-30 is closed with the last device that uses it, and then frees the memory', () => {
  const { backend, space } = opened();
  using memory = MemfdMemory.allocate(4096);
  space.get().map({ iova: 0n, memory, access: Access.READ }, requester);
  space.put();
  expect([backend.closed, memory.references]).toEqual([false, 2]);
  space.put();
  expect([backend.closed, memory.references]).toEqual([true, 1]);
});
