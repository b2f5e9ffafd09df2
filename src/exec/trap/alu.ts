/**
 * Results and flags of arithmetic on 1, 2, 4 or 8 bytes, in halves of 32 bits.
 *
 * One object is reused: an operation leaves its result in `low` and `high`, and the status flags in
 * `flags`.
 *
 * @see Intel SDM volume 1, appendix A (EFLAGS cross-reference), volume 2 (each instruction)
 */
import { Flag } from './registers.ts';
import type { AluOperation } from './x86-opcodes.ts';

const { CARRY, PARITY, ADJUST, ZERO, SIGN, OVERFLOW } = Flag;

/** The bits of the lower half that an operand of `size` bytes has. */
export function maskOf(size: number): number {
  return size >= 4 ? 0xffff_ffff : size === 2 ? 0xffff : 0xff;
}

export class Alu {
  low = 0;
  high = 0;
  flags = 0;

  /**
   * `first` op `second`, with the carry flag of `flags` where the operation has one. For 'cmp' the
   * flags are the result.
   */
  run(
    operation: AluOperation,
    size: number,
    firstLow: number,
    firstHigh: number,
    secondLow: number,
    secondHigh: number,
    flags: number,
  ): void {
    const carry = flags & CARRY;
    if (operation === 'add' || operation === 'adc')
      this.add(size, firstLow, firstHigh, secondLow, secondHigh, operation === 'adc' ? carry : 0);
    else if (operation === 'sub' || operation === 'cmp') this.subtract(size, firstLow, firstHigh, secondLow, secondHigh, 0);
    else if (operation === 'sbb') this.subtract(size, firstLow, firstHigh, secondLow, secondHigh, carry);
    else if (operation === 'and') this.logic(size, firstLow & secondLow, firstHigh & secondHigh);
    else if (operation === 'or') this.logic(size, firstLow | secondLow, firstHigh | secondHigh);
    else this.logic(size, firstLow ^ secondLow, firstHigh ^ secondHigh);
  }

  add(size: number, firstLow: number, firstHigh: number, secondLow: number, secondHigh: number, carry: number): void {
    const mask = maskOf(size);
    const a = (firstLow & mask) >>> 0;
    const b = (secondLow & mask) >>> 0;
    const sum = a + b + carry;
    this.low = (sum & mask) >>> 0;
    let out = sum > mask ? 1 : 0;
    let overflow = this.#top(size, (a ^ this.low) & (b ^ this.low));
    this.high = 0;
    if (size === 8) {
      const upper = (firstHigh >>> 0) + (secondHigh >>> 0) + out;
      this.high = upper >>> 0;
      out = upper > 0xffff_ffff ? 1 : 0;
      overflow = (firstHigh ^ this.high) & (secondHigh ^ this.high) & 0x8000_0000;
    }
    this.#setFlags(size, out, (a ^ b ^ this.low) & ADJUST, overflow);
  }

  subtract(size: number, firstLow: number, firstHigh: number, secondLow: number, secondHigh: number, borrow: number): void {
    const mask = maskOf(size);
    const a = (firstLow & mask) >>> 0;
    const b = (secondLow & mask) >>> 0;
    const difference = a - b - borrow;
    this.low = (difference & mask) >>> 0;
    let out = difference < 0 ? 1 : 0;
    let overflow = this.#top(size, (a ^ b) & (a ^ this.low));
    this.high = 0;
    if (size === 8) {
      const upper = (firstHigh >>> 0) - (secondHigh >>> 0) - out;
      this.high = upper >>> 0;
      out = upper < 0 ? 1 : 0;
      overflow = (firstHigh ^ secondHigh) & (firstHigh ^ this.high) & 0x8000_0000;
    }
    this.#setFlags(size, out, (a ^ b ^ this.low) & ADJUST, overflow);
  }

  /** A bitwise result: no carry, no overflow. */
  logic(size: number, low: number, high: number): void {
    this.low = (low & maskOf(size)) >>> 0;
    this.high = size === 8 ? high >>> 0 : 0;
    this.#setFlags(size, 0, 0, 0);
  }

  #top(size: number, bits: number): number {
    return size >= 4 ? bits & 0x8000_0000 : size === 2 ? bits & 0x8000 : bits & 0x80;
  }

  #setFlags(size: number, carry: number, adjust: number, overflow: number): void {
    let parity = this.low & 0xff;
    parity ^= parity >> 4;
    parity ^= parity >> 2;
    parity ^= parity >> 1;
    const sign = size === 8 ? this.high & 0x8000_0000 : this.#top(size, this.low);
    this.flags =
      (carry === 0 ? 0 : CARRY) |
      ((parity & 1) === 0 ? PARITY : 0) |
      adjust |
      (this.low === 0 && this.high === 0 ? ZERO : 0) |
      (sign === 0 ? 0 : SIGN) |
      (overflow === 0 ? 0 : OVERFLOW);
  }
}

/** Whether condition `code`, the lower four bits of Jcc, SETcc and CMOVcc, holds. */
export function holds(code: number, flags: number): boolean {
  const is = (flag: number) => (flags & flag) !== 0;
  let result: boolean;
  switch (code >> 1) {
    case 0:
      result = is(OVERFLOW);
      break;
    case 1:
      result = is(CARRY);
      break;
    case 2:
      result = is(ZERO);
      break;
    case 3:
      result = is(CARRY | ZERO);
      break;
    case 4:
      result = is(SIGN);
      break;
    case 5:
      result = is(PARITY);
      break;
    case 6:
      result = is(SIGN) !== is(OVERFLOW);
      break;
    default:
      result = is(ZERO) || is(SIGN) !== is(OVERFLOW);
  }
  return (code & 1) === 0 ? result : !result;
}
