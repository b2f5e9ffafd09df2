/**
 * Base address registers: what a declaration may say, and the masks that hardware then has (PCI
 * 3.0, 6.2.5). Sizing works because the address bits below a BAR's size are wired to zero.
 */

import { Bar, Config } from '../abi/pci.ts';
import { hex } from '../base/check.ts';
import { VfioError } from '../base/errno.ts';
import type { BarDeclaration, PciDeclaration } from './declaration.ts';

/** One 32-bit BAR register of the hardware. */
export interface BarRegister {
  /** Offset in config space. */
  readonly offset: number;
  /** Type bits, which are read-only, as they read at power-on. */
  readonly initial: number;
  /** Address bits that software can set; the ROM's enable bit too. */
  readonly writable: number;
}

/**
 * Bytes: the smallest memory BAR keeps 4 type bits, the smallest I/O BAR 2; a 32-bit BAR ends at 2
 * GiB, an I/O BAR at 256 (PCI 3.0, 6.2.5.1).
 */
const limits = {
  mem32: { least: 16, most: 2 ** 31 },
  mem64: { least: 16, most: 2 ** 52 },
  io: { least: 4, most: 256 },
} as const;

/** With its article. */
const barNames = { mem32: 'a 32-bit memory BAR', mem64: 'a 64-bit memory BAR', io: 'an I/O BAR' } as const;

/** Bytes: an area that can be mapped is whole pages. */
const PAGE = 4096;

/** Bytes: the smallest expansion ROM BAR has 21 address bits. */
const ROM_LEAST = 2048;
const ROM_MOST = 2 ** 24;

function isPowerOfTwo(value: number): boolean {
  return Number.isSafeInteger(value) && value > 0 && Number.isInteger(Math.log2(value));
}

/** Registers of BARs that a header has: a bridge has two, an endpoint six. */
function barCount(declaration: PciDeclaration): number {
  return declaration.header === 'bridge' ? 2 : Bar.COUNT;
}

/**
 * Refuse BARs that no hardware could have: index out of range or used twice (a 64-bit BAR takes
 * two), size not a power of two or out of range, an I/O BAR that is prefetchable or plain memory.
 *
 * @throws VfioError EINVAL naming the BAR
 */
export function validateBars(declaration: PciDeclaration): void {
  const count = barCount(declaration);
  const usedBy = new Array<number | undefined>(count);
  for (const bar of declaration.bars ?? []) {
    const where = `${declaration.name}: BAR ${String(bar.index)}`;
    const limit = Object.hasOwn(limits, bar.type) ? limits[bar.type] : undefined;
    if (limit === undefined) throw new VfioError('EINVAL', `${where} has type ${String(bar.type)}`, { fix: 'Use mem32, mem64 or io.' });
    const width = bar.type === 'mem64' ? 2 : 1;
    if (!Number.isInteger(bar.index) || bar.index < 0 || bar.index + width > count) {
      throw new VfioError('EINVAL', `${where} does not exist: ${barNames[bar.type]} here has an index from 0 to ${count - width}`);
    }
    if (!isPowerOfTwo(bar.size) || bar.size < limit.least || bar.size > limit.most) {
      throw new VfioError(
        'EINVAL',
        `${where} has size ${String(bar.size)}; ${barNames[bar.type]} is a power of two from ${limit.least} to ${hex(limit.most)}`,
      );
    }
    if (bar.type === 'io' && (bar.prefetchable === true || bar.backing === 'memory')) {
      throw new VfioError('EINVAL', `${where} is I/O space, which cannot be prefetchable or plain memory`);
    }
    if (bar.sparseAreas !== undefined) validateAreas(bar, where);
    for (const { offset, size, value } of bar.doorbells ?? []) {
      const fits =
        [1, 2, 4, 8].includes(size) && Number.isInteger(offset) && offset >= 0 && offset % size === 0 && offset + size <= bar.size;
      if (!fits || (value !== null && (value < 0n || value >= 1n << BigInt(8 * size)))) {
        throw new VfioError('EINVAL', `${where} has a doorbell of ${String(size)} bytes at ${String(offset)}, value ${String(value)}`, {
          fix: 'A doorbell is 1, 2, 4 or 8 bytes, aligned, inside the BAR, and its value fits it.',
        });
      }
    }
    for (let i = bar.index; i < bar.index + width; i++) {
      if (usedBy[i] !== undefined) {
        throw new VfioError('EINVAL', `${where} overlaps BAR ${usedBy[i]}`, { fix: 'A 64-bit BAR takes its own index and the next one.' });
      }
      usedBy[i] = bar.index;
    }
  }
  if (declaration.rom !== undefined && (declaration.rom.length === 0 || declaration.rom.length > ROM_MOST)) {
    throw new VfioError('EINVAL', `${declaration.name}: ROM has ${declaration.rom.length} bytes; it must have from 1 to ${ROM_MOST}`);
  }
}

