/**
 * From the bytes of an x86-64 instruction to its memory operand, by the table of x86-opcodes.ts.
 *
 * One object serves all instructions of a thread: `decode` fills it in and allocates nothing.
 *
 * @see Intel SDM volume 2, chapter 2 (prefixes, ModR/M, SIB, VEX, EVEX)
 */
import { type Form, hasOperandByte, type OpcodeMap, type OperandSize, opcodeRows, type Selector } from './x86-opcodes.ts';

/** The longest instruction: SDM volume 2, 2.3.11. */
export const INSTRUCTION_MAX = 15;

const maps = ['one', '0f', '0f38'] as const satisfies readonly OpcodeMap[];
const selectors = ['none', '66', 'f3', 'f2'] as const satisfies readonly Selector[];

/** By map, selector, opcode and digit; a form without a digit stands under all eight. */
const forms: (Form | null)[] = new Array(maps.length * selectors.length * 256 * 8).fill(null);

function slot(map: number, selector: number, opcode: number, digit: number): number {
  return ((map * selectors.length + selector) * 256 + opcode) * 8 + digit;
}

for (const { map, selector, opcode, digit, ...form } of opcodeRows) {
  for (const [number, name] of selectors.entries()) {
    if (selector !== 'any' && selector !== name) continue;
    for (let each = 0; each < 8; each++) {
      if (digit !== undefined && digit !== each) continue;
      const at = slot(maps.indexOf(map), number, opcode, each);
      // A row with a selector of its own stands above one for any.
      if (forms[at] !== null && selector === 'any') throw new Error(`two rows for opcode ${opcode.toString(16)} /${each}`);
      forms[at] = form;
    }
  }
}

/** The encodings in which an instruction can come. */
const LEGACY = 0;
const VEX = 1;
const EVEX = 2;

/** Register numbers that stand for none and for the address of the next instruction. */
export const NO_REGISTER = -1;
export const RIP = 16;

export class Instruction {
  /** Bytes. */
  length = 0;
  form!: Form;
  opcode = 0;
  /** Bytes of the memory operand. */
  size = 0;
  /** Bytes of a general register that is the other operand. */
  registerSize = 0;
  /** The other operand. For bytes without REX, 4 to 7 are AH, CH, DH, BH. */
  register = 0;
  /** A REX prefix, or an encoding that has one inside: byte registers 4 to 7 are SPL to DIL. */
  rex = false;
  /** The immediate value, sign-extended: its lower half, as a signed number. */
  immediate = 0;
  base = NO_REGISTER;
  index = NO_REGISTER;
  scale = 1;
  /** The displacement, as a signed number. */
  displacement = 0;
  /** The absolute address of a form that has one. */
  absolute = 0;
  segment: 'none' | 'fs' | 'gs' = 'none';
  /** Addresses have 32 bits. */
  narrow = false;
  repeats = false;
  /** A load clears the register above its operand: VEX and EVEX. */
  clears = false;
  /** Bytes of the vector. */
  vectorSize = 16;

  #bytes: Uint8Array = new Uint8Array(0);
  #at = 0;
  #end = 0;

