/**
 * The registers of BAR 0, declared as the datasheet lists them (chapter 8), and compiled into flat
 * tables: an access finds its register by one look-up. Each room of the card declares its own rows.
 */
import { hex } from '../../base/check.ts';

/** One register, or an array of them. */
export interface RegisterRow {
  /** As in the datasheet: `RDBAL`. */
  readonly name: string;
  readonly offset: number;
  /** Registers of an array, and the bytes from one to the next. Default: 1, and 4. */
  readonly count?: number;
  readonly stride?: number;
  /** Where the datasheet describes it: `8.10.5`. */
  readonly section: string;
  /** Value after a reset. Default: 0. An array may have a value for each. */
  readonly reset?: number | ((index: number) => number);
  /** Bits that a write changes. Default: all of them. */
  readonly writable?: number;
  /** Bits that a one clears. */
  readonly writeOneClears?: number;
  /** A read clears the register, as statistics do (8.19). */
  readonly readClears?: true;
  /** Answers a read, in place of the stored value. */
  readonly read?: (index: number, stored: number) => number;
  /** After a write has changed the stored value. @param written as the driver wrote it */
  readonly write?: (index: number, value: number, written: number) => void;
  /** An alias of another register: accesses go there, to the element of the same index. */
  readonly alias?: string;
  /** A software reset (CTRL.RST) leaves the value; only stronger resets take it. */
  readonly kept?: true;
}

/** Every register of the card. Parts read and change values by offset, in `words`. */
export class RegisterSpace {
  /** Values, by offset / 4. */
  readonly words: Uint32Array;
  readonly rows: RegisterRow[] = [];
  /** Place in `rows`, plus one, by offset / 4. 0: no register; it reads as 0, and takes nothing. */
  readonly #rowAt: Uint16Array;
  readonly #indexAt: Uint16Array;
  /** Where an alias leads to, as an index of `words`. */
  readonly #target: Uint32Array;

  /** @param bytes of the BAR */
  constructor(bytes: number) {
    this.words = new Uint32Array(bytes / 4);
    this.#rowAt = new Uint16Array(bytes / 4);
    this.#indexAt = new Uint16Array(bytes / 4);
    this.#target = Uint32Array.from(this.words, (_, i) => i);
  }

  /** Adds registers. @throws Error for rows that overlap, or an alias of nothing */
  declare(rows: readonly RegisterRow[]): void {
    for (const row of rows) {
      this.rows.push(row);
      const number = this.rows.length;
      for (let i = 0; i < (row.count ?? 1); i++) {
        const at = (row.offset + i * (row.stride ?? 4)) >>> 2;
        if (this.#rowAt[at] !== 0) {
          throw new Error(`${row.name} and ${this.rows[this.#rowAt[at]! - 1]!.name} are both at ${hex(at * 4)}`);
        }
        this.#rowAt[at] = number;
        this.#indexAt[at] = i;
        if (row.alias !== undefined) this.#target[at] = this.#placeOf(row.alias, i);
      }
    }
    this.#resetRows(rows);
  }

  #placeOf(name: string, index: number): number {
    const row = this.rows.find((other) => other.name === name);
    if (row === undefined) throw new Error(`there is no register ${name} for its alias`);
    return (row.offset + index * (row.stride ?? 4)) >>> 2;
  }

  read(offset: number): number {
    const at = this.#target[offset >>> 2]!;
    const number = this.#rowAt[at]!;
    if (number === 0) return 0;
    const row = this.rows[number - 1]!;
    const stored = this.words[at]!;
    const value = row.read === undefined ? stored : row.read(this.#indexAt[at]!, stored);
    if (row.readClears === true) this.words[at] = 0;
    return value >>> 0;
  }

  write(offset: number, written: number): void {
    const at = this.#target[offset >>> 2]!;
    const number = this.#rowAt[at]!;
    if (number === 0) return;
    const row = this.rows[number - 1]!;
    const writable = row.writable ?? 0xffff_ffff;
    const cleared = (row.writeOneClears ?? 0) & written;
    this.words[at] = ((this.words[at]! & ~writable & ~cleared) | (written & writable)) >>> 0;
    if (row.write !== undefined) row.write(this.#indexAt[at]!, this.words[at]!, written >>> 0);
  }

  /**
   * Calls `after` after each write of the register at `offset`, behind the row's own `write`: for a
   * room whose work depends on another room's register. @throws Error where there is no register
   */
  observe(offset: number, after: (index: number, value: number, written: number) => void): void {
    const row = this.rows[this.#rowAt[this.#target[offset >>> 2]!]! - 1];
    if (row === undefined) throw new Error(`there is no register at ${hex(offset)} to observe`);
    const { write } = row;
    const both =
      write === undefined
        ? after
        : (index: number, value: number, written: number) => {
            write(index, value, written);
            after(index, value, written);
          };
    this.rows[this.rows.indexOf(row)] = { ...row, write: both };
  }

  /** Values of a saved card, by offset / 4: registers that exist take them, past all masks. */
  load(at: Uint32Array, values: Uint32Array): void {
    this.words.fill(0);
    for (let i = 0; i < at.length; i++) if (this.#rowAt[at[i]!] !== 0 && at[i]! < this.words.length) this.words[at[i]!] = values[i]!;
  }

  /** The one register at `offset` goes back to its value after a reset. */
  resetAt(offset: number): void {
    const at = this.#target[offset >>> 2]!;
    const row = this.rows[this.#rowAt[at]! - 1];
    if (row === undefined) return;
    const { reset = 0 } = row;
    this.words[at] = typeof reset === 'number' ? reset : reset(this.#indexAt[at]!);
  }

  /** Back to the values after a reset. @param of the rows that it takes. Default: all of them */
  reset(of: (row: RegisterRow) => boolean = () => true): void {
    this.#resetRows(this.rows.filter(of));
  }

  #resetRows(rows: readonly RegisterRow[]): void {
    for (const { offset, count = 1, stride = 4, reset = 0, alias } of rows) {
      if (alias !== undefined) continue;
      for (let i = 0; i < count; i++) this.words[(offset + i * stride) >>> 2] = typeof reset === 'number' ? reset : reset(i);
    }
  }
}