/** @throws VfioError EINVAL naming the BAR */
function validateAreas({ type, backing, mappable, size, sparseAreas = [] }: BarDeclaration, where: string): void {
  if (type === 'io' || backing === 'memory' || mappable === false) {
    const what = type === 'io' ? 'I/O space' : backing === 'memory' ? 'plain memory' : 'not mappable';
    throw new VfioError('EINVAL', `${where} has areas that can be mapped, and is ${what}`, {
      fix: 'Only parts of a memory BAR of registers can be areas.',
    });
  }
  let end = 0;
  for (const area of sparseAreas) {
    const pages = [area.offset, area.size].every((bytes) => Number.isInteger(bytes) && bytes % PAGE === 0) && area.size > 0;
    if (!pages || area.offset < end || area.offset + area.size > size) {
      throw new VfioError('EINVAL', `${where} has an area of ${String(area.size)} bytes at ${String(area.offset)}`, {
        fix: `An area is whole pages of ${PAGE} bytes, inside the BAR, behind the area before it.`,
      });
    }
    end = area.offset + area.size;
  }
}

/** Bytes of the ROM BAR: the image rounded up to a power of two; 0 without a ROM. */
export function romBarSize(declaration: PciDeclaration): number {
  if (declaration.rom === undefined) return 0;
  return Math.max(ROM_LEAST, 2 ** Math.ceil(Math.log2(declaration.rom.length)));
}

/** The type bits of a BAR. */
export function barTypeBits(bar: BarDeclaration): number {
  if (bar.type === 'io') return Bar.SPACE_IO;
  return (bar.type === 'mem64' ? Bar.MEM_TYPE_64 : 0) | (bar.prefetchable === true ? Bar.MEM_PREFETCH : 0);
}

/** Bits of a register's low and high half that are address bits, for a region of `size` bytes. */
export function barAddressMask(size: number): { readonly low: number; readonly high: number } {
  const mask = ~(BigInt(size) - 1n);
  return { low: Number(BigInt.asUintN(32, mask)), high: Number(BigInt.asUintN(32, mask >> 32n)) };
}

/**
 * The registers that a declaration gives, ROM BAR included.
 * @throws VfioError EINVAL as `validateBars`
 */
export function barRegisters(declaration: PciDeclaration): readonly BarRegister[] {
  validateBars(declaration);
  if (declaration.virtualFunction === true) return [];
  const registers: BarRegister[] = [];
  for (const bar of declaration.bars ?? []) {
    const offset = Config.BASE_ADDRESS_0 + 4 * bar.index;
    const mask = barAddressMask(bar.size);
    const addressBits = bar.type === 'io' ? Bar.IO_MASK : Bar.MEM_MASK;
    registers.push({ offset, initial: barTypeBits(bar), writable: (mask.low & addressBits) >>> 0 });
    if (bar.type === 'mem64') registers.push({ offset: offset + 4, initial: 0, writable: mask.high });
  }
  const rom = romBarSize(declaration);
  if (rom !== 0) {
    const offset = declaration.header === 'bridge' ? Config.BRIDGE_ROM_ADDRESS : Config.ROM_ADDRESS;
    registers.push({ offset, initial: 0, writable: ((barAddressMask(rom).low & Bar.ROM_MASK) | Bar.ROM_ENABLE) >>> 0 });
  }
  return registers;
}
