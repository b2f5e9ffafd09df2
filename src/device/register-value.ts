/** Values of a register's width: whether a value fits, and the bytes of a register. */
import type { Width } from '../abi/device-host.ts';
import { VfioError } from '../base/errno.ts';

/** Whether `value` is an unsigned integer of `width` bytes. */
export function fitsWidth(width: Width, value: number): boolean {
  if (typeof value !== 'number') return false;
  return (width === 4 ? value >>> 0 : width === 2 ? value & 0xffff : value & 0xff) === value;
}

/** @throws VfioError EINVAL when `value` is no unsigned integer of `width` bytes */
export function checkRegisterValue(width: Width, value: number): void {
  if (!fitsWidth(width, value)) throw new VfioError('EINVAL', `value ${String(value)} does not fit ${width} bytes`);
}

/** The register of `width` bytes at `at`, little-endian. */
export function load(bytes: Uint8Array, at: number, width: Width): number {
  if (width === 1) return bytes[at]!;
  if (width === 2) return bytes[at]! | (bytes[at + 1]! << 8);
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

/** Write a register of `width` bytes at `at`, little-endian. */
export function store(bytes: Uint8Array, at: number, width: Width, value: number): void {
  bytes[at] = value & 0xff;
  if (width === 1) return;
  bytes[at + 1] = (value >>> 8) & 0xff;
  if (width === 2) return;
  bytes[at + 2] = (value >>> 16) & 0xff;
  bytes[at + 3] = value >>> 24;
}
