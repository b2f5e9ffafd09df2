/**
 * The general registers of a stopped thread of x86-64, as `PTRACE_GETREGSET` gives them for
 * NT_PRSTATUS.
 *
 * Halves of 32 bits: numbers of 64 bits would be bigints, which are allocated.
 *
 * @see linux/arch/x86/include/asm/user_64.h, struct user_regs_struct
 */

/** Bytes of the structure. A thread that runs 32-bit code has another one, of another size. */
export const REGISTERS_BYTES = 216;
const WORDS = REGISTERS_BYTES / 4;

/** By number of the instruction set (RAX to R15, RIP): the index of the register's lower half. */
const lowHalf = [10, 11, 12, 5, 19, 4, 13, 14, 9, 8, 7, 6, 3, 2, 1, 0, 16].map((index) => 2 * index);
const ORIG_RAX = 2 * 15;
const FLAGS = 2 * 18;
const FS_BASE = 2 * 21;
const GS_BASE = 2 * 22;

export const Gpr = { RAX: 0, RCX: 1, RDX: 2, RSP: 4, RSI: 6, RDI: 7, R8: 8, R9: 9, R10: 10, RIP: 16 } as const;

/** Bits of EFLAGS. */
export const Flag = { CARRY: 1, PARITY: 4, ADJUST: 0x10, ZERO: 0x40, SIGN: 0x80, DIRECTION: 0x400, OVERFLOW: 0x800 } as const;
/** The bits that arithmetic sets. */
export const STATUS_FLAGS = Flag.CARRY | Flag.PARITY | Flag.ADJUST | Flag.ZERO | Flag.SIGN | Flag.OVERFLOW;

export class Registers {
  /** The structure, which the kernel reads and writes. */
  readonly bytes = new Uint8Array(REGISTERS_BYTES);
  readonly #words = new Uint32Array(this.bytes.buffer, 0, WORDS);

  /** The lower half. */
  low(register: number): number {
    return this.#words[lowHalf[register]!]!;
  }

  /** The upper half. */
  high(register: number): number {
    return this.#words[lowHalf[register]! + 1]!;
  }

  set(register: number, low: number, high: number): void {
    const at = lowHalf[register]!;
    this.#words[at] = low;
    this.#words[at + 1] = high;
  }

  /** A value below 2^53. */
  setNumber(register: number, value: number): void {
    this.set(register, value % 2 ** 32, Math.floor(value / 2 ** 32));
  }

  /** The value as a number: exact below 2^53, as every address of a program is. */
  number(register: number): number {
    return this.high(register) * 2 ** 32 + this.low(register);
  }

  /**
   * The lower half of an operand of `size` bytes.
   *
   * @param rex whether byte registers 4 to 7 are SPL to DIL; else they are AH to BH
   */
  operand(register: number, size: number, rex: boolean): number {
    if (size >= 4) return this.low(register);
    if (size === 2) return this.low(register) & 0xffff;
    return !rex && register >= 4 && register < 8 ? (this.low(register - 4) >>> 8) & 0xff : this.low(register) & 0xff;
  }

  /** Write an operand: 4 bytes clear the upper half, 1 and 2 leave the rest alone. */
  setOperand(register: number, size: number, rex: boolean, low: number, high: number): void {
    if (size === 8) this.set(register, low, high);
    else if (size === 4) this.set(register, low, 0);
    else if (size === 2) this.#setBits(register, 0xffff, low);
    else if (!rex && register >= 4 && register < 8) this.#setBits(register - 4, 0xff00, low << 8);
    else this.#setBits(register, 0xff, low);
  }

  #setBits(register: number, mask: number, bits: number): void {
    const at = lowHalf[register]!;
    this.#words[at] = (this.#words[at]! & ~mask) | (bits & mask);
  }

  get flags(): number {
    return this.#words[FLAGS]!;
  }

  set flags(value: number) {
    this.#words[FLAGS] = value;
  }

  baseLow(segment: 'fs' | 'gs'): number {
    return this.#words[segment === 'fs' ? FS_BASE : GS_BASE]!;
  }

  baseHigh(segment: 'fs' | 'gs'): number {
    return this.#words[(segment === 'fs' ? FS_BASE : GS_BASE) + 1]!;
  }

  /** No system call is to be restarted when the thread goes on. */
  forgetCall(): void {
    this.#words[ORIG_RAX] = 0xffff_ffff;
    this.#words[ORIG_RAX + 1] = 0xffff_ffff;
  }
}
