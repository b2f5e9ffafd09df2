/**
 * A bitmap over the numbers 0 to 2^53, in chunks. A chunk exists only where a bit was set once, so
 * memory follows the bits that were touched, not the range that they may lie in. Each chunk has a
 * summary of its words that are not zero, so a walk costs as much as the set bits, not as the
 * touched ones. Marking a bit in the chunk marked last is a comparison or two and a store.
 */
const CHUNK_BITS = 32768;
const WORDS = CHUNK_BITS / 32;
/** The summary stands behind the words: one bit for each word that is not zero. */
const SUMMARY_WORDS = WORDS / 32;
/** Chunks with keys up to this one are found by index, the others by key. */
const INDEXED = 65536;

type Chunk = Uint32Array<ArrayBuffer>;

export class Bitmap {
  /** Chunks of low numbers, as nearly all are; grown as needed. */
  #indexed: (Chunk | undefined)[] = [];
  readonly #keyed = new Map<number, Chunk>();
  #count = 0;
  #lastKey = -1;
  #last: Chunk = new Uint32Array(0);

  /** Number of allocated chunks, 4 KiB each. */
  get chunks(): number {
    return this.#count;
  }

  /** Set the bits first to last (inclusive). The caller passes integers with first <= last. */
  mark(first: number, last: number): void {
    let key = Math.floor(first / CHUNK_BITS);
    for (let at = first; at <= last; key++) {
      const base = key * CHUNK_BITS;
      const words = key === this.#lastKey ? this.#last : this.#chunk(key);
      const from = at - base;
      const to = Math.min(last - base, CHUNK_BITS - 1);
      if (from === to) {
        setOne(words, from);
      } else set(words, from, to);
      at = base + CHUNK_BITS;
    }
  }

  /** Like `mark` of one bit below 2^31. A small integer costs no number on the heap. */
  markOne(bit: number): void {
    const words = this.#indexed[bit >>> 15];
    if (words === undefined) {
      this.mark(bit, bit);
      return;
    }
    setOne(words, bit & (CHUNK_BITS - 1));
  }

  test(bit: number): boolean {
    const key = Math.floor(bit / CHUNK_BITS);
    const words = this.#find(key);
    if (words === undefined) return false;
    const at = bit - key * CHUNK_BITS;
    return ((words[at >>> 5] >>> (at & 31)) & 1) === 1;
  }

