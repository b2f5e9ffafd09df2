/**
 * One register of a model, declared: `reg(0x20, { computing: bit(0, 'ro'), interrupt: bit(7) })`.
 * A declaration is a value: every method gives a new one. What it means at run time is in register-file.ts.
 */

import { type BitFields, checkFields, fieldMask } from '../../base/bit-fields.ts';
import { callable, oneOf } from '../../base/declared.ts';
import { VfioError } from '../../base/errno.ts';

/** What the model sees of a register with fields: the fields as numbers, and all of them at once. */
export type FieldsView<F extends BitFields, N = number> = { -readonly [K in keyof F]: number } & { value: N };

/** Bytes of a register. */
export type RegisterBytes = 1 | 2 | 4 | 8;

export interface RegisterDeclaration {
  readonly offset: number;
  readonly bytes: RegisterBytes;
  readonly reset: bigint;
  /** Bits that software may write, those cleared by writing one not among them. */
  readonly writable: bigint;
  readonly writeOneClears: bigint;
  /** False: reads find nothing, as in a hole of the BAR. */
  readonly readable: boolean;
  readonly fields: BitFields | null;
  /** Access widths that it answers, OR-ed: 1 | 2 | 4 | 8. */
  readonly widths: number;
  /** A narrower write at its offset sets all of it; its other bytes are a hole to narrower accesses. */
  readonly zeroExtend: boolean;
  readonly onWrite: ((written: never, current: never) => number | bigint) | null;
  readonly onRead: ((stored: never) => number | bigint) | null;
}

/** @typeParam V what the model sees: N, or an object of fields   @typeParam N what its hooks calculate with: number, bigint for u64 */
export class Reg<V, N extends number | bigint = number> {
  readonly declaration: RegisterDeclaration;
  /** Never set; carries the type. */
  declare readonly types: { readonly view: V; readonly raw: N };

  readonly #fresh: boolean;

  constructor(declaration: RegisterDeclaration, fresh: boolean) {
    this.declaration = declaration;
    this.#fresh = fresh;
  }

  u8(): Reg<number>;
  u8<const F extends BitFields>(fields: F): Reg<FieldsView<F>>;
  u8(fields?: BitFields): Reg<unknown> {
    return this.#sized(1, fields);
  }

  u16(): Reg<number>;
  u16<const F extends BitFields>(fields: F): Reg<FieldsView<F>>;
  u16(fields?: BitFields): Reg<unknown> {
    return this.#sized(2, fields);
  }

  u32(): Reg<number>;
  u32<const F extends BitFields>(fields: F): Reg<FieldsView<F>>;
  u32(fields?: BitFields): Reg<unknown> {
    return this.#sized(4, fields);
  }

  /** 64 bits: a bigint to the model, unless it has fields. */
  u64(): Reg<bigint, bigint>;
  u64<const F extends BitFields>(fields: F): Reg<FieldsView<F, bigint>, bigint>;
  u64(fields?: BitFields): Reg<unknown, bigint> {
    return this.#sized(8, fields) as Reg<unknown, bigint>;
  }

  /** Software reads it and cannot write it; the model can. */
  ro(value: number | bigint = this.declaration.reset): Reg<V, N> {
    return this.#with({ writable: 0n, writeOneClears: 0n, reset: this.#fit(value) });
  }

  /** Software writes it; reads find nothing there. */
  wo(): Reg<V, N> {
    return this.#with({ readable: false });
  }

  /** Software clears bits by writing ones to them: all of the register, or those of `mask`. */
  w1c(mask: number | bigint = allOnes(this.declaration.bytes)): Reg<V, N> {
    const clears = this.#fit(mask);
    return this.#with({ writeOneClears: clears, writable: this.declaration.writable & ~clears });
  }

  /** Only these bits can be written. */
  writable(mask: number | bigint): Reg<V, N> {
    return this.#with({ writable: this.#fit(mask) & ~this.declaration.writeOneClears });
  }

