import { expect, it } from 'vitest';
import { barAddressMask, barRegisters, romBarSize, validateBars } from './bars.ts';
import { ConfigSpace } from './config-space.ts';
import type { BarDeclaration, PciDeclaration } from './declaration.ts';

const withBars = (bars: readonly unknown[], more: Partial<PciDeclaration> = {}): PciDeclaration => {
  return { name: 'card', vendor: 1, device: 2, classCode: 0, bars: bars as BarDeclaration[], ...more };
};

it('C.1 BAR sizes and places that hardware cannot have are refused with EINVAL', () => {
  const wrong: readonly (readonly unknown[])[] = [
    [{ index: 0, size: 0, type: 'mem32' }],
    [{ index: 0, size: 8, type: 'mem32' }],
    [{ index: 0, size: 0x1001, type: 'mem32' }],
    [{ index: 0, size: 2 ** 32, type: 'mem32' }],
    [{ index: 0, size: 2 ** 53, type: 'mem64' }],
    [{ index: 0, size: Number.NaN, type: 'mem64' }],
    [{ index: 0, size: -4096, type: 'mem64' }],
    [{ index: 0, size: 16.5, type: 'mem32' }],
    [{ index: 0, size: 2, type: 'io' }],
    [{ index: 0, size: 512, type: 'io' }],
    [{ index: 0, size: 64, type: 'io', prefetchable: true }],
    [{ index: 0, size: 64, type: 'io', backing: 'memory' }],
    [{ index: 6, size: 4096, type: 'mem32' }],
    [{ index: -1, size: 4096, type: 'mem32' }],
    [{ index: Number.NaN, size: 4096, type: 'mem32' }],
    [{ index: 5, size: 4096, type: 'mem64' }],
    [{ index: 0, size: 4096, type: 'mem16' }],
    [{ index: 0, size: 4096, type: 'constructor' }],
    [
      { index: 0, size: 4096, type: 'mem64' },
      { index: 1, size: 4096, type: 'mem32' },
    ],
    [
      { index: 2, size: 4096, type: 'mem32' },
      { index: 2, size: 4096, type: 'mem32' },
    ],
  ];
  for (const bars of wrong) {
    expect(() => validateBars(withBars(bars)), JSON.stringify(bars)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => new ConfigSpace(withBars(bars)), JSON.stringify(bars)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  }
  expect(() => validateBars(withBars([{ index: 2, size: 4096, type: 'mem32' }], { header: 'bridge' }))).toThrow(/does not exist/);
  expect(() => validateBars(withBars([], { rom: new Uint8Array(0) }))).toThrow(/ROM/);
});

it('C.1 the masks of each kind of BAR leave its type bits read-only', () => {
  const registers = barRegisters(
    withBars(
      [
        { index: 0, size: 0x1000, type: 'mem32' },
        { index: 1, size: 2 ** 34, type: 'mem64', prefetchable: true },
        { index: 3, size: 32, type: 'io' },
      ],
      { rom: new Uint8Array(3000) },
    ),
  );
  expect(registers).toEqual([
    { offset: 0x10, initial: 0, writable: 0xfffff000 },
    { offset: 0x14, initial: 0xc, writable: 0 },
    { offset: 0x18, initial: 0, writable: 0xfffffffc },
    { offset: 0x1c, initial: 1, writable: 0xffffffe0 },
    { offset: 0x30, initial: 0, writable: 0xfffff001 },
  ]);
});

it('C.1 a ROM BAR has at least 2 KiB and a power of two', () => {
  expect(romBarSize(withBars([]))).toBe(0);
  expect(romBarSize(withBars([], { rom: new Uint8Array(1) }))).toBe(2048);
  expect(romBarSize(withBars([], { rom: new Uint8Array(2049) }))).toBe(4096);
});

it('C.1 address masks are exact for sizes beyond 32 bits', () => {
  expect(barAddressMask(2 ** 40)).toEqual({ low: 0, high: 0xffffff00 });
  expect(barAddressMask(16)).toEqual({ low: 0xfffffff0, high: 0xffffffff });
});
