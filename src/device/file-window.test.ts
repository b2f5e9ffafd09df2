import { expect, it } from 'vitest';
import { errnoFrom } from '../../tests/kit/errno.ts';
import { NUM_REGIONS, RegionIndex } from '../abi/vfio.ts';
import { VfioError } from '../base/errno.ts';
import { FileWindow, regionName } from './file-window.ts';

/** A region over 10 bytes, as a transport of whole buffers has it. */
class Bytes extends FileWindow {
  readonly bytes = Uint8Array.from({ length: 10 }, (_, i) => 0x11 * i);
  readonly accesses: string[] = [];
  open = true;
  during: () => void = () => {};

  constructor(index: number = RegionIndex.BAR0) {
    super({ index, flags: 3, size: 10 });
  }

  protected readonly deviceName = 'device';
  protected checkOpen(): void {
    if (!this.open) throw new VfioError('ENODEV', 'the device is closed');
  }
  protected readBytes(offset: number, into: Uint8Array): number {
    const count = this.clip(offset, into.length);
    this.accesses.push(`read ${count}@${offset}`);
    this.during();
    into.set(this.bytes.subarray(offset, offset + count));
    return count;
  }
  protected writeBytes(offset: number, from: Uint8Array): number {
    const count = this.clip(offset, from.length);
    this.accesses.push(`write ${count}@${offset}`);
    this.bytes.set(from.subarray(0, count), offset);
    return count;
  }
}

it('an access of a register’s width is one transfer of that width', () => {
  const region = new Bytes();
  expect([region.read8(1), region.read16(1), region.read32(2), region.read64(1)]).toEqual([0x11, 0x2211, 0x55443322, 0x8877665544332211n]);
  region.write8(0, 1);
  region.write16(1, 2);
  region.write32(3, 3);
  region.write64(2, 4n);
  expect(region.accesses).toEqual(['read 1@1', 'read 2@1', 'read 4@2', 'read 8@1', 'write 1@0', 'write 2@1', 'write 4@3', 'write 8@2']);
});

it('an access within an access has a buffer of its own', () => {
  const region = new Bytes();
  region.during = () => {
    region.during = () => {};
    expect(region.read32(4)).toBe(0x77665544);
  };
  expect(region.read32(0)).toBe(0x33221100);
});

it('a transfer is cut at the region’s end; past it is EINVAL', () => {
  const region = new Bytes();
  expect([region.read(8, new Uint8Array(4)), region.write(9, new Uint8Array(4)), region.read(0, new Uint8Array(0))]).toEqual([2, 1, 0]);
  expect([
    errnoFrom(() => region.read(10, new Uint8Array(1))),
    errnoFrom(() => region.read8(10)),
    errnoFrom(() => region.read32(8)),
  ]).toEqual(Array(3).fill('EINVAL'));
});

it('a transfer past the end of config space is EFAULT, whole', () => {
  const region = new Bytes(RegionIndex.CONFIG);
  expect([
    errnoFrom(() => region.read(8, new Uint8Array(4))),
    errnoFrom(() => region.read32(8)),
    errnoFrom(() => region.write8(10, 0)),
  ]).toEqual(Array(3).fill('EFAULT'));
});

it('an offset or a value that is none is EINVAL, a buffer that is none EFAULT', () => {
  const region = new Bytes();
  for (const offset of [-1, 0.5, Number.NaN, '0' as never])
    expect([offset, errnoFrom(() => region.read8(offset))]).toEqual([offset, 'EINVAL']);
  expect([errnoFrom(() => region.write8(0, 256)), errnoFrom(() => region.write32(0, -1)), errnoFrom(() => region.write64(0, -1n))]).toEqual(
    Array(3).fill('EINVAL'),
  );
  expect(errnoFrom(() => region.read(0, [] as never))).toBe('EFAULT');
});

it('a closed device says so before it looks at offset, buffer or value', () => {
  const region = new Bytes();
  region.open = false;
  const acts = [() => region.read8(-1), () => region.read(0, null as never), () => region.write8(0, 256), () => region.map()];
  expect(acts.map(errnoFrom)).toEqual(Array(4).fill('ENODEV'));
});

it('a region that says nothing of mappings cannot be mapped', () => {
  expect(errnoFrom(() => new Bytes().map())).toBe('EINVAL');
});

it('regions are named as users name them', () => {
  expect([0, RegionIndex.ROM, RegionIndex.CONFIG, NUM_REGIONS].map(regionName)).toEqual(['BAR 0', 'ROM', 'config space', 'region 9']);
});