  /** Clear the bits first to last (inclusive), and free the chunks that lie wholly inside. */
  clear(first: number, last: number): void {
    this.#eachChunk(first, last, (key, words) => {
      const base = key * CHUNK_BITS;
      const from = Math.max(first - base, 0);
      const to = Math.min(last - base, CHUNK_BITS - 1);
      if (from === 0 && to === CHUNK_BITS - 1) this.#drop(key);
      else unset(words, from, to);
    });
  }

  clearAll(): void {
    this.#indexed = [];
    this.#keyed.clear();
    this.#count = 0;
    this.#lastKey = -1;
    this.#last = new Uint32Array(0);
  }

  /**
   * Or the bits first to last into `bytes`, little-endian: bit `first` becomes bit `bitOffset` of
   * byte 0, and so on. Each output bit stands for `unit` bits of the bitmap and is set when any of
   * them is. When `unit` is more than 1, `first` is a multiple of `unit`, or the first bit of the
   * first unit. Bits of `bytes` are only set, never cleared.
   */
  orInto(first: number, last: number, bytes: Uint8Array, bitOffset = 0, unit = 1): void {
    this.#walk(first, last, false, (word, bit) => orBits(word, bit - first, bytes, bitOffset, unit));
  }

  /** Like `orInto`, and clear the reported bits. The chunks stay, for the next marks. */
  take(first: number, last: number, bytes: Uint8Array, bitOffset = 0, unit = 1): void {
    this.#walk(first, last, true, (word, bit) => orBits(word, bit - first, bytes, bitOffset, unit));
  }

  /** The number of set bits among first to last. */
  countSet(first: number, last: number): number {
    let sum = 0;
    this.#walk(first, last, false, (word) => {
      for (; word !== 0; word &= word - 1) sum++;
    });
    return sum;
  }

  /** The first set bit among `first` to `last`; -1 when none is set. */
  next(first: number, last: number): number {
    const end = Math.floor(last / CHUNK_BITS);
    for (let key = this.#nextKey(Math.floor(first / CHUNK_BITS)); key >= 0 && key <= end; key = this.#nextKey(key + 1)) {
      const words = this.#find(key)!;
      const base = key * CHUNK_BITS;
      const to = Math.min(last - base, CHUNK_BITS - 1);
      for (let at = Math.max(first - base, 0); at <= to; ) {
        const w = at >>> 5;
        const word = words[w] & (-1 << (at & 31));
        if (word !== 0) {
          const bit = (w << 5) + lowest(word);
          return bit <= to ? base + bit : -1;
        }
        // The summary has the next word that is not zero.
        let s = (w + 1) >>> 5;
        let summary = w + 1 < WORDS ? words[WORDS + s] & (-1 << ((w + 1) & 31)) : 0;
        while (summary === 0 && ++s < SUMMARY_WORDS) summary = words[WORDS + s];
        if (summary === 0) break;
        at = ((s << 5) + lowest(summary)) << 5;
      }
    }
    return -1;
  }

  /**
   * Visit each word that has bits among first to last, cut to them, with the number of its bit 0.
   * Chunks that are far apart come in no particular order.
   */
  #walk(first: number, last: number, empty: boolean, visit: (word: number, bit: number) => void): void {
    this.#eachChunk(first, last, (key, words) => {
      const base = key * CHUNK_BITS;
      const from = Math.max(first - base, 0);
      const to = Math.min(last - base, CHUNK_BITS - 1);
      const lowWord = from >>> 5;
      const highWord = to >>> 5;
      for (let s = lowWord >>> 5; s <= highWord >>> 5; s++) {
        for (let summary = words[WORDS + s]; summary !== 0; summary &= summary - 1) {
          const w = (s << 5) + lowest(summary);
          if (w < lowWord || w > highWord) continue;
          let mask = -1;
          if (w === lowWord) mask &= -1 << (from & 31);
          if (w === highWord) mask &= -1 >>> (31 - (to & 31));
          const word = words[w] & mask;
          if (word !== 0) visit(word, base + 32 * w);
          if (!empty) continue;
          words[w] &= ~mask;
          if (words[w] === 0) words[WORDS + s] &= ~(1 << (w & 31));
        }
      }
    });
  }

  #find(key: number): Chunk | undefined {
    return key < INDEXED ? this.#indexed[key] : this.#keyed.get(key);
  }

  #chunk(key: number): Chunk {
    let words = this.#find(key);
    if (words === undefined) {
      words = new Uint32Array(WORDS + SUMMARY_WORDS);
      this.#count++;
      if (key >= INDEXED) this.#keyed.set(key, words);
      else {
        while (this.#indexed.length <= key) this.#indexed.push(undefined);
        this.#indexed[key] = words;
      }
    }
    this.#lastKey = key;
    this.#last = words;
    return words;
  }

  #drop(key: number): void {
    if (key < INDEXED) this.#indexed[key] = undefined;
    else this.#keyed.delete(key);
    this.#count--;
    this.#lastKey = -1;
  }

  /** The first chunk with a key of `key` or more; -1 when there is none. */
  #nextKey(key: number): number {
    const { length } = this.#indexed;
    for (let k = key; k < length; k++) if (this.#indexed[k] !== undefined) return k;
    let least = -1;
    for (const k of this.#keyed.keys()) if (k >= key && (least < 0 || k < least)) least = k;
    return least;
  }

  /**
   * The chunks that touch [first, last]. A short range is walked by number, a long one by the
   * existing chunks.
   */
  #eachChunk(first: number, last: number, visit: (key: number, words: Chunk) => void): void {
    const from = Math.floor(first / CHUNK_BITS);
    const to = Math.floor(last / CHUNK_BITS);
    const indexed = Math.min(to, this.#indexed.length - 1);
    for (let key = from; key <= indexed; key++) {
      const words = this.#indexed[key];
      if (words !== undefined) visit(key, words);
    }
    if (to >= INDEXED) for (const [key, words] of this.#keyed) if (key >= from && key <= to) visit(key, words);
  }
}

/** Number of the lowest set bit of `word`, which is not 0. */
function lowest(word: number): number {
  return 31 - Math.clz32(word & -word);
}

/**
 * The summary lies elsewhere in memory. It is read only when the word was zero before: the summary
 * has the bit of any other word already.
 */
function setOne(words: Chunk, at: number): void {
  const w = at >>> 5;
  const before = words[w]!;
  if (before === 0) words[WORDS + (w >>> 5)] |= 1 << (w & 31);
  words[w] = before | (1 << (at & 31));
}

/** Set the bits `from` to `to` (inclusive) of one chunk. */
function set(words: Chunk, from: number, to: number): void {
  for (let w = from >>> 5; w <= to >>> 5; w++) {
    words[w] |= maskOf(w, from, to);
    words[WORDS + (w >>> 5)] |= 1 << (w & 31);
  }
}

function unset(words: Chunk, from: number, to: number): void {
  for (let w = from >>> 5; w <= to >>> 5; w++) {
    words[w] &= ~maskOf(w, from, to);
    if (words[w] === 0) words[WORDS + (w >>> 5)] &= ~(1 << (w & 31));
  }
}

/** The bits of word `w` that lie among `from` to `to`. */
function maskOf(w: number, from: number, to: number): number {
  let mask = -1;
  if (w === from >>> 5) mask &= -1 << (from & 31);
  if (w === to >>> 5) mask &= -1 >>> (31 - (to & 31));
  return mask;
}

/**
 * `at` is the distance of bit 0 of `word` from the first reported bit. It is below zero when the
 * word begins before that bit; the bits before it are clear.
 */
function orBits(word: number, at: number, bytes: Uint8Array, bitOffset: number, unit: number): void {
  if (unit === 1) {
    orWord(word, at + bitOffset, bytes);
    return;
  }
  for (; word !== 0; word &= word - 1) {
    const out = Math.floor((at + lowest(word)) / unit) + bitOffset;
    bytes[Math.floor(out / 8)] |= 1 << (out & 7);
  }
}

/**
 * Or `word` into `bytes` at bit `at`. `at` is 31 below zero at the lowest; the word's bits before
 * bit 0 of `bytes` are clear.
 */
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
