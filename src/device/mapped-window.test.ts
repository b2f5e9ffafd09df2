import { expect, it } from 'vitest';
import { errnoFrom } from '../../tests/kit/errno.ts';
import { BusError } from '../abi/bus-error.ts';
import type { Width } from '../abi/device-host.ts';
import { MappedWindow } from './mapped-window.ts';
import { load, store } from './register-value.ts';

/** A page of which the region has 10 bytes; notes the accesses that reach the registers. */
class Page extends MappedWindow {
  readonly memory = null;
  readonly accesses: string[] = [];
  readonly bytes = Uint8Array.from({ length: 16 }, (_, i) => 0x11 * i);
  protected readonly name = 'device BAR 0';
  released = 0;
  refuses = false;
  closed = false;

  constructor() {
    super(4096, 10);
  }

  protected answers(): boolean {
    return !this.refuses;
  }
  protected fault(): void {
    if (this.refuses) throw new BusError('asleep');
  }
  protected load(offset: number, width: Width): number {
    this.accesses.push(`r${width}@${offset}`);
    return load(this.bytes, offset, width);
  }
  protected load64(offset: number): bigint {
    this.accesses.push(`r8@${offset}`);
    return new DataView(this.bytes.buffer).getBigUint64(offset, true);
  }
  protected store(offset: number, width: Width, value: number): void {
    this.accesses.push(`w${width}@${offset}`);
    store(this.bytes, offset, width, value);
  }
  protected store64(offset: number, value: bigint): void {
    this.accesses.push(`w8@${offset}`);
    new DataView(this.bytes.buffer).setBigUint64(offset, value, true);
  }
  protected release(): void {
    this.released++;
  }
}

it('an aligned access reaches the registers at once, whole', () => {
  const page = new Page();
  expect([page.read8(1), page.read16(2), page.read32(4), page.read64(0)]).toEqual([0x11, 0x3322, 0x77665544, 0x7766554433221100n]);
  page.write8(0, 1);
  page.write16(2, 2);
  page.write32(4, 3);
  page.write64(0, 4n);
  expect(page.accesses).toEqual(['r1@1', 'r2@2', 'r4@4', 'r8@0', 'w1@0', 'w2@2', 'w4@4', 'w8@0']);
});

it('a misaligned access is split into bytes', () => {
  const page = new Page();
  expect([page.read16(1), page.read32(5)]).toEqual([0x2211, 0x88776655]);
  page.write16(3, 0xabcd);
  expect([...page.bytes.subarray(3, 5)]).toEqual([0xcd, 0xab]);
  expect(page.accesses.every((access) => access.startsWith('r1') || access.startsWith('w1'))).toBe(true);
});

it('a misaligned access of 8 bytes is split into two of 4', () => {
  const page = new Page();
  expect(page.read64(2)).toBe(0x99887766_55443322n);
});

it('behind the region’s end reads give ones and writes are dropped', () => {
  const page = new Page();
  expect([page.read8(10), page.read16(12), page.read32(4092), page.read64(16)]).toEqual([0xff, 0xffff, 0xffff_ffff, 2n ** 64n - 1n]);
  page.write32(12, 5);
  page.write64(4088, 5n);
  expect(page.accesses).toEqual([]);
  expect(page.read32(7)).toBe(0xff998877);
});

it('an access outside of the mapping is EFAULT', () => {
  const page = new Page();
  for (const offset of [-1, 4094, 4096, 2 ** 53, 0.5, Number.NaN, '4' as never]) {
    expect([offset, errnoFrom(() => page.read32(offset)), errnoFrom(() => page.write64(offset, 0n))]).toEqual([offset, 'EFAULT', 'EFAULT']);
  }
});

it('a value that does not fit is EINVAL', () => {
  const page = new Page();
  const wrong = [() => page.write8(0, 256), () => page.write16(0, -1), () => page.write32(0, 1.5), () => page.write64(0, 2n ** 64n)];
  expect(wrong.map(errnoFrom)).toEqual(Array(4).fill('EINVAL'));
  expect(page.accesses).toEqual([]);
});

it('a device that does not answer gives a BusError, in the whole mapping', () => {
  const page = new Page();
  page.refuses = true;
  expect([errnoFrom(() => page.read32(0)), errnoFrom(() => page.read8(100)), errnoFrom(() => page.write64(0, 1n))]).toEqual([
    'BusError',
    'BusError',
    'BusError',
  ]);
  page.refuses = false;
  expect(page.read8(1)).toBe(0x11);
});

it('a mapping is released once, and is EFAULT afterwards', () => {
  const page = new Page();
  page[Symbol.dispose]();
  page[Symbol.dispose]();
  expect(page.released).toBe(1);
  expect(() => page.read8(0)).toThrow(/mapping of device BAR 0 was disposed/);
  page.closed = true;
  expect(() => page.write64(0, 0n)).toThrow(/the device is closed/);
});
