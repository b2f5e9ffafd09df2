/**
 * A model's BARs, declared: `bar('4K', { ident: reg(0x00).ro(1), … })` for registers, `memory('16M')` for plain memory.
 * A register BAR is compiled once into flat tables (`RegisterLayout`), so that an access finds its register by two index operations.
 */
import type { Doorbell } from '../../abi/device.ts';
import type { BitFields } from '../../base/bit-fields.ts';
import { type Check, flag, integer, keys, listOf, made, mapOf, oneOf, shownValue } from '../../base/declared.ts';
import { VfioError } from '../../base/errno.ts';
import { INSPECT } from '../../base/inspect.ts';
import { bitsOf, fitted64, strictNames, wrapped } from '../../base/register-view.ts';
import { type SizeText, sizeOf } from '../../base/size.ts';
import { Reg, type RegisterDeclaration } from './register.ts';

// biome-ignore lint/suspicious/noExplicitAny: any register, whatever its view
export type AnyReg = Reg<any, any>;
export type Registers = Readonly<Record<string, AnyReg>>;

/** What the model sees of a register BAR: each register by its name, a number, a bigint (64 bits) or its fields. */
export type RegistersView<R> = {
  -readonly [K in keyof R as R[K] extends Reg<infer V, infer _> ? (V extends number | bigint ? K : never) : never]: ViewOf<R[K]>;
} & {
  readonly [K in keyof R as R[K] extends Reg<infer V, infer _> ? (V extends number | bigint ? never : K) : never]: ViewOf<R[K]>;
};

type ViewOf<R> = R extends Reg<infer V, infer _> ? V : never;

export type BarSize = number | SizeText;

interface BarPlacement {
  /** 'mem32' unless told, or 'mem64' above 2 GiB. A 64-bit BAR takes the next index too. */
  readonly type?: 'mem32' | 'mem64' | 'io';
  readonly prefetchable?: boolean;
  /** False: nobody may map it. Drivers and peers then reach it by reads and writes only, which a vfio-user client may post. */
  readonly mappable?: boolean;
}

export interface BarOptions extends BarPlacement {
  /** What reads find where no register is; writes there are dropped. */
  readonly holes?: 'zeros' | 'ones';
  /** Registers whose writes may come as signals: see `Doorbell`. */
  readonly doorbells?: readonly Doorbell[];
}

export class RegisterBar<R extends Registers> {
  readonly backing = 'registers';
  readonly size: number;
  readonly type: 'mem32' | 'mem64' | 'io';
  readonly prefetchable: boolean;
  readonly mappable: boolean;
  readonly doorbells: readonly Doorbell[];
  readonly layout: RegisterLayout;
  /** Never set; carries the type. */
  declare readonly registers: R;

  constructor(size: number, registers: R, options: BarOptions) {
    this.size = size;
    this.type = options.type ?? placeFor(size);
    this.prefetchable = options.prefetchable ?? false;
    this.mappable = options.mappable ?? true;
    this.doorbells = options.doorbells ?? [];
    this.layout = new RegisterLayout(size, registers, options.holes === 'ones');
  }
}

export class MemoryBar {
  readonly backing = 'memory';
  readonly size: number;
  readonly type: 'mem32' | 'mem64';
  readonly prefetchable: boolean;
  readonly mappable: boolean;
  readonly doorbells: readonly Doorbell[] = [];

  constructor(size: number, options: BarPlacement) {
    if (options.type === 'io')
      throw new VfioError('EINVAL', 'an I/O BAR cannot be plain memory: it is not mapped, so every access reaches the model');
    this.size = size;
    this.type = options.type ?? placeFor(size);
    this.prefetchable = options.prefetchable ?? false;
    this.mappable = options.mappable ?? true;
  }
}

const placement = {
  type: oneOf('mem32', 'mem64', 'io'),
  prefetchable: flag,
  mappable: flag,
} satisfies Record<keyof BarPlacement, Check>;

/** A BAR of registers. @param size a power of two: bytes, or text such as '4K', '1M', '2G' */
export function bar<const R extends Registers>(size: BarSize, registers: R, options: BarOptions = {}): RegisterBar<R> {
  mapOf(made([Reg], 'a register: reg(offset)'))(registers, 'registers of bar()');
  keys({ ...placement, holes: oneOf('zeros', 'ones'), doorbells: listOf(mapOf(integer(0, 2 ** 48))) })(options, 'options of bar()');
  return new RegisterBar(barSize(size), registers, options);
}

