/**
 * A register map with its behaviour, compiled once into flat tables, so that an access finds its
 * register by two index operations; and the classes of the views that a model has of them.
 */
import type { BitFields } from '../../base/bit-fields.ts';
import { mapOf } from '../../base/declared.ts';
import { VfioError } from '../../base/errno.ts';
import { INSPECT } from '../../base/inspect.ts';
import { nearest } from '../../base/nearest.ts';
import { bitsOf, fitted64, strictNames, wrapped } from '../../base/register-view.ts';
import type { Registers } from '../../base/registers.ts';
import { type Behaviour, declareRegister, type RegisterDeclaration } from './register.ts';

const PAGE = 4096;

/** From here on an entry of a page is a place in `choices`. */
export const CHOICE = 0x8000;

/** Slots by page and byte; pages without registers are not there. */
export type SlotPages = readonly (Uint16Array | undefined)[];

interface Room {
  readonly end: number;
  /** For messages. */
  readonly room: string;
  readonly holesReadOnes: boolean;
}

/**
 * The tables of one register map. Slot 0 is the hole; a register's slot is its place in the
 * declaration, from 1.
 */
export class RegisterLayout {
  readonly names: readonly string[];
  readonly declarations: readonly (RegisterDeclaration | null)[];
  /**
   * The slot that a read or a write finds at a byte. They differ where registers share their bytes.
   */
  readonly readPages: SlotPages;
  readonly writePages: SlotPages;
  /** Slots of one byte of which the first that is there now answers. */
  readonly choices: readonly (readonly number[])[];
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

  /** @throws VfioError EINVAL naming the register that cannot be */
  constructor(registers: Registers, behaviours: object, { end: size, room, holesReadOnes }: Room) {
    const entries = Object.entries(registers);
    if (entries.length >= CHOICE) throw new VfioError('EINVAL', `${entries.length} registers in one map; at most ${CHOICE - 1}`);
    mapOf(mapOf(() => {}))(behaviours, 'the behaviour of registers');
    for (const name of Object.keys(behaviours)) {
      if (Object.hasOwn(registers, name)) continue;
      const near = nearest(name, Object.keys(registers));
      throw new VfioError(
        'EINVAL',
        `there is no register '${name}' for its behaviour`,
        near === null ? {} : { fix: `Did you mean '${near}'?` },
      );
    }
    const count = entries.length + 1;
    const declared = entries.map(([name, register]) =>
      declareRegister(`register ${name}`, register, (behaviours as Record<string, Behaviour<never, never> | undefined>)[name]),
    );
    this.names = ['', ...Object.keys(registers)];
    this.declarations = [null, ...declared];
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
    let end = 0;
    declared.forEach((d, i) => {
      const slot = i + 1;
      const last = d.offset + d.bytes;
      if (last > size) throw new VfioError('EINVAL', `${this.#at(slot)} lies past the end of ${room} of 0x${size.toString(16)} bytes`);
      end = Math.max(end, last);
      this.offset[slot] = d.offset;
      this.bytes[slot] = d.bytes;
      this.widths[slot] = d.widths;
      this.readable[slot] = Number(d.readable);
      this.zeroExtend[slot] = Number(d.zeroExtend);
      this.plainRead[slot] = d.readable && d.show === null && (d.widths & d.bytes) !== 0 ? d.bytes : 0;
      setHalves(this.writable, slot, d.writable);
      setHalves(this.writeOneClears, slot, d.writeOneClears);
      setHalves(this.reset, slot, d.reset);
    });
    this.end = end;
    const choices: (readonly number[])[] = [];
    this.readPages = this.#pages(choices, (d) => d.readable);
    this.writePages = this.#pages(choices, isWritten);
    this.choices = choices;
    this.View = makeView(entries.map(([name], i) => [name, declared[i]!]));
  }

  #at(slot: number): string {
    return `register ${this.names[slot]} at 0x${this.declarations[slot]!.offset.toString(16)}`;
  }

  /**
   * @param answers whether a register is there for accesses of this direction, where it shares its
   *   bytes
   */
  #pages(choices: (readonly number[])[], answers: (declaration: RegisterDeclaration) => boolean): SlotPages {
    const present = new Map<number, number[]>();
    for (let slot = 1; slot < this.names.length; slot++) {
      const { offset, bytes } = this.declarations[slot]!;
      for (let at = offset; at < offset + bytes; at++) present.set(at, [...(present.get(at) ?? []), slot]);
    }
    const pages: (Uint16Array | undefined)[] = [];
    let choice: readonly number[] = [];
    for (const [at, slots] of present) {
      const page = pages[Math.floor(at / PAGE)] ?? new Uint16Array(PAGE);
      pages[Math.floor(at / PAGE)] = page;
      const shared = slots.length === 1 ? slots : slots.filter((slot) => answers(this.declarations[slot]!));
      const always = shared.filter((slot) => this.declarations[slot]!.when === null);
      if (always.length > 1) {
        const [first, second] = always as [number, number];
        throw new VfioError('EINVAL', `${this.#at(second)} overlaps ${this.names[first]}`, {
          fix: "Registers share bytes where one is 'ro' and the other 'wo', or where `when` of their behaviour says which is there.",
        });
      }
      if (shared.length === always.length) {
        page[at % PAGE] = shared[0] ?? 0;
        continue;
      }
      const [whole] = always;
      const part = shared.find((slot) => whole !== undefined && this.offset[slot]! > this.offset[whole]!);
      if (whole !== undefined && part !== undefined) {
        throw new VfioError('EINVAL', `${this.#at(part)} would take a part of ${this.names[whole]}`, {
          fix: `Declare ${this.names[whole]} in parts, or give it a \`when\`.`,
        });
      }
      const inOrder = [...shared.filter((slot) => !always.includes(slot)), ...always];
      if (String(inOrder) !== String(choice)) choices.push(inOrder);
      choice = inOrder;
      if (choices.length >= CHOICE) throw new VfioError('EINVAL', `more than ${CHOICE - 1} places of banked registers in one map`);
      page[at % PAGE] = CHOICE + choices.length - 1;
    }
    return Array.from({ length: pages.length }, (_, i) => pages[i]);
  }
}

