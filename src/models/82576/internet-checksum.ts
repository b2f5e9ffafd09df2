/**
 * The Internet checksum (RFC 1071), for both directions of the card: a sum of 16-bit words, whose
 * carries fold in at the end.
 *
 * Sums are in the order of the network. Four bytes at a time are added as one word of this
 * machine: the sum of swapped words is the swapped sum (RFC 1071, 2 B).
 */

/** Views of a buffer as doublewords. Frames come from few buffers, so the last one is kept. */
let wordsOf: ArrayBufferLike | null = null;
let words: Uint32Array = new Uint32Array(0);

function wordsFor(bytes: Uint8Array): Uint32Array {
  if (bytes.buffer !== wordsOf) {
    wordsOf = bytes.buffer;
    words = new Uint32Array(wordsOf, 0, wordsOf.byteLength >>> 2);
  }
  return words;
}

/** The sum of `bytes` from `from` up to `to`, with carries: `fold` it, or add others first. */
export function sumWords(bytes: Uint8Array, from: number, to: number): number {
  let sum = 0;
  let at = from;
  if (to - from >= 32) {
    // The buffer's doublewords, as far as they lie in the range at all.
    const dwords = wordsFor(bytes);
    const base = bytes.byteOffset;
    while (((base + at) & 3) !== 0 && (base & 1) === (from & 1) && at + 2 <= to) {
      sum += (bytes[at]! << 8) | bytes[at + 1]!;
      at += 2;
    }
    if (((base + at) & 3) === 0) {
      const last = Math.min((base + to) >>> 2, dwords.length);
      let low = 0;
      let high = 0;
      let i = (base + at) >>> 2;
      for (; i + 4 <= last; i += 4) {
        const a = dwords[i]!;
        const b = dwords[i + 1]!;
        const c = dwords[i + 2]!;
        const d = dwords[i + 3]!;
        low += (a & 0xffff) + (b & 0xffff) + (c & 0xffff) + (d & 0xffff);
        high += (a >>> 16) + (b >>> 16) + (c >>> 16) + (d >>> 16);
      }
      at = (i << 2) - base;
      const words16 = fold(low + high);
      sum += ((words16 & 0xff) << 8) | (words16 >>> 8);
    }
  }
  for (; at + 2 <= to; at += 2) sum += (bytes[at]! << 8) | bytes[at + 1]!;
  // An odd byte at the end is the upper half of a word whose lower half is zero.
  return at < to ? sum + (bytes[at]! << 8) : sum;
}

/** A sum without its carries: 16 bits. */
export function fold(sum: number): number {
  let folded = sum > 0xffff_ffff ? (sum % 0x1_0000) + Math.floor(sum / 0x1_0000) : sum;
  folded = (folded & 0xffff) + (folded >>> 16);
  return (folded & 0xffff) + (folded >>> 16);
}
