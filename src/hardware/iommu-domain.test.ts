import { describe, expect, test } from 'vitest';
import { SparseMemory } from '../../tests/kit/dma-rig.ts';
import { errnoFrom } from '../../tests/kit/errno.ts';
import { heapGrowth } from '../../tests/kit/heap-growth.ts';
import { Access, type DirectMemory, WINDOW_BYTES } from '../abi/memory.ts';
import { HeapMemory } from '../sys/fake.ts';
import { IommuDomain, LAST_PFN, Reach, Translation } from './iommu-domain.ts';

const properties = { unit: {}, coherent: true, enforcesCoherency: false, pageSizes: 0x1000n };

/** Memory of two windows, of which only the bytes around the border exist. */
class Border extends SparseMemory {
  readonly log: string[] = [];
  constructor() {
    super(2 * WINDOW_BYTES);
    const window = (name: string) =>
      new Proxy({} as Uint8Array, {
        get: (_, key) => {
          if (key === 'subarray')
            return (from: number, to: number) => {
              this.log.push(`${name} ${from}-${to}`);
              return new Uint8Array(to - from);
            };
          if (key === 'set') return (bytes: Uint8Array, at: number) => this.log.push(`${name} set ${at}+${bytes.length}`);
          return 0;
        },
      });
    this.windows.splice(0, 1, window('low') as never, window('high') as never);
  }
}

describe('IommuDomain', () => {
  test('S2-49 translates any page of the 64-bit space to memory, offset and what is left of the entry', () => {
    const domain = new IommuDomain(properties);
    using memory = new SparseMemory(2 ** 40);
    domain.map(LAST_PFN - 3, LAST_PFN, memory, 8192, Access.READ);
    domain.map(5, 5, memory, 2 ** 39, Access.READ_WRITE);
    const out = new Translation();
    expect(domain.translate(LAST_PFN - 1, 100, Access.READ, out)).toBe(Reach.OK);
    expect([out.memory, out.offset, out.bytes]).toEqual([memory, 8192 + 2 * 4096 + 100, 8192 - 100]);
    expect(domain.translate(5, 4095, Access.READ_WRITE, out)).toBe(Reach.OK);
    expect([out.offset, out.bytes]).toEqual([2 ** 39 + 4095, 1]);
    expect(domain.translate(LAST_PFN, 0, Access.WRITE, out)).toBe(Reach.PERMISSION);
    expect(domain.translate(6, 0, Access.READ, out)).toBe(Reach.NOT_MAPPED);
    expect(domain.translate(LAST_PFN + 1, 0, Access.READ, out)).toBe(Reach.NOT_MAPPED);
  });

  test('S2-49 translating a million times allocates nothing', () => {
    const domain = new IommuDomain(properties);
    using memory = new SparseMemory(2 ** 36);
    for (let i = 0; i < 4096; i++) domain.map(2 * i, 2 * i, memory, i * 4096, Access.READ_WRITE);
    const out = new Translation();
    const run = (times: number) => {
      let sum = 0;
      for (let i = 0; i < times; i++) {
        if (domain.translate(2 * ((i * 7919) & 4095), i & 4095, Access.READ, out) === Reach.OK) sum += out.offset;
      }
      return sum;
    };
    // Before V8 compiles the loop, the loop itself boxes its sum, so the quietest of several rounds
    // counts: a translation that boxed even one number would cost 12 MB in every one of them.
    let sum = 0;
    const grown = heapGrowth(() => {
      sum = run(1_000_000);
    }, 200_000);
    expect(sum).toBeGreaterThan(0);
    expect(grown).toBeLessThan(200_000);
  });

  test('S2-46 every entry holds its memory until it is unmapped', () => {
    const domain = new IommuDomain(properties);
    using memory = HeapMemory.allocate(3 * 4096);
    for (let i = 0; i < 3; i++) domain.map(10 * i, 10 * i, memory, i * 4096, 3);
    expect(memory.references).toBe(4);
    domain.unmap(0, 10);
    expect([memory.references, domain.size]).toEqual([2, 1]);
    domain.clear();
    expect([memory.references, domain.size]).toEqual([1, 0]);
  });

  test('S2-03 refuses an overlap and what its pages cannot hold, and takes no reference then', () => {
    using memory = HeapMemory.allocate(65536);
    const domain = new IommuDomain(properties);
    domain.map(5, 6, memory, 0, 3);
    expect(errnoFrom(() => domain.map(6, 7, memory, 0, 3))).toBe('EEXIST');
    const coarse = new IommuDomain({ ...properties, pageSizes: 0x10000n });
    expect(errnoFrom(() => coarse.map(0, 7, memory, 0, 3))).toBe('EINVAL');
    expect(errnoFrom(() => coarse.map(1, 16, memory, 0, 3))).toBe('EINVAL');
    for (const [first, last] of [
      [Number.NaN, 1],
      [-1, 1],
      [2, 1],
      [0, LAST_PFN + 1],
    ]) {
      expect(errnoFrom(() => domain.map(first, last, memory, 0, 3))).toBe('EINVAL');
    }
    expect(memory.references).toBe(2);
    coarse.map(16, 31, memory, 0, 3);
    expect(memory.references).toBe(3);
  });

  test('S2-49 a copy over the border of two windows is made of both', () => {
    const domain = new IommuDomain(properties);
    const memory = new Border();
    domain.map(0, 3, memory as unknown as DirectMemory, WINDOW_BYTES - 8192, 3);
    expect(domain.copyOut(1, 0, new Uint8Array(8192))).toBe(Reach.OK);
    expect(domain.copyIn(1, 4000, new Uint8Array(200))).toBe(Reach.OK);
    expect(memory.log).toEqual([
      `low ${WINDOW_BYTES - 4096}-${WINDOW_BYTES}`,
      'high 0-4096',
      `low set ${WINDOW_BYTES - 96}+96`,
      'high set 0+104',
    ]);
    expect(domain.view(1, 4000, 200, 1)).toBe(null);
    expect(domain.view(2, 0, 200, 1)).not.toBe(null);
  });

  test('S2-38 the epoch changes when something was unmapped, not when nothing was', () => {
    const domain = new IommuDomain(properties);
    using memory = HeapMemory.allocate(4096);
    domain.map(1, 1, memory, 0, 3);
    const epoch = domain.epoch;
    domain.unmap(2, 9);
    expect(domain.epoch).toBe(epoch);
    domain.unmap(0, 9);
    expect(domain.epoch).not.toBe(epoch);
  });
});
