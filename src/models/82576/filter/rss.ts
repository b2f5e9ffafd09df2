/**
 * The hash of receive-side scaling (7.1.1.7): Toeplitz's, over addresses and ports. A table for
 * each byte of the input holds what each of its values adds, so a hash is one look-up a byte.
 */

/** Two IPv6 addresses and two ports. */
const INPUT = 36;
/** RSSRK: 40 bytes (8.10.16). */
export const RSS_KEY_BYTES = 40;

export class RssHash {
  readonly #table = new Int32Array(INPUT * 256);

  /** @param key 40 bytes, as RSSRK has them */
  setKey(key: Uint8Array): void {
    for (let at = 0; at < INPUT; at++) {
      const row = at * 256;
      for (let bit = 0; bit < 8; bit++) this.#table[row + (0x80 >>> bit)] = windowAt(key, at * 8 + bit);
      // Every other value is its lowest bit and the rest.
      for (let value = 1; value < 256; value++) {
        const lowest = value & -value;
        if (value !== lowest) this.#table[row + value] = this.#table[row + lowest]! ^ this.#table[row + value - lowest]!;
      }
    }
  }

  /**
   * Takes in `length` bytes of `bytes` behind the `done` bytes that `hash` has.
   *
   * @returns the hash, as a signed number of 32 bits
   */
  add(hash: number, done: number, bytes: Uint8Array, from: number, length: number): number {
    const table = this.#table;
    let result = hash;
    let row = done << 8;
    for (let i = from; i < from + length; i++) {
      result ^= table[row + bytes[i]!]!;
      row += 256;
    }
    return result;
  }
}

/** The 32 bits of the key from bit `bit` on; bit 0 is the most significant bit of byte 0. */
function windowAt(key: Uint8Array, bit: number): number {
  const at = bit >>> 3;
  const shift = bit & 7;
  const high = (key[at]! << 24) | (key[at + 1]! << 16) | (key[at + 2]! << 8) | key[at + 3]!;
  return shift === 0 ? high : (high << shift) | (key[at + 4]! >>> (8 - shift));
}
