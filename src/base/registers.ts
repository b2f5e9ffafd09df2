/**
 * Registers by name, declared once for both sides of a device:
 *
 *     export const Card = registers({
 *       ident: u32(0x00, 'ro'),
 *       length: u32(0x08),
 *       status: u32(0x20, { computing: bit(0, 'ro'), interrupt: bit(7) }),
 *       address: u64(0x80),
 *     });
 *
 * A driver uses the map as it is (`dev.bar(0, Card)`); a model lays behaviour over it
 * (`bar('4K', Card, { ident: { reset: 1 } })`). A map says what a data sheet says: where a register
 * is, how wide it is, and what software may do with its bits.
 */
import { type BitField, type BitFields, checkFields } from './bit-fields.ts';
import { hex } from './check.ts';
import { shownValue } from './declared.ts';
import { VfioError } from './errno.ts';

/**
 * The access that software has to a register: read and write, read, write, or clear bits by writing
 * ones.
 */
export type SoftwareAccess = 'rw' | 'ro' | 'wo' | 'w1c';

/** Bytes of a register. */
export type RegisterBytes = 1 | 2 | 4 | 8;

/**
 * One register of a map: its place, its width, and what software may do with its bits. `u8`, `u16`,
 * `u32` and `u64` make it.
 *
 * @typeParam N its value: a number, or a bigint where the register has 64 bits
 */
export interface Register<N extends number | bigint = number | bigint> {
  readonly bytes: RegisterBytes;
  /** Offset from the start of the map. */
  readonly offset: number;
  readonly access: SoftwareAccess;
  readonly fields: BitFields | null;
  /** Never set; carries the type. */
  readonly raw?: N;
}

/** 8 bits. */
export interface U8 extends Register<number> {
  readonly bytes: 1;
}

/** 16 bits. */
export interface U16 extends Register<number> {
  readonly bytes: 2;
}

/** 32 bits. */
export interface U32 extends Register<number> {
  readonly bytes: 4;
}

/** 64 bits, a bigint. */
export interface U64 extends Register<bigint> {
  readonly bytes: 8;
}

/** A register that software does not write. */
export type ReadOnly<T extends Register> = T & { readonly access: 'ro' };

/**
 * A register with fields: the names of those that software writes, and of those that it only reads.
 */
export type WithFields<T extends Register, Written extends string, Read extends string = never> = T & {
  readonly fields: BitFields;
  /** Never set; carries the names. */
  readonly names?: { readonly written: Written; readonly read: Read };
};

/** A register map: registers by name. */
export type Registers = Readonly<Record<string, Register>>;

/** The value of a register: a number or a bigint. */
export type RawOf<R> = R extends Register<infer N> ? N : never;

type ReadNames<F> = { [K in keyof F]: F[K] extends BitField<'ro'> ? K : never }[keyof F] & string;
type Declared<T extends Register, F extends BitFields> = WithFields<T, Exclude<keyof F & string, ReadNames<F>>, ReadNames<F>>;
type Given<T extends Register, A extends SoftwareAccess> = A extends 'ro' ? ReadOnly<T> : T;

type FieldsOf<R> = R extends { readonly names?: { readonly written: infer W extends string; readonly read: infer O extends string } }
  ? readonly [W, O]
  : null;

/** The registers as a driver sees them. Registers that software does not write are `readonly`. */
export type DriverView<R extends Registers> = {
  -readonly [K in keyof R as Writable<R[K]> extends true ? K : never]: RawOf<R[K]>;
} & {
  readonly [K in keyof R as Writable<R[K]> extends true ? never : K]: FieldsOf<R[K]> extends readonly [
    infer W extends string,
    infer O extends string,
  ]
    ? DriverFields<W, O, RawOf<R[K]>>
    : RawOf<R[K]>;
};

/** The fields of a register as a driver sees them, and all of its bits as `value`. */
export type DriverFields<W extends string, O extends string, N> = { [K in W]: number } & { readonly [K in O]: number } & { value: N };

type Writable<R> = FieldsOf<R> extends null ? (R extends { readonly access: 'ro' } ? false : true) : false;

/**
 * The registers as their model sees them. A model also writes the registers that software cannot.
 */
export type ModelView<R extends Registers> = {
  -readonly [K in keyof R as FieldsOf<R[K]> extends null ? K : never]: RawOf<R[K]>;
} & {
  readonly [K in keyof R as FieldsOf<R[K]> extends null ? never : K]: FieldsOf<R[K]> extends readonly [
    infer W extends string,
    infer O extends string,
  ]
    ? { [F in W | O]: number } & { value: RawOf<R[K]> }
    : never;
};