/** A BAR of plain memory, which drivers and peers may map. Its bytes survive a reset, as those of a card do. */
export function memory(size: BarSize, options: BarPlacement = {}): MemoryBar {
  keys(placement)(options, 'options of memory()');
  return new MemoryBar(barSize(size), options);
}

/** Bytes of a region: a number, or text such as '4K'. NaN for anything else. */
export function regionSize(size: BarSize): number {
  return typeof size === 'number' ? size : typeof size === 'string' ? sizeOf(size) : Number.NaN;
}

function barSize(size: BarSize): number {
  const bytes = regionSize(size);
  if (!Number.isSafeInteger(bytes) || bytes < 4 || !Number.isInteger(Math.log2(bytes))) {
    throw new VfioError('EINVAL', `BAR size ${shownValue(size)}: give a power of two, in bytes or as '4K', '1M', '2G'`);
  }
  return bytes;
}

function placeFor(size: number): 'mem32' | 'mem64' {
  return size > 2 ** 31 ? 'mem64' : 'mem32';
}

const PAGE = 4096;

/**
 * The tables of one register BAR. Slot 0 is the hole; a register's slot is its place in the declaration, from 1. `pages[p][b]` is the slot at
 * byte b of page p; pages without registers are not there.
 */
export class RegisterLayout {
  readonly names: readonly string[];
  readonly declarations: readonly (RegisterDeclaration | null)[];
  readonly pages: readonly (Uint16Array | undefined)[];
  /** First byte past the last register: everything from there on is a hole. */
  readonly end: number;
  readonly holesReadOnes: boolean;

  readonly offset: Uint32Array;
  readonly bytes: Uint8Array;
  readonly widths: Uint8Array;
  readonly readable: Uint8Array;
  readonly zeroExtend: Uint8Array;
  /** Bytes of a register that a read answers straight from storage; 0 where there is more to do. */
  readonly plainRead: Uint8Array;
  /** Low and high half of each register, at 2·slot and 2·slot + 1. */
  readonly writable: Uint32Array;
  readonly writeOneClears: Uint32Array;
  readonly reset: Uint32Array;
  readonly View: new (
    words: Uint32Array,
    quads: BigUint64Array,
  ) => object;

  constructor(size: number, registers: Registers, holesReadOnes: boolean) {
    const entries = Object.entries(registers);
    if (entries.length > 0xffff) throw new VfioError('EINVAL', `${entries.length} registers in one BAR; at most 65535`);
    const count = entries.length + 1;
    this.names = ['', ...entries.map(([name]) => name)];
    this.declarations = [null, ...entries.map(([, r]) => r.declaration)];
    this.holesReadOnes = holesReadOnes;
    this.offset = new Uint32Array(count);
    this.bytes = new Uint8Array(count);
    this.widths = new Uint8Array(count);
    this.readable = new Uint8Array(count);
    this.zeroExtend = new Uint8Array(count);
    this.plainRead = new Uint8Array(count);
    this.writable = new Uint32Array(2 * count);
    this.writeOneClears = new Uint32Array(2 * count);
    this.reset = new Uint32Array(2 * count);
    const pages: (Uint16Array | undefined)[] = [];
    let end = 0;
    entries.forEach(([name, { declaration: d }], i) => {
      const slot = i + 1;
      const at = `register ${name} at 0x${d.offset.toString(16)}`;
      if (d.offset % d.bytes !== 0) throw new VfioError('EINVAL', `${at} is not aligned to its ${d.bytes} bytes`);
      if (d.offset + d.bytes > size) throw new VfioError('EINVAL', `${at} lies past the end of its BAR of 0x${size.toString(16)} bytes`);
      const page = pages[Math.floor(d.offset / PAGE)] ?? new Uint16Array(PAGE);
      pages[Math.floor(d.offset / PAGE)] = page;
      for (let b = d.offset % PAGE; b < (d.offset % PAGE) + d.bytes; b++) {
        if (page[b] !== 0) throw new VfioError('EINVAL', `${at} overlaps ${this.names[page[b]!]}`);
        page[b] = slot;
      }
      end = Math.max(end, d.offset + d.bytes);
      this.offset[slot] = d.offset;
      this.bytes[slot] = d.bytes;
      this.widths[slot] = d.widths;
      this.readable[slot] = Number(d.readable);
      this.zeroExtend[slot] = Number(d.zeroExtend);
      this.plainRead[slot] = d.readable && d.onRead === null && (d.widths & d.bytes) !== 0 ? d.bytes : 0;
      setHalves(this.writable, slot, d.writable);
      setHalves(this.writeOneClears, slot, d.writeOneClears);
      setHalves(this.reset, slot, d.reset);
    });
    this.pages = Array.from({ length: pages.length }, (_, i) => pages[i]);
    this.end = end;
    this.View = makeView(entries.map(([name, r]) => [name, r.declaration]));
  }
}

