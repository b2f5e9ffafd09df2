/**
 * A device's registers as a driver names them:
 *
 *     const Edu = regs({ factorial: u32(0x08), status: u32(0x20, { computing: bit(0), interrupt: bit(7) }) });
 *     const edu = dev.bar(0, Edu);
 *     edu.status.interrupt = 1;
 *     edu.factorial = 10;
 *
 * A property is one load or store of the register's width; a field is a load, or a load and a store. Nothing is cached. A name that is not declared,
 * and a value that does not fit, are errors.
 */
import type { RegisterAccess } from '../../abi/device.ts';
import { type BitFields, checkFields, fieldMask } from '../../base/bit-fields.ts';
import { hex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { INSPECT } from '../../base/inspect.ts';
import { bitsOf, fitted, fitted64, strictNames } from '../../base/register-view.ts';

export type RegisterType = 'u8' | 'u16' | 'u32' | 'u64';

/** @typeParam V what the driver sees: a number, a bigint (u64), or an object of fields */
export interface DriverRegister<V> {
  readonly type: RegisterType;
  readonly offset: number;
  readonly fields: BitFields | null;
  /** Never set; carries the type. */
  readonly view?: V;
}

export type DriverFields<F extends BitFields, N> = { -readonly [K in keyof F]: number } & { value: N };

export type DriverRegisters = Readonly<Record<string, DriverRegister<unknown>>>;
type Seen<R> = R extends DriverRegister<infer V> ? V : never;

/** What `dev.bar(i, layout)` gives. */
export type RegisterView<L> =
  L extends RegisterMap<infer R>
    ? { -readonly [K in keyof R as Seen<R[K]> extends number | bigint ? K : never]: Seen<R[K]> } & {
        readonly [K in keyof R as Seen<R[K]> extends number | bigint ? never : K]: Seen<R[K]>;
      }
    : never;

/** Names that a view has itself. */
const reserved = new Set(['access', 'constructor', '__proto__']);

const bytesOf = { u8: 1, u16: 2, u32: 4, u64: 8 } as const;

function declare(type: RegisterType, offset: number, fields: BitFields | undefined): DriverRegister<never> {
  if (!Number.isSafeInteger(offset) || offset < 0 || offset % bytesOf[type] !== 0)
    throw new VfioError('EINVAL', `${type}(${String(offset)}): the offset must be a multiple of ${bytesOf[type]}`);
  const what = `${type}(${hex(offset)})`;
  if (fields !== undefined) checkFields(what, 8 * bytesOf[type], fields);
  return { type, offset, fields: fields ?? null };
}

export function u8(offset: number): DriverRegister<number>;
export function u8<const F extends BitFields>(offset: number, fields: F): DriverRegister<DriverFields<F, number>>;
export function u8(offset: number, fields?: BitFields): DriverRegister<never> {
  return declare('u8', offset, fields);
}

export function u16(offset: number): DriverRegister<number>;
export function u16<const F extends BitFields>(offset: number, fields: F): DriverRegister<DriverFields<F, number>>;
export function u16(offset: number, fields?: BitFields): DriverRegister<never> {
  return declare('u16', offset, fields);
}

export function u32(offset: number): DriverRegister<number>;
export function u32<const F extends BitFields>(offset: number, fields: F): DriverRegister<DriverFields<F, number>>;
export function u32(offset: number, fields?: BitFields): DriverRegister<never> {
  return declare('u32', offset, fields);
}

/** 64 bits: a bigint, unless it has fields. Fields are read and written by 32-bit halves. */
export function u64(offset: number): DriverRegister<bigint>;
export function u64<const F extends BitFields>(offset: number, fields: F): DriverRegister<DriverFields<F, bigint>>;
export function u64(offset: number, fields?: BitFields): DriverRegister<never> {
  return declare('u64', offset, fields);
}

/** Registers by name, ready to be put over any region. */
export class RegisterMap<R extends DriverRegisters> {
  readonly registers: R;
  readonly #View: new (
    access: RegisterAccess,
  ) => object;

  constructor(registers: R) {
    this.registers = registers;
    this.#View = makeView(registers);
  }

  over(access: RegisterAccess): RegisterView<RegisterMap<R>> {
    return new this.#View(access) as RegisterView<RegisterMap<R>>;
  }
}

export function regs<const R extends DriverRegisters>(declared: R): RegisterMap<R> {
  return new RegisterMap(declared);
}

type Holder = { readonly access: RegisterAccess };

