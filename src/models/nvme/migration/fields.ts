/**
 * Reads a record of state from outside, field by field. The reader takes each field once, with its
 * kind and bounds, and refuses unknown fields.
 */
import { VfioError } from '../../../base/errno.ts';

export class Fields {
  readonly #values: Readonly<Record<string, unknown>>;
  readonly #path: string;
  readonly #asked = new Set<string>();

  /** @param path for messages; empty at the top @throws VfioError EINVAL unless it is a record */
  constructor(value: unknown, path = '') {
    if (typeof value !== 'object' || value === null || Array.isArray(value) || ArrayBuffer.isView(value)) {
      throw wrong(`${path === '' ? 'it' : path} is no record`);
    }
    this.#values = value as Record<string, unknown>;
    this.#path = path === '' ? '' : `${path}.`;
  }

  /** An integer from `min` to `max`. */
  integer(name: string, max: number, min = 0): number {
    const value = this.#take(name);
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < min || value > max) {
      throw this.#wrong(name, `is ${shown(value)}; it must be from ${min} to ${max}`);
    }
    return value;
  }

  flag(name: string): boolean {
    const value = this.#take(name);
    if (typeof value !== 'boolean') throw this.#wrong(name, `is ${shown(value)}; it must be true or false`);
    return value;
  }

  text(name: string): string {
    const value = this.#take(name);
    if (typeof value !== 'string' || value.length > 1024) throw this.#wrong(name, 'is no text');
    return value;
  }

  /** 64 bits. */
  address(name: string): bigint {
    const value = this.#take(name);
    if (typeof value !== 'bigint' || value < 0n || value >= 2n ** 64n) throw this.#wrong(name, 'is no address of 64 bits');
    return value;
  }

  /** Exactly `size` bytes. */
  bytes(name: string, size: number): Uint8Array {
    return this.#array(name, Uint8Array, size, size);
  }

  /** Exactly `count` dwords. */
  dwords(name: string, count: number): Uint32Array {
    return this.#array(name, Uint32Array, count, count);
  }

  /** Up to `most` numbers, from `min` to `max` each. */
  numbers(name: string, most: number, max: number, min = 0, least = 0): Float64Array {
    const values = this.#array(name, Float64Array, least, most);
    if (values.some((value) => !(value >= min && value <= max))) throw this.#wrong(name, `has a number that is not from ${min} to ${max}`);
    return values;
  }

  /** As `numbers`, of integers. */
  integers(name: string, most: number, max: number): Float64Array {
    const values = this.numbers(name, most, max);
    if (values.some((value) => !Number.isInteger(value))) throw this.#wrong(name, 'has a number that is no integer');
    return values;
  }

  /** Up to `most` records. */
  list(name: string, most: number): Fields[] {
    const value = this.#take(name);
    if (!Array.isArray(value) || value.length > most) throw this.#wrong(name, `is no list of up to ${most}`);
    return value.map((each, i) => new Fields(each, `${this.#path}${name}[${i}]`));
  }

  child(name: string): Fields {
    return new Fields(this.#take(name), `${this.#path}${name}`);
  }

  /** Null where there is none. */
  optional(name: string): Fields | null {
    return this.#values[name] === null ? (this.#take(name) as null) : this.child(name);
  }

  /** Everything has been asked for. @throws VfioError EINVAL for what has not */
  end(): void {
    for (const name of Object.keys(this.#values)) if (!this.#asked.has(name)) throw this.#wrong(name, 'is not known here');
  }

  #take(name: string): unknown {
    this.#asked.add(name);
    if (!Object.hasOwn(this.#values, name)) throw this.#wrong(name, 'is not there');
    return this.#values[name];
  }

  #array<T extends Uint8Array | Uint32Array | Float64Array>(
    name: string,
    kind: { new (): T; readonly name: string },
    least: number,
    most: number,
  ): T {
    const value = this.#take(name);
    if (!(value instanceof kind) || value.length < least || value.length > most) {
      throw this.#wrong(name, `is no ${kind.name} of ${least === most ? most : `${least} to ${most}`}`);
    }
    return value;
  }

  #wrong(name: string, what: string): VfioError {
    return wrong(`${this.#path}${name} ${what}`);
  }
}

export function wrong(what: string): VfioError {
  return new VfioError('EINVAL', `the state of an NVMe controller cannot be taken: ${what}`);
}

function shown(value: unknown): string {
  return typeof value === 'number' || typeof value === 'boolean' ? String(value) : `a ${typeof value}`;
}