  /**
   * Fill in from the first `length` bytes of `bytes`.
   *
   * @returns false: the table has no such instruction, its operand is no memory, or bytes lack
   */
  decode(bytes: Uint8Array, length: number): boolean {
    this.#bytes = bytes;
    this.#at = 0;
    this.#end = Math.min(length, INSTRUCTION_MAX);
    this.segment = 'none';
    this.narrow = false;
    this.repeats = false;
    this.clears = false;
    this.vectorSize = 16;
    this.base = NO_REGISTER;
    this.index = NO_REGISTER;
    this.scale = 1;
    this.displacement = 0;
    this.immediate = 0;
    let operand16 = false;
    let repeat = 0;
    let byte = this.#next();
    for (; ; byte = this.#next()) {
      if (byte === 0x66) operand16 = true;
      else if (byte === 0x67) this.narrow = true;
      else if (byte === 0x64) this.segment = 'fs';
      else if (byte === 0x65) this.segment = 'gs';
      else if (byte === 0xf2 || byte === 0xf3) repeat = byte;
      // LOCK, and segments that 64-bit code ignores.
      else if (byte !== 0xf0 && byte !== 0x2e && byte !== 0x36 && byte !== 0x3e && byte !== 0x26) break;
    }
    let rex = 0;
    let map = 0;
    let encoding = LEGACY;
    let selector = repeat === 0xf3 ? 2 : repeat === 0xf2 ? 3 : operand16 ? 1 : 0;
    let moreRegisters = 0;
    let compressed = false;
    if (byte >= 0x40 && byte <= 0x4f) {
      rex = byte;
      byte = this.#next();
    }
    this.rex = rex !== 0;
    if (byte === 0x0f) {
      map = 1;
      byte = this.#next();
      if (byte === 0x38) {
        map = 2;
        byte = this.#next();
      }
    } else if (byte === 0xc5 || byte === 0xc4) {
      encoding = VEX;
      const first = this.#next();
      let last = first;
      rex = (first & 0x80) === 0 ? 4 : 0;
      map = 1;
      if (byte === 0xc4) {
        rex |= ((first & 0x40) === 0 ? 2 : 0) | ((first & 0x20) === 0 ? 1 : 0);
        map = first & 0x1f;
        last = this.#next();
        rex |= (last & 0x80) !== 0 ? 8 : 0;
      }
      // Two operands only: the field for a third is empty.
      if ((last & 0x78) !== 0x78) return false;
      this.vectorSize = (last & 4) !== 0 ? 32 : 16;
      selector = last & 3;
      byte = this.#next();
    } else if (byte === 0x62) {
      encoding = EVEX;
      const first = this.#next();
      const second = this.#next();
      const third = this.#next();
      rex =
        ((first & 0x80) === 0 ? 4 : 0) | ((first & 0x40) === 0 ? 2 : 0) | ((first & 0x20) === 0 ? 1 : 0) | ((second & 0x80) !== 0 ? 8 : 0);
      moreRegisters = (first & 0x10) === 0 ? 16 : 0;
      map = first & 7;
      selector = second & 3;
      // Two operands; no mask, no broadcast.
      if ((second & 0x7c) !== 0x7c || (third & 0x1f) !== 0x08 || (third & 0x60) === 0x60) return false;
      this.vectorSize = 16 << ((third >> 5) & 3);
      compressed = true;
      byte = this.#next();
    }
    if (map >= maps.length || (encoding !== LEGACY && (map === 0 || this.#at > this.#end))) return false;
    this.opcode = byte;
    this.clears = encoding !== LEGACY;
    const wide = (rex & 8) !== 0;
    // Strings and absolute addresses: no such byte.
    const plain = forms[slot(map, selector, byte, 0)] ?? null;
    if (plain !== null && !hasOperandByte(plain)) {
      this.form = plain;
      this.register = 0;
      this.repeats = repeat !== 0;
      this.#setSizes(wide, operand16);
      if (plain.absolute === true) this.absolute = this.narrow ? this.#u32() : this.#u32() + this.#u32() * 2 ** 32;
      this.length = this.#at;
      return this.#at <= this.#end;
    }
    const operands = this.#next();
    const digit = (operands >> 3) & 7;
    const form = forms[slot(map, selector, byte, digit)] ?? null;
    if (form === null || operands >= 0xc0) return false;
    if (encoding === VEX ? form.vex !== true : encoding === EVEX ? form.evex !== true : form.evex === true && form.vex !== true)
      return false;
    this.form = form;
    this.register = digit | ((rex & 4) !== 0 ? 8 : 0) | moreRegisters;
    this.#setSizes(wide, operand16);
    this.#memory(operands, rex, compressed ? this.size : 1);
    if (form.immediate !== undefined) {
      this.immediate = form.immediate === 1 ? this.#i8() : this.size === 2 ? this.#i16() : this.#u32() | 0;
    }
    this.length = this.#at;
    return this.#at <= this.#end;
  }

  #setSizes(wide: boolean, operand16: boolean): void {
    const { operation, size } = this.form;
    const byOperand = wide ? 8 : operand16 ? 2 : 4;
    this.registerSize = byOperand;
    this.size = this.#sizeOf(size, wide, byOperand);
    if (operation !== 'zero-extend' && operation !== 'sign-extend') this.registerSize = this.size;
    if ((operation === 'push' || operation === 'pop') && !operand16) this.size = 8;
  }

  #sizeOf(size: OperandSize, wide: boolean, byOperand: number): number {
    if (size === 'v') return byOperand;
    if (size === 'z') return wide ? 8 : 4;
    return size === 'V' ? this.vectorSize : size;
  }

  /** @param unit bytes that one of a displacement of one byte stands for (EVEX) */
  #memory(operands: number, rex: number, unit: number): void {
    const mode = operands >> 6;
    let low = operands & 7;
    if (low === 4) {
      const sib = this.#next();
      const index = ((sib >> 3) & 7) | ((rex & 2) !== 0 ? 8 : 0);
      // RSP is no index.
      if (index !== 4) this.index = index;
      this.scale = 1 << (sib >> 6);
      low = sib & 7;
      if (low === 5 && mode === 0) {
        this.displacement = this.#u32() | 0;
        return;
      }
    } else if (low === 5 && mode === 0) {
      this.base = RIP;
      this.displacement = this.#u32() | 0;
      return;
    }
    this.base = low | ((rex & 1) !== 0 ? 8 : 0);
    if (mode === 1) this.displacement = this.#i8() * unit;
    else if (mode === 2) this.displacement = this.#u32() | 0;
  }

  /** Bytes behind the end are zeroes; `decode` looks at the length at its end. */
  #next(): number {
    const at = this.#at++;
    return at < this.#end ? this.#bytes[at]! : 0;
  }

  #i8(): number {
    return (this.#next() << 24) >> 24;
  }

  #i16(): number {
    const low = this.#next();
    return ((low | (this.#next() << 8)) << 16) >> 16;
  }

  #u32(): number {
    const low = this.#next() | (this.#next() << 8);
    return (low | (this.#next() << 16) | (this.#next() << 24)) >>> 0;
  }
}