/** One class per declaration, accessors on its prototype: every device with these registers shares a hidden class. */
function makeView(declared: DriverRegisters): new (access: RegisterAccess) => object {
  const entries = Object.entries(declared);
  for (const [name, register] of entries) checkDeclared(name, register);
  const grouped = entries.flatMap(([name, r]) => (r.fields === null ? [] : [{ name, View: makeFieldsView(name, r, r.fields) }]));
  class View {
    readonly access: RegisterAccess;
    constructor(access: RegisterAccess) {
      this.access = access;
      for (const g of grouped) Object.defineProperty(this, g.name, { value: new g.View(access), enumerable: true });
    }
    /** Names alone: to look at a register may change it. */
    [INSPECT](): string {
      return `registers ${entries.map(([name, r]) => `${name} (${r.type} at ${hex(r.offset)})`).join(', ')}`;
    }
  }
  for (const [name, register] of entries) {
    if (register.fields === null)
      Object.defineProperty(View.prototype, name, { ...accessor(name, register.type, register.offset), enumerable: true });
  }
  Object.setPrototypeOf(View.prototype, strictNames('register', Object.keys(declared)));
  return View;
}

function checkDeclared(name: string, register: Partial<DriverRegister<unknown>> | null | undefined): void {
  if (reserved.has(name)) throw new VfioError('EINVAL', `a register cannot be called '${name}'`);
  if (register == null || typeof register !== 'object' || !Object.hasOwn(bytesOf, register.type ?? '')) {
    throw new VfioError('EINVAL', `regs: '${name}' is no register`, { fix: 'Write u8(offset), u16(offset), u32(offset) or u64(offset).' });
  }
}

function makeFieldsView(
  register: string,
  { type, offset }: DriverRegister<unknown>,
  fields: BitFields,
): new (
  access: RegisterAccess,
) => object {
  class FieldsView {
    readonly access: RegisterAccess;
    constructor(access: RegisterAccess) {
      this.access = access;
    }
    [INSPECT](): string {
      return `register ${register} (${type} at ${hex(offset)}) with ${Object.keys(fields).join(', ')}`;
    }
  }
  Object.defineProperty(FieldsView.prototype, 'value', accessor(register, type, offset));
  Object.setPrototypeOf(FieldsView.prototype, strictNames(`field of register ${register}:`, ['value', ...Object.keys(fields)]));
  for (const [name, field] of Object.entries(fields)) {
    if (name === 'value' || reserved.has(name)) throw new VfioError('EINVAL', `a field cannot be called '${name}'`);
    const into = bitsOf(`${register}.${name}`, field.msb - field.lsb + 1);
    const half = accessor(into.name, type === 'u64' ? 'u32' : type, field.lsb >= 32 ? offset + 4 : offset);
    const shift = field.lsb % 32;
    const { mask } = into;
    // Writing back a one to a field that ones clear would clear it: such fields are written as zero unless they are meant.
    const others = Object.values(fields).filter((f) => f.access === 'w1c' && f.lsb >= 32 === field.lsb >= 32);
    const keep = others.reduce((all, f) => all & ~(fieldMask(f) << (f.lsb % 32)), ~(mask << shift));
    Object.defineProperty(FieldsView.prototype, name, {
      enumerable: true,
      get(this: Holder) {
        return ((half.get.call(this) as number) >>> shift) & mask;
      },
      set(this: Holder, value: number) {
        const fits = fitted(into, value) << shift;
        half.set.call(this, (((half.get.call(this) as number) & keep) | fits) >>> 0);
      },
    });
  }
  return FieldsView;
}

interface Accessor {
  get(this: Holder): number | bigint;
  // biome-ignore lint/suspicious/noExplicitAny: number or bigint, as `type` says
  set(this: Holder, value: any): void;
}

function accessor(name: string, type: RegisterType, offset: number): Accessor {
  const into = bitsOf(name, 8 * bytesOf[type]);
  switch (type) {
    case 'u8':
      return {
        get() {
          return this.access.read8(offset);
        },
        set(value) {
          this.access.write8(offset, fitted(into, value));
        },
      };
    case 'u16':
      return {
        get() {
          return this.access.read16(offset);
        },
        set(value) {
          this.access.write16(offset, fitted(into, value));
        },
      };
    case 'u32':
      return {
        get() {
          return this.access.read32(offset);
        },
        set(value) {
          this.access.write32(offset, fitted(into, value));
        },
      };
    case 'u64':
      return {
        get() {
          return this.access.read64(offset);
        },
        set(value) {
          this.access.write64(offset, fitted64(name, value));
        },
      };
  }
}
