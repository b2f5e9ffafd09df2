/**
 * Copies of frames: short ones by loops, which are faster than the view that `set` needs; whole
 * doublewords where both sides are aligned.
 */

/** Bytes that a loop copies faster than a view. */
const SHORT = 160;
const NO_WORDS = new Uint32Array(0);

/** Copies between one buffer and others; it keeps the doublewords of the buffers that came last. */
export class ByteCopy {
  #from: Uint8Array | null = null;
  #fromWords = NO_WORDS;
  #to: Uint8Array | null = null;
  #toWords = NO_WORDS;

  /** Copies `length` bytes. @returns the index behind them in `into` */
  copy(from: Uint8Array, offset: number, length: number, into: Uint8Array, at: number): number {
    const end = at + length;
    if (length > SHORT) {
      into.set(from.subarray(offset, offset + length), at);
      return end;
    }
    let source = offset;
    let target = at;
    const first = from.byteOffset + offset;
    const second = into.byteOffset + at;
    if (((first | second) & 3) === 0) {
      // `buffer` is a slow getter, so views are compared.
      if (from !== this.#from) {
        this.#from = from;
        this.#fromWords = wordsOf(from.buffer);
      }
      if (into !== this.#to) {
        this.#to = into;
        this.#toWords = wordsOf(into.buffer);
      }
      const words = this.#fromWords;
      const others = this.#toWords;
      const count = length >>> 2;
      const a = first >>> 2;
      const b = second >>> 2;
      for (let i = 0; i < count; i++) others[b + i] = words[a + i]!;
      source += count << 2;
      target += count << 2;
    }
    while (target < end) into[target++] = from[source++]!;
    return end;
  }

  /** Memory that is unmapped must not stay because of a copy. */
  forget(): void {
    this.#from = null;
    this.#fromWords = NO_WORDS;
    this.#to = null;
    this.#toWords = NO_WORDS;
  }
}

function wordsOf(buffer: ArrayBufferLike): Uint32Array<ArrayBuffer> {
  return new Uint32Array(buffer as ArrayBuffer, 0, buffer.byteLength >>> 2);
}
