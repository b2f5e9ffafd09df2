import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fewDescriptors } from '../../tests/kit/descriptor-limit.ts';
import { openDescriptorsAndFiles } from '../../tests/kit/open-descriptors.ts';
import { type MemoryAllocator, WINDOW_BYTES } from '../abi/memory.ts';
import { addon, Sys } from './addon.ts';
import { HEAP_MEMORY_MAX_BYTES, HeapMemory } from './fake.ts';
import { MEMFD_MAX_BYTES, MemfdMemory } from './memfd.ts';
import { OwnedFd } from './owned-fd.ts';

const mappings = (): number => readFileSync('/proc/self/maps', 'utf8').split('memfd:vfio-ts').length - 1;

describe.each([
  { name: 'MemfdMemory', allocate: MemfdMemory.allocate as MemoryAllocator, max: MEMFD_MAX_BYTES },
  { name: 'HeapMemory', allocate: HeapMemory.allocate as MemoryAllocator, max: HEAP_MEMORY_MAX_BYTES },
])('S2-46 $name, the shape both share', ({ allocate, max }) => {
  it('S2-46 is zeroed, rounded up to whole pages, and keeps what is stored', () => {
    using memory = allocate(5000);
    expect(memory.size).toBe(8192);
    expect(memory.windows.map((window) => window.length)).toEqual([8192]);
    expect(memory.windows[0]!.every((byte) => byte === 0)).toBe(true);
    memory.windows[0]!.set([1, 2, 3], 8189);
    expect([...memory.windows[0]!.subarray(8188)]).toEqual([0, 1, 2, 3]);
  });

  it('S2-46 pages stay as long as one reference is held, then every view is detached', () => {
    const memory = allocate(4096);
    memory.get();
    memory[Symbol.dispose]();
    memory[Symbol.dispose]();
    const window = memory.windows[0]!;
    const view = new DataView(window.buffer);
    view.setUint32(0, 0x1234, true);
    expect(memory.references).toBe(1);
    memory.put();
    expect(memory.references).toBe(0);
    expect(memory.windows).toEqual([]);
    expect(window.length).toBe(0);
    expect(() => view.getUint32(0)).toThrow(TypeError);
    expect(() => Atomics.load(window, 0)).toThrow();
    expect(() => memory.get()).toThrow(expect.objectContaining({ code: 'EBADF' }));
    expect(() => memory.put()).toThrow(/no references/);
  });

  it('S2-46 more than 4 GiB comes in windows, each whole but the last, and takes no room until touched', () => {
    const resident = process.memoryUsage().rss;
    using memory = allocate(2 * WINDOW_BYTES + 4096);
    expect(memory.windows.map((window) => window.length)).toEqual([WINDOW_BYTES, WINDOW_BYTES, 4096]);
    memory.windows[1]![WINDOW_BYTES - 1] = 7;
    memory.windows[2]![0] = 8;
    expect([memory.windows[1]![WINDOW_BYTES - 1], memory.windows[2]![0], memory.windows[0]![0]]).toEqual([7, 8, 0]);
    expect(process.memoryUsage().rss - resident).toBeLessThan(256 * 1024 * 1024);
  });

  it('S2-46 sizes that are none are EINVAL, too large ones ENOMEM, and nothing is left', () => {
    const before = openDescriptorsAndFiles();
    for (const bad of [0, -1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, '4096' as unknown as number]) {
      expect(() => allocate(bad)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    }
    for (const large of [max + 1, 2 ** 53 - 1]) expect(() => allocate(large)).toThrow(expect.objectContaining({ code: 'ENOMEM' }));
    expect(openDescriptorsAndFiles()).toBe(before);
  });

  it('S2-46 any sequence of get and put keeps it until exactly the last put', () => {
    fc.assert(
      fc.property(fc.array(fc.boolean(), { maxLength: 30 }), (steps) => {
        const memory = allocate(4096);
        let held = 1;
        for (const up of steps) {
          if (held === 0) break;
          if (up) memory.get();
          else memory.put();
          held += up ? 1 : -1;
          expect(memory.references).toBe(held);
          expect(memory.windows.length).toBe(held > 0 ? 1 : 0);
        }
        for (; held > 0; held--) memory.put();
      }),
      { numRuns: 100 },
    );
  });
});

describe('S2-46 MemfdMemory, the real one', () => {
  it('S2-46 leaves no descriptor and no mapping behind', () => {
    MemfdMemory.allocate(4096)[Symbol.dispose]();
    const before = [openDescriptorsAndFiles(), mappings()];
    for (let i = 0; i < 100; i++) {
      const memory = MemfdMemory.allocate(3 * 4096) as MemfdMemory;
      const again = MemfdMemory.fromFd(memory.duplicateFd(), 4096, 8192);
      memory[Symbol.dispose]();
      again[Symbol.dispose]();
    }
    expect([openDescriptorsAndFiles(), mappings()]).toEqual(before);
  });

  it('S2-46 a second mapping by descriptor, with an offset, sees the same bytes and outlives the first', () => {
    const memory = MemfdMemory.allocate(8192) as MemfdMemory;
    using tail = MemfdMemory.fromFd(memory.duplicateFd(), 4096, 4096);
    memory.windows[0]![4096] = 42;
    expect(tail.windows[0]![0]).toBe(42);
    memory[Symbol.dispose]();
    expect(tail.windows[0]![0]).toBe(42);
  });

  it('S2-46 no process can resize it: it is sealed', () => {
    using memory = MemfdMemory.allocate(8192) as MemfdMemory;
    using fd = memory.duplicateFd();
    expect(addon().ftruncate(fd.number, 4096)).toBe(-1);
    expect(addon().ftruncate(fd.number, 16384)).toBe(-1);
    expect(addon().fcntl(fd.number, Sys.F_GET_SEALS, 0) & 7).toBe(7);
    expect(addon().fcntl(fd.number, Sys.F_ADD_SEALS, 8)).toBe(-1);
  });

  it('S2-46 a foreign descriptor is refused past its end, misaligned, or when it is no memory; it is closed then', () => {
    using memory = MemfdMemory.allocate(8192) as MemfdMemory;
    const before = openDescriptorsAndFiles();
    for (const [offset, size] of [
      [4096, 8192],
      [8192, 4096],
      [1, 4096],
      [0, 100],
      [0, 0],
      [-4096, 4096],
      [0, Number.NaN],
      [2 ** 53, 4096],
    ] as const) {
      expect(() => MemfdMemory.fromFd(memory.duplicateFd(), offset, size), `${offset} ${size}`).toThrow(
        expect.objectContaining({ code: 'EINVAL' }),
      );
    }
    const eventfd = OwnedFd.own(addon().eventfd(0, Sys.EFD_CLOEXEC), 'eventfd');
    expect(() => MemfdMemory.fromFd(eventfd, 0, 4096)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(eventfd.closed).toBe(true);
    expect(openDescriptorsAndFiles()).toBe(before);
  });

  it('S2-46 allocation that fails halfway, for want of descriptors, leaves nothing', () => {
    fewDescriptors();
    const held: OwnedFd[] = [];
    const before = openDescriptorsAndFiles();
    const spare = MemfdMemory.allocate(4096) as MemfdMemory;
    let code = '';
    try {
      for (let i = 0; i < 5_000_000; i++) held.push(spare.duplicateFd());
    } catch (error) {
      code = (error as { code: string }).code;
    }
    expect(code).toBe('EMFILE');
    expect(() => MemfdMemory.allocate(4096)).toThrow(expect.objectContaining({ code: 'EMFILE' }));
    for (const fd of held) fd[Symbol.dispose]();
    spare[Symbol.dispose]();
    expect(openDescriptorsAndFiles()).toBe(before);
  });
});
