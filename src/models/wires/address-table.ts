/**
 * The addresses that a switch has learnt: a hash table of fixed size. A full table replaces the
 * address that it has not seen for longest among those of the same few places, so that a flood of
 * addresses costs memory and time of no more than one.
 */

/** The bit of an address's first byte that makes it one of a group. */
export const MULTICAST = 0x01;
/** Places in which an address can be. */
const WAYS = 4;

/** The 48 bits of an address as an exact number. */
export function keyOf(bytes: Uint8Array, at: number): number {
  const high = (bytes[at]! << 8) | bytes[at + 1]!;
  const low = ((bytes[at + 2]! << 24) | (bytes[at + 3]! << 16) | (bytes[at + 4]! << 8) | bytes[at + 5]!) >>> 0;
  return high * 0x1_0000_0000 + low;
}

export class AddressTable {
  readonly #keys: Float64Array;
  readonly #ports: Int32Array;
  readonly #seenNs: Float64Array;
  readonly #sets: number;
  readonly #ageNs: number;

  /** @param size addresses; rounded up to a power of two of sets of four */
  constructor(size: number, ageNs: number) {
    this.#sets = 2 ** Math.ceil(Math.log2(Math.max(1, size / WAYS)));
    this.#keys = new Float64Array(this.#sets * WAYS).fill(-1);
    this.#ports = new Int32Array(this.#sets * WAYS);
    this.#seenNs = new Float64Array(this.#sets * WAYS).fill(Number.NEGATIVE_INFINITY);
    this.#ageNs = ageNs;
  }

  #setOf(key: number): number {
    const high = Math.floor(key / 0x1_0000_0000);
    const low = (key - high * 0x1_0000_0000) | 0;
    // Neighbouring addresses differ in their last byte: the product spreads it.
    const hash = Math.imul(low ^ Math.imul(high, 0x85eb_ca6b), 0x9e37_79b1) >>> 0;
    return ((hash >>> 8) & (this.#sets - 1)) * WAYS;
  }

  learn(key: number, port: number, nowNs: number): void {
    const set = this.#setOf(key);
    let place = set;
    for (let i = set; i < set + WAYS; i++) {
      if (this.#keys[i] === key) {
        place = i;
        break;
      }
      if (this.#seenNs[i]! < this.#seenNs[place]!) place = i;
    }
    this.#keys[place] = key;
    this.#ports[place] = port;
    this.#seenNs[place] = nowNs;
  }

  /** The port behind which the address was seen last; -1: not known, or too long ago. */
  find(key: number, nowNs: number): number {
    const set = this.#setOf(key);
    for (let i = set; i < set + WAYS; i++) {
      if (this.#keys[i] === key) return nowNs - this.#seenNs[i]! > this.#ageNs ? -1 : this.#ports[i]!;
    }
    return -1;
  }

  /** Forgets all addresses behind a port. */
  forget(port: number): void {
    for (let i = 0; i < this.#keys.length; i++) {
      if (this.#ports[i] !== port) continue;
      this.#keys[i] = -1;
      this.#seenNs[i] = Number.NEGATIVE_INFINITY;
    }
  }
}
