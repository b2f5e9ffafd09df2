/**
 * Pieces of memory of one size, cut from larger pieces (slabs). Their owner names a piece by a
 * number: so it needs no object for each, and a look-up among thousands of them stays within the
 * processor's caches. A slab none of whose pieces is in use is freed.
 */

/** Pieces of one slab. */
const PIECES = 16;
const ALL = 2 ** PIECES - 1;

export class Slabs {
  readonly #bytes: number;
  /** By number; undefined: the slab was freed. */
  readonly #slabs: (Uint8Array | undefined)[] = [];
  /** For each slab, a bit for each piece: in use; and not zeroed since its last use. */
  readonly #used: number[] = [];
  readonly #stale: number[] = [];
  /** Slabs that may have room, each once; and numbers of slabs that were freed. */
  readonly #open: number[] = [];
  readonly #isOpen: boolean[] = [];
  readonly #vacant: number[] = [];

  /** @param bytes  of one piece */
  constructor(bytes: number) {
    this.#bytes = bytes;
  }

  /**
   * A zeroed piece: its number.
   * @throws RangeError when this process gets no more memory
   */
  take(): number {
    const slab = this.#withRoom();
    const free = ~this.#used[slab]! & ALL;
    const bit = free & -free;
    const number = slab * PIECES + 31 - Math.clz32(bit);
    this.#used[slab]! |= bit;
    if ((this.#stale[slab]! & bit) !== 0) {
      const at = this.offset(number);
      this.slab(number).fill(0, at, at + this.#bytes);
    }
    return number;
  }

  /** Piece `number` is not in use any more. */
  give(number: number): void {
    const slab = Math.floor(number / PIECES);
    const bit = 1 << (number % PIECES);
    const used = this.#used[slab]! & ~bit;
    this.#used[slab] = used;
    this.#stale[slab]! |= bit;
    if (used === 0) {
      this.#slabs[slab] = undefined;
      this.#vacant.push(slab);
    } else this.#openAgain(slab);
  }

  /** The slab that holds piece `number`, and where in it the piece begins. */
  slab(number: number): Uint8Array {
    return this.#slabs[Math.floor(number / PIECES)]!;
  }

  offset(number: number): number {
    return (number & (PIECES - 1)) * this.#bytes;
  }

  /** No piece is in use any more. */
  clear(): void {
    for (const list of [this.#slabs, this.#used, this.#stale, this.#open, this.#isOpen, this.#vacant]) list.length = 0;
  }

  #openAgain(slab: number): void {
    if (this.#isOpen[slab] === true) return;
    this.#isOpen[slab] = true;
    this.#open.push(slab);
  }

  #withRoom(): number {
    for (;;) {
      const slab = this.#open.at(-1);
      if (slab === undefined) break;
      if (this.#slabs[slab] !== undefined && this.#used[slab] !== ALL) return slab;
      this.#open.pop();
      this.#isOpen[slab] = false;
    }
    const memory = new Uint8Array(PIECES * this.#bytes);
    const slab = this.#vacant.pop() ?? this.#slabs.length;
    this.#slabs[slab] = memory;
    this.#used[slab] = 0;
    this.#stale[slab] = 0;
    this.#openAgain(slab);
    return slab;
  }
}
