/**
 * Registers as a driver names them, over loads and stores:
 *
 *     const card = driverView(Card, access);
 *     card.status.interrupt = 1;
 *     card.length = 10;
 *
 * Access to a property is one load or store of the register's width. Reading a field is a load;
 * writing a field is a load and a store. Nothing is cached. A name that the map lacks, a value that
 * does not fit, and a write to a read-only register are errors.
 */
import { type BitFields, fieldMask } from './bit-fields.ts';
import { hex } from './check.ts';
import { VfioError } from './errno.ts';
import { INSPECT } from './inspect.ts';
import type { RegisterAccess } from './register-access.ts';
import { bitsOf, fitted, fitted64, strictNames } from './register-view.ts';
import { checkRegisters, type DriverView, type Register, type RegisterBytes, type Registers } from './registers.ts';

/** Where a register map lies. */
export interface RegisterMapOptions {
  /** Where the map begins in the BAR, in bytes. Default: 0. */
  readonly at?: number;
}

/** Symbols, so that every name is free for a register. */
const ACCESS: unique symbol = Symbol('access');
const BASE: unique symbol = Symbol('base');

interface View {
  readonly [ACCESS]: RegisterAccess;
  /** The view adds this to the offsets of the map. */
  readonly [BASE]: number;
}

type ViewClass = new (access: RegisterAccess, base: number) => object;

/**
 * A map has one class, so that the views of all devices with these registers share a hidden class.
 */
const classes = new WeakMap<Registers, ViewClass>();

/**
 * The registers of `map` over `access`.
 *
 * @param at where the map begins, in bytes @throws VfioError EINVAL when `map` is no register map
 */
export function driverView<R extends Registers>(map: R, access: RegisterAccess, at = 0): DriverView<R> {
  let View = classes.get(map);
  if (View === undefined) {
    checkRegisters('a register map', map);
    View = makeView(map);
    classes.set(map, View);
  }
  return new View(access, at) as DriverView<R>;
}

/** Bytes that the map's registers span, from its start. */
export function spanOf(map: Registers): number {
  return Object.values(map).reduce((end, { offset, bytes }) => Math.max(end, offset + bytes), 0);
}

function makeView(map: Registers): ViewClass {
  const entries = Object.entries(map);
  const grouped = entries.flatMap(([name, r]) => (r.fields === null ? [] : [{ name, Fields: makeFieldsView(name, r, r.fields) }]));
  class RegistersView {
    readonly [ACCESS]: RegisterAccess;
    readonly [BASE]: number;
    constructor(access: RegisterAccess, base: number) {
      this[ACCESS] = access;
      this[BASE] = base;
      for (const { name, Fields } of grouped) Object.defineProperty(this, name, { value: new Fields(access, base), enumerable: true });
    }
    /** Prints names alone, because a read may change a register. */
    [INSPECT](): string {
      return `registers ${entries.map(([name, r]) => `${name} (${place(r)})`).join(', ')}`;
    }
  }
  for (const [name, register] of entries) {
    if (register.fields === null)
      define(RegistersView.prototype, name, accessor(name, register.bytes, register.offset), register.access === 'ro');
  }
  Object.setPrototypeOf(RegistersView.prototype, strictNames('register', Object.keys(map)));
  return RegistersView;
}

function place({ bytes, offset }: Register): string {
  return `u${8 * bytes} at ${hex(offset)}`;
}

function makeFieldsView(register: string, declared: Register, fields: BitFields): ViewClass {
  const { bytes, offset } = declared;
  class FieldsView {
    readonly [ACCESS]: RegisterAccess;
    readonly [BASE]: number;
    constructor(access: RegisterAccess, base: number) {
      this[ACCESS] = access;
      this[BASE] = base;
    }
    [INSPECT](): string {
      return `register ${register} (${place(declared)}) with ${Object.keys(fields).join(', ')}`;
    }
  }
  define(FieldsView.prototype, 'value', accessor(register, bytes, offset), false);
  Object.setPrototypeOf(FieldsView.prototype, strictNames(`field of register ${register}:`, ['value', ...Object.keys(fields)]));
  for (const [name, field] of Object.entries(fields)) {
    const into = bitsOf(`${register}.${name}`, field.msb - field.lsb + 1);
    const half = accessor(into.name, bytes === 8 ? 4 : bytes, field.lsb >= 32 ? offset + 4 : offset);
    const shift = field.lsb % 32;
    const { mask } = into;
    // A field that ones clear would be cleared by writing back the one that was read. The driver
    // writes zero to such fields, except to the one that it assigns.
    const others = Object.values(fields).filter((f) => f.access === 'w1c' && f.lsb >= 32 === field.lsb >= 32);
    const keep = others.reduce((all, f) => all & ~(fieldMask(f) << (f.lsb % 32)), ~(mask << shift));
    const get = function (this: View): number {
      return ((half.get.call(this) as number) >>> shift) & mask;
    };
    const set = function (this: View, value: number): void {
      const fits = fitted(into, value) << shift;
      half.set.call(this, (((half.get.call(this) as number) & keep) | fits) >>> 0);
    };
    define(FieldsView.prototype, name, { name: into.name, get, set }, field.access === 'ro');
  }
  return FieldsView;
}

interface Accessor {
  /** Name for messages. */
  readonly name: string;
  get(this: View): number | bigint;
  // biome-ignore lint/suspicious/noExplicitAny: number or bigint, as `bytes` says
  set(this: View, value: any): void;
}

function define(prototype: object, property: string, { name, get, set }: Accessor, readOnly: boolean): void {
  const refuse = () => {
    throw new VfioError('EINVAL', `${name} is read-only: a driver cannot write it`);
  };
  Object.defineProperty(prototype, property, { enumerable: true, get, set: readOnly ? refuse : set });
}

function accessor(name: string, bytes: RegisterBytes, offset: number): Accessor {
  const into = bitsOf(name, 8 * bytes);
  switch (bytes) {
    case 1:
      return {
        name,
        get() {
          return this[ACCESS].read8(this[BASE] + offset);
        },
        set(value) {
          this[ACCESS].write8(this[BASE] + offset, fitted(into, value));
        },
      };
    case 2:
      return {
        name,
        get() {
          return this[ACCESS].read16(this[BASE] + offset);
        },
        set(value) {
          this[ACCESS].write16(this[BASE] + offset, fitted(into, value));
        },
      };
    case 4:
      return {
        name,
        get() {
          return this[ACCESS].read32(this[BASE] + offset);
        },
        set(value) {
          this[ACCESS].write32(this[BASE] + offset, fitted(into, value));
        },
      };
    case 8:
      return {
        name,
        get() {
          return this[ACCESS].read64(this[BASE] + offset);
        },
        set(value) {
          this[ACCESS].write64(this[BASE] + offset, fitted64(name, value));
        },
      };
  }
}