function setHalves(into: Uint32Array, slot: number, value: bigint): void {
  into[2 * slot] = Number(value & 0xffff_ffffn);
  into[2 * slot + 1] = Number(value >> 32n);
}

type Storage = { words: Uint32Array; quads: BigUint64Array };

/** Names that a view has itself. */
const reserved = new Set(['words', 'quads', 'constructor', '__proto__']);

/**
 * The class whose instances are `dev.bar0`: one per declaration, accessors on its prototype, so that all devices of a kind (and all their
 * resets) share one hidden class.
 */
function makeView(registers: readonly (readonly [string, RegisterDeclaration])[]): RegisterLayout['View'] {
  const grouped = registers.flatMap(([name, d], i) =>
    d.fields === null ? [] : [{ name, View: makeFieldsView(name, i + 1, d.bytes, d.fields) }],
  );
  class BarView {
    readonly words: Uint32Array;
    readonly quads: BigUint64Array;
    constructor(words: Uint32Array, quads: BigUint64Array) {
      this.words = words;
      this.quads = quads;
      for (const { name, View } of grouped) Object.defineProperty(this, name, { value: new View(words, quads), enumerable: true });
    }
    /** What console.log shows of it. */
    [INSPECT](): object {
      return Object.fromEntries(registers.map(([name]) => [name, (this as unknown as Record<string, unknown>)[name]]));
    }
  }
  registers.forEach(([name, d], i) => {
    if (reserved.has(name)) throw new VfioError('EINVAL', `a register cannot be called '${name}'`);
    if (d.fields === null) Object.defineProperty(BarView.prototype, name, { ...rawAccessor(name, i + 1, d.bytes), enumerable: true });
  });
  const names = registers.map(([name]) => name);
  Object.setPrototypeOf(BarView.prototype, strictNames('register', names));
  return BarView;
}

function makeFieldsView(register: string, slot: number, bytes: number, fields: BitFields): RegisterLayout['View'] {
  class RegisterView {
    readonly words: Uint32Array;
    readonly quads: BigUint64Array;
    constructor(words: Uint32Array, quads: BigUint64Array) {
      this.words = words;
      this.quads = quads;
    }
    [INSPECT](): object {
      return Object.fromEntries(Object.keys(fields).map((name) => [name, (this as unknown as Record<string, number>)[name]]));
    }
  }
  Object.defineProperty(RegisterView.prototype, 'value', rawAccessor(register, slot, bytes));
  Object.setPrototypeOf(RegisterView.prototype, strictNames(`field of register ${register}:`, ['value', ...Object.keys(fields)]));
  for (const [name, { msb, lsb }] of Object.entries(fields)) {
    if (name === 'value' || reserved.has(name)) throw new VfioError('EINVAL', `a field cannot be called '${name}'`);
    const into = bitsOf(`${register}.${name}`, msb - lsb + 1);
    const word = 2 * slot + (lsb >= 32 ? 1 : 0);
    const shift = lsb % 32;
    const { mask } = into;
    const keep = ~(mask << shift);
    Object.defineProperty(RegisterView.prototype, name, {
      enumerable: true,
      get(this: Storage) {
        return (this.words[word]! >>> shift) & mask;
      },
      set(this: Storage, value: number) {
        const low = wrapped(into, value) << shift;
        this.words[word] = (this.words[word]! & keep) | low;
      },
    });
  }
  return RegisterView;
}

function rawAccessor(name: string, slot: number, bytes: number): PropertyDescriptor {
  if (bytes === 8) {
    return {
      get(this: Storage) {
        return this.quads[slot];
      },
      set(this: Storage, value: bigint) {
        this.quads[slot] = typeof value === 'bigint' ? value : fitted64(name, value);
      },
    };
  }
  const word = 2 * slot;
  const into = bitsOf(name, 8 * bytes);
  return {
    get(this: Storage) {
      return this.words[word];
    },
    set(this: Storage, value: number) {
      this.words[word] = wrapped(into, value);
    },
  };
}
