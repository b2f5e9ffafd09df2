/** A BAR of which parts can be mapped: which way an access goes. */
import { describe, expect, it } from 'vitest';
import { FakeDevice } from '../../../tests/kit/fake-device.ts';
import type { MappableArea, Region, RegionMapping } from '../../abi/device.ts';
import { RegionFlags } from '../../abi/vfio.ts';
import { VfioError } from '../../base/errno.ts';
import { HeapMemory } from '../../sys/fake.ts';
import { DriverDevice } from './driver-device.ts';

const { READ, WRITE, MMAP } = RegionFlags;

/** BAR 0 has 4 pages, and notes each access: `map 0x1000:` is one by the mapping from there on. */
class Sparse extends FakeDevice {
  readonly accesses: string[] = [];
  readonly view = new DataView(new ArrayBuffer(0x4000));
  readonly areas: readonly MappableArea[];
  readonly memoryAt: number;
  readonly refusedAt: number;

  constructor(areas: readonly MappableArea[], { memoryAt = -1, refusedAt = -1 } = {}) {
    super();
    this.areas = areas;
    this.memoryAt = memoryAt;
    this.refusedAt = refusedAt;
  }

  #registers(way: string, start: number) {
    const note = (offset: number) => {
      this.accesses.push(`${way} 0x${(start + offset).toString(16)}`);
      return start + offset;
    };
    return {
      read8: (o: number) => this.view.getUint8(note(o)),
      read16: (o: number) => this.view.getUint16(note(o), true),
      read32: (o: number) => this.view.getUint32(note(o), true),
      read64: (o: number) => this.view.getBigUint64(note(o), true),
      write8: (o: number, v: number) => this.view.setUint8(note(o), v),
      write16: (o: number, v: number) => this.view.setUint16(note(o), v, true),
      write32: (o: number, v: number) => this.view.setUint32(note(o), v, true),
      write64: (o: number, v: bigint) => this.view.setBigUint64(note(o), v, true),
    };
  }

  override region(index: number): Region {
    const region = super.region(index);
    if (index !== 0) return region;
    const map = (offset = 0, size = 0): RegionMapping => {
      if (offset === this.refusedAt) throw new VfioError('EINVAL', 'not there');
      this.trace.push(`map 0x${offset.toString(16)} 0x${size.toString(16)}`);
      return {
        ...this.#registers(`map 0x${offset.toString(16)}:`, offset),
        size,
        memory: offset === this.memoryAt ? { memory: HeapMemory.allocate(size) as never, offset: 0 } : null,
        [Symbol.dispose]: () => void this.trace.push(`unmap 0x${offset.toString(16)}`),
      };
    };
    return {
      ...region,
      ...this.#registers('file:', 0),
      info: { index, flags: READ | WRITE | MMAP, size: 0x4000, sparseAreas: this.areas },
      map,
    };
  }
}

/** The table of MSI-X is in the third page. */
const aroundTable = [
  { offset: 0x3000, size: 0x1000 },
  { offset: 0, size: 0x2000 },
];

describe('a BAR of which parts can be mapped', () => {
  it('B.8 mmap: an access goes by the mapping that has all of it, and else by the file', () => {
    const fake = new Sparse(aroundTable);
    using dev = DriverDevice.attach(fake);
    const bar = dev.bar(0);
    bar.write32(0x1000, 1);
    bar.write32(0x2000, 2);
    bar.write32(0x3ffc, 3);
    expect([bar.read32(0x1000), bar.read32(0x2000), bar.read32(0x3ffc)]).toEqual([1, 2, 3]);
    expect(fake.accesses).toEqual([
      'map 0x0: 0x1000',
      'file: 0x2000',
      'map 0x3000: 0x3ffc',
      'map 0x0: 0x1000',
      'file: 0x2000',
      'map 0x3000: 0x3ffc',
    ]);
  });

  it('B.8 mmap: every width, also across the border of a part', () => {
    const fake = new Sparse(aroundTable);
    using dev = DriverDevice.attach(fake);
    const bar = dev.bar(0);
    bar.write8(0x1fff, 0xa1);
    bar.write16(0x1fff, 0xb2b1);
    bar.write32(0x1ffe, 0xc4c3_c2c1);
    bar.write64(0x1ffc, 0xd8d7_d6d5_d4d3_d2d1n);
    expect([bar.read8(0x1fff), bar.read16(0x1ffe), bar.read32(0x2000), bar.read64(0x2ffc)]).toEqual([0xd4, 0xd4d3, 0xd8d7_d6d5, 0n]);
    expect(fake.accesses.map((access) => access.split(':')[0])).toEqual([
      'map 0x0',
      'file',
      'file',
      'file',
      'map 0x0',
      'map 0x0',
      'file',
      'file',
    ]);
  });

  it('B.8 mmap: a part that is refused, or is memory, goes by the file', () => {
    const fake = new Sparse(aroundTable, { memoryAt: 0, refusedAt: 0x3000 });
    using dev = DriverDevice.attach(fake);
    const bar = dev.bar(0);
    bar.write32(0, 1);
    bar.write32(0x3000, 1);
    expect(fake.accesses).toEqual(['file: 0x0', 'file: 0x3000']);
    expect(fake.trace.filter((step) => step.includes('map'))).toEqual(['map 0x0 0x2000', 'unmap 0x0']);
  });

  it('B.8 mmap: the parts are mapped once, and unmapped at the end', () => {
    const fake = new Sparse(aroundTable);
    const dev = DriverDevice.attach(fake);
    expect(dev.bar(0)).toBe(dev.bar(0));
    dev.close();
    expect(fake.trace.filter((step) => step.includes('map'))).toEqual(['map 0x0 0x2000', 'map 0x3000 0x1000', 'unmap 0x3000', 'unmap 0x0']);
  });
});