const accesses: readonly unknown[] = ['rw', 'ro', 'wo', 'w1c'] satisfies readonly SoftwareAccess[];
const MAX_OFFSET = 2 ** 53 - 8;

function declare(bytes: RegisterBytes, offset: number, given: SoftwareAccess | BitFields = 'rw'): never {
  const what = `u${8 * bytes}(${Number.isSafeInteger(offset) && offset >= 0 ? hex(offset) : String(offset)})`;
  if (!Number.isSafeInteger(offset) || offset < 0 || offset > MAX_OFFSET || offset % bytes !== 0) {
    throw new VfioError('EINVAL', `${what}: the offset must be a multiple of ${bytes}`);
  }
  if (typeof given === 'string' && accesses.includes(given)) return Object.freeze({ bytes, offset, access: given, fields: null }) as never;
  if (typeof given !== 'object' || given === null) {
    throw new VfioError('EINVAL', `${what} is given ${shownValue(given)}; it takes 'rw', 'ro', 'wo', 'w1c', or fields`, {
      fix: 'Fields are written { ready: bit(0), level: bits(7, 4) }.',
    });
  }
  checkFields(what, 8 * bytes, given);
  return Object.freeze({ bytes, offset, access: 'rw', fields: given }) as never;
}

/**
 * A register of 8 bits.
 * @param access what software may do with it, or its fields. Default: 'rw'.
 */
export function u8<const A extends SoftwareAccess = 'rw'>(offset: number, access?: A): Given<U8, A>;
export function u8<const F extends BitFields>(offset: number, fields: F): Declared<U8, F>;
export function u8(offset: number, given?: SoftwareAccess | BitFields): U8 {
  return declare(1, offset, given);
}

/**
 * A register of 16 bits.
 * @param access what software may do with it, or its fields. Default: 'rw'.
 */
export function u16<const A extends SoftwareAccess = 'rw'>(offset: number, access?: A): Given<U16, A>;
export function u16<const F extends BitFields>(offset: number, fields: F): Declared<U16, F>;
export function u16(offset: number, given?: SoftwareAccess | BitFields): U16 {
  return declare(2, offset, given);
}

/**
 * A register of 32 bits.
 * @param access what software may do with it, or its fields. Default: 'rw'.
 */
export function u32<const A extends SoftwareAccess = 'rw'>(offset: number, access?: A): Given<U32, A>;
export function u32<const F extends BitFields>(offset: number, fields: F): Declared<U32, F>;
export function u32(offset: number, given?: SoftwareAccess | BitFields): U32 {
  return declare(4, offset, given);
}

/**
 * A register of 64 bits: a bigint. Its fields are numbers, which a driver reads and writes by
 * 32-bit halves.
 *
 * @param access what software may do with it, or its fields. Default: 'rw'.
 */
export function u64<const A extends SoftwareAccess = 'rw'>(offset: number, access?: A): Given<U64, A>;
export function u64<const F extends BitFields>(offset: number, fields: F): Declared<U64, F>;
export function u64(offset: number, given?: SoftwareAccess | BitFields): U64 {
  return declare(8, offset, given);
}

/**
 * A register map. Registers may share bytes: a read-only and a write-only one, or registers that a
 * bank selects.
 *
 * @throws VfioError EINVAL naming a value that is no register
 */
export function registers<const R extends Registers>(declared: R): R {
  checkRegisters('registers()', declared);
  return Object.freeze({ ...declared }) as R;
}

/**
 * Checks a map that no compiler has checked. @throws VfioError EINVAL naming a value that is no
 * register
 */
export function checkRegisters(what: string, declared: unknown): asserts declared is Registers {
  if (typeof declared !== 'object' || declared === null || Array.isArray(declared)) {
    throw new VfioError('EINVAL', `${what} is given ${shownValue(declared)}; it takes an object of registers`);
  }
  for (const [name, register] of Object.entries(declared)) {
    if (name === 'constructor') throw new VfioError('EINVAL', `${what}: a register cannot be called '${name}'`);
    const { bytes, access } = (register ?? {}) as Partial<Register>;
    if (![1, 2, 4, 8].includes(bytes as number) || !accesses.includes(access)) {
      throw new VfioError('EINVAL', `${what}: '${name}' is no register`, {
        fix: 'Write u8(offset), u16(offset), u32(offset) or u64(offset).',
      });
    }
  }
}
