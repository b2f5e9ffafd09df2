/**
 * A sequence of accesses to registers, the same in the program that makes them and in the device
 * that counts them. Every place and every value is one of its own number, so that an access that is
 * torn, merged, doubled, dropped or out of order is another one than the device expects.
 */

export const REGISTER_BYTES = 4096;

export interface Access {
  write: boolean;
  width: 1 | 2 | 4 | 8;
  offset: number;
  /** Halves of the value. */
  low: number;
  high: number;
}

const widths = [1, 2, 4, 8] as const;

/** xorshift32: Marsaglia, "Xorshift RNGs". */
function next(state: number): number {
  let x = state ^ (state << 13);
  x ^= x >>> 17;
  return x ^ (x << 5);
}

export class AccessSequence {
  readonly access: Access = { write: false, width: 1, offset: 0, low: 0, high: 0 };
  /** The number of accesses so far. */
  made = 0;
  #state = 0x2545_f491;

  /** The next access, in `access`. */
  advance(): Access {
    const { access } = this;
    this.#state = next(this.#state);
    const bits = this.#state >>> 0;
    access.write = (bits & 1) === 1;
    access.width = widths[(bits >>> 1) & 3]!;
    access.offset = (bits >>> 3) & (REGISTER_BYTES - access.width);
    this.#state = next(this.#state);
    access.low = (this.#state ^ this.made) >>> 0;
    access.high = (this.#state >>> 7) ^ this.made;
    access.high >>>= 0;
    if (access.width < 4) access.low &= access.width === 1 ? 0xff : 0xffff;
    this.made++;
    return access;
  }
}
