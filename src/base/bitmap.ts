/**
 * A bitmap over the numbers 0 to 2^53, kept in chunks that exist only where a bit was ever set: it costs memory for what was touched, not for
 * what could be. Marking in the chunk marked last is a comparison and a store.
 */
const CHUNK_BITS = 32768;

export class Bitmap {
  readonly #chunks = new Map<number, Uint32Array<ArrayBuffer>>();
  #lastKey = -1;
  #last = new Uint32Array(0);

  /** Chunks allocated, 4 KiB each. */
  get chunks(): number {
    return this.#chunks.size;
  }

  /** Set the bits first to last (inclusive). Integers, first <= last: the caller's promise. */
  mark(first: number, last: number): void {
    let key = Math.floor(first / CHUNK_BITS);
    for (let at = first; at <= last; key++) {
      const base = key * CHUNK_BITS;
      const words = key === this.#lastKey ? this.#last : this.#chunk(key);
      const from = at - base;
      const to = Math.min(last - base, CHUNK_BITS - 1);
      if (from === to) words[from >>> 5] |= 1 << (from & 31);
      else fill(words, from, to, true);
      at = base + CHUNK_BITS;
    }
  }

  test(bit: number): boolean {
    const key = Math.floor(bit / CHUNK_BITS);
    const words = this.#chunks.get(key);
    if (words === undefined) return false;
    const at = bit - key * CHUNK_BITS;
    return ((words[at >>> 5] >>> (at & 31)) & 1) === 1;
  }

  /** Clear the bits first to last (inclusive); chunks that lie wholly inside are freed. */
  clear(first: number, last: number): void {
    this.#eachChunk(first, last, (key, words) => {
      const base = key * CHUNK_BITS;
      const from = Math.max(first - base, 0);
      const to = Math.min(last - base, CHUNK_BITS - 1);
      if (from === 0 && to === CHUNK_BITS - 1) {
        this.#chunks.delete(key);
        this.#lastKey = -1;
      } else fill(words, from, to, false);
    });
  }

  clearAll(): void {
    this.#chunks.clear();
    this.#lastKey = -1;
    this.#last = new Uint32Array(0);
  }

  /**
   * Or the bits first to last into `bytes`, little-endian: bit `first` becomes bit `bitOffset` of byte 0 and on. Each output bit stands for
   * `unit` bits here and is set when any of them is; `first` must be a multiple of `unit` then. Only sets, never clears.
   */
  orInto(first: number, last: number, bytes: Uint8Array, bitOffset = 0, unit = 1): void {
    this.#eachChunk(first, last, (key, words) => {
      const base = key * CHUNK_BITS;
      const from = Math.max(first - base, 0);
      const to = Math.min(last - base, CHUNK_BITS - 1);
      for (let w = from >>> 5; w <= to >>> 5; w++) {
        let word = words[w];
        if (word === 0) continue;
        if (w === from >>> 5) word &= -1 << (from & 31);
        if (w === to >>> 5) word &= -1 >>> (31 - (to & 31));
        if (unit === 1) orWord(word, base + 32 * w - first + bitOffset, bytes);
        else
          for (; word !== 0; word &= word - 1) {
            const bit = base + 32 * w + 31 - Math.clz32(word & -word) - first;
            const out = Math.floor(bit / unit) + bitOffset;
            bytes[Math.floor(out / 8)] |= 1 << (out & 7);
          }
      }
    });
  }

  #chunk(key: number): Uint32Array {
    let words = this.#chunks.get(key);
    if (words === undefined) {
      words = new Uint32Array(CHUNK_BITS / 32);
      this.#chunks.set(key, words);
    }
    this.#lastKey = key;
    this.#last = words;
    return words;
  }

  /** The chunks that exist and touch [first, last]: by number when the range is short, else by what exists. */
  #eachChunk(first: number, last: number, visit: (key: number, words: Uint32Array<ArrayBuffer>) => void): void {
    const from = Math.floor(first / CHUNK_BITS);
    const to = Math.floor(last / CHUNK_BITS);
    if (to - from < this.#chunks.size) {
      for (let key = from; key <= to; key++) {
        const words = this.#chunks.get(key);
        if (words !== undefined) visit(key, words);
      }
    } else for (const [key, words] of this.#chunks) if (key >= from && key <= to) visit(key, words);
  }
}

/** Set or clear bits from to to (inclusive) of one chunk. */
function fill(words: Uint32Array, from: number, to: number, set: boolean): void {
  for (let w = from >>> 5; w <= to >>> 5; w++) {
    let mask = -1;
    if (w === from >>> 5) mask &= -1 << (from & 31);
    if (w === to >>> 5) mask &= -1 >>> (31 - (to & 31));
    if (set) words[w] |= mask;
    else words[w] &= ~mask;
  }
}

/** Or `word` into `bytes` at bit `at`. `at` may be up to 31 below zero when the word's bits down there are clear. */
function orWord(word: number, at: number, bytes: Uint8Array): void {
  if (at < 0) {
    word >>>= -at;
    at = 0;
  }
  const shift = at & 7;
  let byte = Math.floor(at / 8);
  for (let low = word << shift; low !== 0; low >>>= 8) bytes[byte++] |= low & 0xff;
  if (shift !== 0 && word >>> (32 - shift) !== 0) bytes[Math.floor(at / 8) + 4] |= word >>> (32 - shift);
}
