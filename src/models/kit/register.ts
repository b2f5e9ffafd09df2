/**
 * The behaviour that a model lays over a register of a map, and the two together: a register as the
 * register file runs it.
 */
import { type BitFields, fieldMask } from '../../base/bit-fields.ts';
import { type Check, callable, flag, keys, listOf, oneOf } from '../../base/declared.ts';
import { VfioError } from '../../base/errno.ts';
import type { ModelView, RawOf, Register, RegisterBytes, Registers } from '../../base/registers.ts';

/** The behaviour of one register. @typeParam N its value: a number, or a bigint for 64 bits */
export interface Behaviour<N = number | bigint, View = never> {
  /** Value after power-on and reset. Default: those of its fields, else 0. */
  readonly reset?: N;
  /** The bits that software writes. Default: all that its map lets software write. */
  readonly writable?: N;
  /**
   * The value that a write stores, from the value written and the value there. Effects on the
   * device go to `on` of `device()`.
   */
  readonly store?: (written: N, current: N) => N;
  /**
   * The value that a read shows, from the value stored. A value that depends on the device goes to
   * `read` of `device()`.
   */
  readonly show?: (stored: N) => N;
  /**
   * Access widths (bytes) that the register answers. At others, reads are all ones and writes are
   * dropped. Default: every width.
   */
  readonly widths?: readonly RegisterBytes[];
  /**
   * A narrower write at the register's offset sets all of it, zero-extended. Default: it replaces
   * the bytes that it has.
   */
  readonly zeroExtend?: boolean;
  /**
   * The bank of registers that share their offset: the register is there while the function gives
   * true. Without a function it is there while no other is.
   */
  readonly when?: (registers: View) => boolean;
}

/** Behaviour by register; registers that it lacks just keep their bits. */
export type Behaviours<R extends Registers> = { readonly [K in keyof R]?: Behaviour<RawOf<R[K]>, ModelView<R>> };

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
  readonly zeroExtend: boolean;
  readonly store: ((written: never, current: never) => number | bigint) | null;
  readonly show: ((stored: never) => number | bigint) | null;
  readonly when: ((registers: never) => boolean) | null;
}

/** The value is checked where its size is known. */
const value: Check = () => {};

const checkBehaviour = keys({
  reset: value,
  writable: value,
  store: callable,
  show: callable,
  widths: listOf(oneOf(1, 2, 4, 8)),
  zeroExtend: flag,
  when: callable,
} satisfies Record<keyof Behaviour, Check>);

export function allOnes(bytes: number): bigint {
  return (1n << BigInt(bytes * 8)) - 1n;
}

/**
 * A register of a map with its behaviour.
 *
 * @param what for messages: `register status`
 * @throws VfioError EINVAL for behaviour that cannot be
 */
export function declareRegister(what: string, register: Register, behaviour: Behaviour<never, never> = {}): RegisterDeclaration {
  checkBehaviour(behaviour, `the behaviour of ${what}`);
  const { offset, bytes, access, fields } = register;
  const { reset, writable, store, show, widths, zeroExtend, when } = behaviour as unknown as Behaviour<number | bigint, never>;
  if (offset > 0xffff_fff8) throw new VfioError('EINVAL', `${what} is not in the first 4 GiB`);
  const checked = (given: number | bigint): bigint => {
    const fits = typeof given === 'bigint' || Number.isSafeInteger(given);
    if (!fits || given < 0 || given > allOnes(bytes))
      throw new VfioError('EINVAL', `${what}: ${String(given)} does not fit in ${bytes * 8} bits`);
    return BigInt(given);
  };
  const declared = fields === null ? bitsOfAccess(access, bytes) : bitsOfFields(fields);
  return {
    offset,
    bytes,
    reset: reset === undefined ? declared.reset : checked(reset),
    writable: writable === undefined ? declared.writable : checked(writable) & declared.writable,
    writeOneClears: declared.writeOneClears,
    readable: access !== 'wo',
    fields,
    widths: (widths ?? [1, 2, 4, 8]).reduce<number>((all, width) => all | width, 0),
    zeroExtend: zeroExtend ?? false,
    store: store ?? null,
    show: show ?? null,
    when: when ?? null,
  };
}

interface Bits {
  readonly reset: bigint;
  readonly writable: bigint;
  readonly writeOneClears: bigint;
}

function bitsOfAccess(access: Register['access'], bytes: number): Bits {
  const all = allOnes(bytes);
  return { reset: 0n, writable: access === 'rw' || access === 'wo' ? all : 0n, writeOneClears: access === 'w1c' ? all : 0n };
}

/** Bits outside of the fields read zero, and a write does not change them. */
function bitsOfFields(fields: BitFields): Bits {
  let [reset, writable, writeOneClears] = [0n, 0n, 0n];
  for (const field of Object.values(fields)) {
    const mask = BigInt(fieldMask(field)) << BigInt(field.lsb);
    if (field.access === 'rw') writable |= mask;
    if (field.access === 'w1c') writeOneClears |= mask;
    reset |= BigInt(field.reset) << BigInt(field.lsb);
  }
  return { reset, writable, writeOneClears };
}