  /** Value after power-on and reset; 0 unless told. */
  reset(value: number | bigint): Reg<V, N> {
    return this.#with({ reset: this.#fit(value) });
  }

  /** Change what a write stores, from what was written and what was there. What needs the device goes to `on` of `device()`. */
  onWrite(store: (written: N, current: N) => N): Reg<V, N> {
    callable(store, `onWrite of the ${this.#name}`);
    return this.#with({ onWrite: store });
  }

  /** Change what a read shows, from what is stored. What needs the device goes to `read` of `device()`. */
  onRead(show: (stored: N) => N): Reg<V, N> {
    callable(show, `onRead of the ${this.#name}`);
    return this.#with({ onRead: show });
  }

  /** Answer accesses of these widths (bytes) only; others read all ones and their writes are dropped. */
  widths(...widths: readonly RegisterBytes[]): Reg<V, N> {
    for (const width of widths) oneOf(1, 2, 4, 8)(width, `a width of the ${this.#name}`);
    return this.#with({ widths: widths.reduce((all, w) => all | w, 0) });
  }

  /** A narrower write at its offset sets the whole register, zero-extended, instead of replacing its own bytes only. */
  zeroExtend(): Reg<V, N> {
    return this.#with({ zeroExtend: true });
  }

  get #name(): string {
    return `register at 0x${this.declaration.offset.toString(16)}`;
  }

  #with(change: Partial<RegisterDeclaration>): Reg<V, N> {
    return new Reg<V, N>({ ...this.declaration, ...change }, false);
  }

  #sized(bytes: RegisterBytes, fields: BitFields | undefined): Reg<unknown, never> {
    const { offset } = this.declaration;
    if (!this.#fresh) throw new VfioError('EINVAL', `${this.#name}: give its size first, right after reg(offset)`);
    return new Reg(declare(offset, bytes, fields ?? null), false);
  }

  #fit(value: number | bigint): bigint {
    const { bytes } = this.declaration;
    const fits = typeof value === 'bigint' || Number.isSafeInteger(value);
    if (!fits || value < 0 || value > allOnes(bytes)) {
      throw new VfioError('EINVAL', `${this.#name}: ${String(value)} does not fit in ${bytes * 8} bits`);
    }
    return BigInt(value);
  }
}

export function allOnes(bytes: number): bigint {
  return (1n << BigInt(bytes * 8)) - 1n;
}

function declare(offset: number, bytes: RegisterBytes, fields: BitFields | null): RegisterDeclaration {
  if (!Number.isInteger(offset) || offset < 0 || offset > 0xffff_fff8)
    throw new VfioError('EINVAL', `register offset ${String(offset)} is not in the first 4 GiB`);
  const at = `register at 0x${offset.toString(16)}`;
  let reset = 0n;
  let writable = allOnes(bytes);
  let writeOneClears = 0n;
  if (fields !== null) {
    checkFields(at, bytes * 8, fields);
    writable = 0n;
    for (const field of Object.values(fields)) {
      const mask = BigInt(fieldMask(field)) << BigInt(field.lsb);
      if (field.access === 'rw') writable |= mask;
      if (field.access === 'w1c') writeOneClears |= mask;
      reset |= BigInt(field.reset) << BigInt(field.lsb);
    }
  }
  return {
    offset,
    bytes,
    reset,
    writable,
    writeOneClears,
    readable: true,
    fields,
    widths: 15,
    zeroExtend: false,
    onWrite: null,
    onRead: null,
  };
}

/** A register of 32 bits that software reads and writes, unless told otherwise. Bits outside `fields` read zero and cannot be written. */
export function reg(offset: number): Reg<number>;
export function reg<const F extends BitFields>(offset: number, fields: F): Reg<FieldsView<F>>;
export function reg(offset: number, fields?: BitFields): Reg<unknown> {
  return new Reg(declare(offset, 4, fields ?? null), fields === undefined);
}