function isWritten({ writable, writeOneClears, readable }: RegisterDeclaration): boolean {
  return writable !== 0n || writeOneClears !== 0n || !readable;
}

function setHalves(into: Uint32Array, slot: number, value: bigint): void {
  into[2 * slot] = Number(value & 0xffff_ffffn);
  into[2 * slot + 1] = Number(value >> 32n);
}

/** Symbols: each name is free for a register. */
const WORDS: unique symbol = Symbol('words');
const QUADS: unique symbol = Symbol('quads');

type Storage = { readonly [WORDS]: Uint32Array; readonly [QUADS]: BigUint64Array };

/**
 * The class whose instances are `dev.bar0`: one per declaration, accessors on its prototype, so
 * that all devices of a kind (and all their resets) share one hidden class.
 */
function makeView(registers: readonly (readonly [string, RegisterDeclaration])[]): RegisterLayout['View'] {
  const grouped = registers.flatMap(([name, d], i) =>
    d.fields === null ? [] : [{ name, View: makeFieldsView(name, i + 1, d.bytes, d.fields) }],
  );
  class BarView {
    readonly [WORDS]: Uint32Array;
    readonly [QUADS]: BigUint64Array;
    constructor(words: Uint32Array, quads: BigUint64Array) {
      this[WORDS] = words;
      this[QUADS] = quads;
      for (const { name, View } of grouped) Object.defineProperty(this, name, { value: new View(words, quads), enumerable: true });
    }
    /** The form that console.log shows. */
    [INSPECT](): object {
      return Object.fromEntries(registers.map(([name]) => [name, (this as unknown as Record<string, unknown>)[name]]));
    }
  }
  registers.forEach(([name, d], i) => {
    if (d.fields === null) Object.defineProperty(BarView.prototype, name, { ...rawAccessor(name, i + 1, d.bytes), enumerable: true });
  });
  const names = registers.map(([name]) => name);
  Object.setPrototypeOf(BarView.prototype, strictNames('register', names));
  return BarView;
}

function makeFieldsView(register: string, slot: number, bytes: number, fields: BitFields): RegisterLayout['View'] {
  class RegisterView {
    readonly [WORDS]: Uint32Array;
    readonly [QUADS]: BigUint64Array;
    constructor(words: Uint32Array, quads: BigUint64Array) {
      this[WORDS] = words;
      this[QUADS] = quads;
    }
    [INSPECT](): object {
      return Object.fromEntries(Object.keys(fields).map((name) => [name, (this as unknown as Record<string, number>)[name]]));
    }
  }
  Object.defineProperty(RegisterView.prototype, 'value', rawAccessor(register, slot, bytes));
  Object.setPrototypeOf(RegisterView.prototype, strictNames(`field of register ${register}:`, ['value', ...Object.keys(fields)]));
  for (const [name, { msb, lsb }] of Object.entries(fields)) {
    const into = bitsOf(`${register}.${name}`, msb - lsb + 1);
    const word = 2 * slot + (lsb >= 32 ? 1 : 0);
    const shift = lsb % 32;
    const { mask } = into;
    const keep = ~(mask << shift);
    Object.defineProperty(RegisterView.prototype, name, {
      enumerable: true,
      get(this: Storage) {
        return (this[WORDS][word]! >>> shift) & mask;
      },
      set(this: Storage, value: number) {
        const low = wrapped(into, value) << shift;
        this[WORDS][word] = (this[WORDS][word]! & keep) | low;
      },
    });
  }
  return RegisterView;
}

function rawAccessor(name: string, slot: number, bytes: number): PropertyDescriptor {
  if (bytes === 8) {
    return {
      get(this: Storage) {
        return this[QUADS][slot];
      },
      set(this: Storage, value: bigint) {
        this[QUADS][slot] = typeof value === 'bigint' ? value : fitted64(name, value);
      },
    };
  }
  const word = 2 * slot;
  const into = bitsOf(name, 8 * bytes);
  return {
    get(this: Storage) {
      return this[WORDS][word];
    },
    set(this: Storage, value: number) {
      this[WORDS][word] = wrapped(into, value);
    },
  };
}
