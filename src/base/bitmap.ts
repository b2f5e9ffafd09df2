/**
 * A bitmap over the numbers 0 to 2^53, kept in chunks that exist only where a bit was ever set: it
 * costs memory for what was touched, not for what could be. Each chunk says besides which of its
 * words are not zero, so that walking costs what is set, not what is touched. Marking in the chunk
 * marked last is a comparison or two and a store.
 */
const CHUNK_BITS = 32768;
const WORDS = CHUNK_BITS / 32;
/** Behind the words: one bit for each of them that is not zero. */
const SUMMARY_WORDS = WORDS / 32;
/** Chunks up to this one are found by index, the others by key. */
const INDEXED = 65536;

type Chunk = Uint32Array<ArrayBuffer>;

export class Bitmap {
  /** Of low numbers, which nearly all are; grown as needed. */
  #indexed: (Chunk | undefined)[] = [];
  readonly #keyed = new Map<number, Chunk>();
  #count = 0;
  #lastKey = -1;
  #last: Chunk = new Uint32Array(0);

  /** Chunks allocated, 4 KiB each. */
  get chunks(): number {
    return this.#count;
  }

  /** Set the bits first to last (inclusive). Integers, first <= last: the caller's promise. */
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

  /** As `mark` of one bit below 2^31: passed as a small integer, it costs no number on the heap. */
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

  /** Clear the bits first to last (inclusive); chunks that lie wholly inside are freed. */
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
   * byte 0 and on. Each output bit stands for `unit` bits here and is set when any of them is;
   * `first` must be a multiple of `unit` then, or is the first bit of the first unit. Only sets,
   * never clears.
   */
  orInto(first: number, last: number, bytes: Uint8Array, bitOffset = 0, unit = 1): void {
    this.#walk(first, last, false, (word, bit) => orBits(word, bit - first, bytes, bitOffset, unit));
  }

  /** As `orInto`, and clear what was told. The chunks stay, for the next marks. */
  take(first: number, last: number, bytes: Uint8Array, bitOffset = 0, unit = 1): void {
    this.#walk(first, last, true, (word, bit) => orBits(word, bit - first, bytes, bitOffset, unit));
  }

  /** How many of the bits first to last are set. */
  countSet(first: number, last: number): number {
    let sum = 0;
    this.#walk(first, last, false, (word) => {
      for (; word !== 0; word &= word - 1) sum++;
    });
    return sum;
  }

  /** The first bit that is set among `first` to `last`; -1 when none is. */
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
        // The next word that has a bit, by the summary.
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
   * Each word that has bits among first to last, cut to them, with the number of its bit 0; not in
   * order where chunks are far apart.
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

  /** The first chunk that exists at `key` or after; -1 when there is none. */
  #nextKey(key: number): number {
    const { length } = this.#indexed;
    for (let k = key; k < length; k++) if (this.#indexed[k] !== undefined) return k;
    let least = -1;
    for (const k of this.#keyed.keys()) if (k >= key && (least < 0 || k < least)) least = k;
    return least;
  }

  /**
   * The chunks that exist and touch [first, last]: by number when the range is short, else by what
   * exists.
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

/** Number of the lowest bit that is set; `word` is not 0. */
function lowest(word: number): number {
  return 31 - Math.clz32(word & -word);
}

/**
 * The summary, which lies elsewhere in memory, is looked at only when it does not say so yet: a
 * word that is not zero it knows.
 */
function setOne(words: Chunk, at: number): void {
  const w = at >>> 5;
  const before = words[w]!;
  if (before === 0) words[WORDS + (w >>> 5)] |= 1 << (w & 31);
  words[w] = before | (1 << (at & 31));
}

/** Set the bits from to to (inclusive) of one chunk. */
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

/** The bits of word `w` that lie among from to to. */
function maskOf(w: number, from: number, to: number): number {
  let mask = -1;
  if (w === from >>> 5) mask &= -1 << (from & 31);
  if (w === to >>> 5) mask &= -1 >>> (31 - (to & 31));
  return mask;
}

/**
 * `at` = how far bit 0 of `word` is behind the first bit that is told; below zero when the word's
 * bits down there are clear.
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
 * Or `word` into `bytes` at bit `at`. `at` may be up to 31 below zero when the word's bits down
 * there are clear.
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
