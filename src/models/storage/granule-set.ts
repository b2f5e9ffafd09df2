/**
 * A set of small integers in a large range. Only tables with some members have bits; empty and full
 * tables need none.
 */

export const NUMBERS_OF_TABLE = 0x8000;
const WORDS_OF_TABLE = NUMBERS_OF_TABLE / 32;
const FULL = 'full';
type Table = Uint32Array | typeof FULL | undefined;

export class GranuleSet {
  /** Set: tables that get members are noted in `changed`. */
  noting = false;
  readonly changed = new Set<number>();
  /** With holes. */
  readonly #tables: Table[] = [];

  has(number: number): boolean {
    const table = this.#tables[Math.floor(number / NUMBERS_OF_TABLE)];
    if (table === undefined) return false;
    if (table === FULL) return true;
    const within = number % NUMBERS_OF_TABLE;
    return ((table[within >>> 5]! >>> (within & 31)) & 1) === 1;
  }

  /** Add `first` up to, and without, `end`. */
  add(first: number, end: number): void {
    for (let at = first; at < end; ) {
      const index = Math.floor(at / NUMBERS_OF_TABLE);
      const stop = Math.min(end, (index + 1) * NUMBERS_OF_TABLE);
      if (this.noting) this.changed.add(index);
      if (stop - at === NUMBERS_OF_TABLE) this.#tables[index] = FULL;
      else this.#addWithin(index, at % NUMBERS_OF_TABLE, stop - at);
      at = stop;
    }
  }

  /**
   * The first number above `from` whose membership differs from that of `from`; at most `end`.
   */
  runEnd(from: number, end: number): number {
    const member = this.has(from);
    let at = from + 1;
    while (at < end && this.has(at) === member) at++;
    return Math.min(at, end);
  }

  /**
   * Whether any of the numbers of table `index` is a member: those from `index * NUMBERS_OF_TABLE`
   * on.
   */
  holds(index: number): boolean {
    return this.#tables[index] !== undefined;
  }

  /**
   * The members among the numbers of table `index`, a bit each, lowest first.
   * @param into 4096 bytes
   */
  readTable(index: number, into: Uint8Array): void {
    const table = this.#tables[index];
    if (table === undefined || table === FULL) into.fill(table === undefined ? 0 : 0xff);
    else for (let i = 0; i < into.length; i++) into[i] = table[i >>> 2]! >>> (8 * (i & 3));
  }

  /** Exactly these are members among the numbers of table `index`. */
  writeTable(index: number, from: Uint8Array): void {
    if (from.every((byte) => byte === 0)) {
      this.#tables[index] = undefined;
      return;
    }
    const table = new Uint32Array(WORDS_OF_TABLE);
    for (let i = 0; i < from.length; i++) table[i >>> 2]! |= from[i]! << (8 * (i & 3));
    this.#tables[index] = table;
  }

  clear(): void {
    this.#tables.length = 0;
  }

  #addWithin(index: number, first: number, count: number): void {
    let table = this.#tables[index];
    if (table === FULL) return;
    if (table === undefined) {
      table = new Uint32Array(WORDS_OF_TABLE);
      this.#tables[index] = table;
    }
    for (let i = first; i < first + count; i++) table[i >>> 5]! |= 1 << (i & 31);
  }
}
