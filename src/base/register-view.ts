/**
 * The common part of views of registers, a driver's and a model's. A name that no register has is
 * an error instead of `undefined`, and so is a value that no register can hold. Names that exist
 * cost nothing, because a look-up gets here only for names that the view itself lacks.
 */
import { VfioError } from './errno.ts';
import { nearest } from './nearest.ts';

/** Names that the language and common tools look up on any object. */
const probed = new Set(['then', 'toJSON', 'constructor', 'asymmetricMatch', 'nodeType', 'tagName', '$$typeof']);

/** The end of a view's prototype chain. @param what for messages: `register`, `field of status` */
export function strictNames(what: string, names: readonly string[]): object {
  const unknown = (name: string): VfioError => {
    const near = nearest(name, names);
    return new VfioError('EINVAL', `there is no ${what} '${name}'`, {
      fix: near === null ? `There is ${names.slice(0, 12).join(', ')}${names.length > 12 ? ', …' : ''}.` : `Did you mean '${near}'?`,
    });
  };
  return new Proxy(Object.prototype, {
    get(target, name, receiver) {
      if (typeof name === 'string' && !Object.hasOwn(target, name) && !probed.has(name) && !name.startsWith('@@')) throw unknown(name);
      return Reflect.get(target, name, receiver);
    },
    set(_target, name) {
      throw unknown(String(name));
    },
  });
}

/** A register or field of fewer than 33 bits. */
export interface Bits {
  /** For messages. */
  readonly name: string;
  readonly bits: number;
  /** The lowest `bits` bits. */
  readonly mask: number;
}

export function bitsOf(name: string, bits: number): Bits {
  return { name, bits, mask: bits === 32 ? 0xffff_ffff : 2 ** bits - 1 };
}

/**
 * The value to store: an unsigned integer of `bits` bits, or a negative one in two's complement, as
 * `~mask` gives.
 * @throws VfioError EINVAL for any other
 */
export function fitted(into: Bits, value: unknown): number {
  if (typeof value === 'number') {
    const low = (value & into.mask) >>> 0;
    if (low === value) return low;
    if (Number.isInteger(value) && value < 0 && value >= -(2 ** (into.bits - 1))) return low;
  }
  throw misfit(into.name, value, `an integer of ${into.bits} bit${into.bits === 1 ? '' : 's'}`);
}

/**
 * The low bits of an integer: hardware that counts past its last value keeps these.
 *
 * @throws VfioError EINVAL for a value that is no integer
 */
export function wrapped(into: Bits, value: unknown): number {
  if (typeof value === 'number') {
    const low = (value & into.mask) >>> 0;
    if (low === value || Number.isSafeInteger(value)) return low;
  }
  throw misfit(into.name, value, `an integer of ${into.bits} bit${into.bits === 1 ? '' : 's'}`);
}

const LOWEST = -(2n ** 63n);

/**
 * The same for a register of 64 bits.
 *
 * @throws VfioError EINVAL for a value that is no bigint of 64 bits
 */
export function fitted64(name: string, value: unknown): bigint {
  if (typeof value === 'bigint') {
    const low = BigInt.asUintN(64, value);
    if (low === value || (value < 0n && value >= LOWEST)) return low;
  }
  throw misfit(name, value, `a bigint of 64 bits${Number.isSafeInteger(value) ? `: write ${String(value)}n` : ''}`);
}

function misfit(name: string, value: unknown, takes: string): VfioError {
  return new VfioError('EINVAL', `${name} is given ${shown(value)}; it takes ${takes}`);
}

function shown(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 40));
  if (typeof value === 'bigint') return `${value}n`;
  return typeof value === 'object' && value !== null ? 'an object' : String(value).slice(0, 40);
}
