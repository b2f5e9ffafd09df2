/**
 * Fields of a register, written the way specifications print them: most significant bit first, then
 * the access.
 *
 *     { rdy: bit(0, 'ro'), shst: bits(3, 2, 'ro'), nssro: bit(4, 'w1c') }
 */
import { VfioError } from './errno.ts';

/** How a register stores a field: read and write, read only, or write 1 to clear. */
export type BitAccess = 'rw' | 'ro' | 'w1c';

export interface BitField<A extends BitAccess = BitAccess> {
  readonly msb: number;
  readonly lsb: number;
  /** 'w1c': software clears the field by writing ones. */
  readonly access: A;
  /** Value after power-on and reset. */
  readonly reset: number;
}

const accesses: readonly unknown[] = ['rw', 'ro', 'w1c'] satisfies readonly BitAccess[];

export type BitFields = Readonly<Record<string, BitField>>;

/** One bit. Default: software reads and writes it, and it is 0 after a reset. */
export function bit<A extends BitAccess = 'rw'>(at: number, access?: A, reset: 0 | 1 = 0): BitField<A> {
  return { msb: at, lsb: at, access: access ?? ('rw' as A), reset };
}

/** Bits `msb` to `lsb`, both included; at most 32 of them. */
export function bits<A extends BitAccess = 'rw'>(msb: number, lsb: number, access?: A, reset = 0): BitField<A> {
  return { msb, lsb, access: access ?? ('rw' as A), reset };
}

/** The field's bits within the 32-bit half that holds it (see `checkFields`), unshifted. */
export function fieldMask(field: BitField): number {
  const width = field.msb - field.lsb + 1;
  return width === 32 ? 0xffff_ffff : 2 ** width - 1;
}

/**
 * Checks a declaration at load: fields lie within the register, do not overlap, and do not straddle
 * bit 32, so that each is a plain number.
 *
 * @throws Error naming the register and the field
 */
export function checkFields(register: string, width: number, fields: BitFields): void {
  let used = 0n;
  for (const [name, field] of Object.entries(fields)) {
    const what = `${register}.${name}`;
    if (typeof field !== 'object' || field === null) {
      throw new VfioError('EINVAL', `${what} is no field`, { fix: 'Write bit(number) or bits(most significant, least significant).' });
    }
    const { msb, lsb, access, reset } = field;
    if (!accesses.includes(access)) {
      throw new VfioError('EINVAL', `${what}: access is '${String(access)}'; it takes 'rw', 'ro' or 'w1c'`);
    }
    if (!Number.isInteger(msb) || !Number.isInteger(lsb) || lsb < 0 || msb < lsb || msb >= width) {
      throw new VfioError(
        'EINVAL',
        `${what}: bits ${msb}:${lsb} do not lie in a register of ${width} bits (write the most significant bit first)`,
      );
    }
    if (name === 'value' || name === 'constructor') throw new VfioError('EINVAL', `${register}: a field cannot be called '${name}'`);
    if (lsb < 32 && msb >= 32) throw new VfioError('EINVAL', `${what}: bits ${msb}:${lsb} straddle bit 32; declare two fields`);
    if (!Number.isInteger(reset) || reset < 0 || reset > fieldMask(field)) {
      throw new VfioError('EINVAL', `${what}: reset value ${reset} does not fit in ${msb - lsb + 1} bits`);
    }
    const mask = BigInt(fieldMask(field)) << BigInt(lsb);
    if ((used & mask) !== 0n) throw new VfioError('EINVAL', `${what}: bits ${msb}:${lsb} belong to another field already`);
    used |= mask;
  }
}
