/**
 * Numbers from outside, checked once where they come in. NaN, fractions, negatives and 2^53 and
 * above do not pass.
 */
import { type ErrnoName, VfioError } from './errno.ts';

export const U64_MAX = 0xffff_ffff_ffff_ffffn;

/**
 * `value` when it is an integer in [0, max]; otherwise throws `code` and names the argument.
 * Default: EINVAL.
 */
export function checkIndex(value: number, max: number, what: string, code: ErrnoName = 'EINVAL'): number {
  if (!Number.isInteger(value) || value < 0 || value > max) {
    throw new VfioError(code, `${what} is ${String(value)}; it must be ${max === 0 ? '0' : `an integer from 0 to ${max}`}`);
  }
  return value;
}

/** `value` when it is a 32-bit unsigned integer. @throws VfioError EINVAL otherwise */
export function checkU32(value: number, what: string): number {
  return checkIndex(value, 0xffff_ffff, what);
}

/** `value` when it is a bigint in [0, 2^64-1]. @throws VfioError EINVAL otherwise */
export function checkU64(value: bigint, what: string): bigint {
  if (typeof value !== 'bigint' || value < 0n || value > U64_MAX) {
    throw new VfioError('EINVAL', `${what} is ${String(value)}; it must be a bigint from 0 to 2^64-1`);
  }
  return value;
}

/** A buffer of a caller. @throws VfioError EFAULT for what is no Uint8Array */
export function checkBytes(value: Uint8Array, what: string): void {
  if (!(value instanceof Uint8Array)) throw new VfioError('EFAULT', `${what} is not a Uint8Array`);
}

/** Hexadecimal with `0x`, for messages. */
export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}
