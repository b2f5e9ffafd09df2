/**
 * One instruction with an operand in memory, carried out on the registers of a stopped thread. All
 * memory is behind a port: device registers, and the program's own memory where an instruction has
 * both.
 *
 * An operand of more than 8 bytes is several accesses, upwards; a bus carries no more at once. An
 * access that fails throws, and the registers stay as before it: the instruction has not happened,
 * but for the steps of a string that are done.
 */
import { Alu, holds, maskOf } from './alu.ts';
import { Flag, Gpr, type Registers, STATUS_FLAGS } from './registers.ts';
import type { VectorRegisters } from './vector-registers.ts';
import { type Instruction, NO_REGISTER, RIP } from './x86-decoder.ts';
import type { AluOperation } from './x86-opcodes.ts';

/** Memory by address. Values are halves of 32 bits. */
export interface AddressSpace {
  /** The value that `load` found. */
  readonly low: number;
  readonly high: number;
  /** @throws BusError where the program gets SIGBUS */
  load(address: number, size: number): void;
  store(address: number, size: number, low: number, high: number): void;
}

/** Gives the thread's vector registers, and notes that they are changed. */
export interface VectorPort {
  read(): VectorRegisters;
  changed(): void;
}

/** Steps of one REP before other threads have their turn; the instruction then goes on. */
const STEPS_MAX = 4096;

export class Emulator {
  readonly #registers: Registers;
  readonly #vectors: VectorPort;
  #memory!: AddressSpace;
  readonly #alu = new Alu();

  constructor(registers: Registers, vectors: VectorPort) {
    this.#registers = registers;
    this.#vectors = vectors;
  }

  /**
   * Carry out `instruction`, which is at RIP, on `memory`, and go to the next one.
   *
   * @throws what an access throws
   */
  run(instruction: Instruction, memory: AddressSpace): void {
    this.#memory = memory;
    const { operation } = instruction.form;
    if (operation === 'copy' || operation === 'fill' || operation === 'take') {
      if (this.#string(instruction)) this.#advance(instruction);
      return;
    }
    this.#one(instruction);
    this.#advance(instruction);
  }

  #advance({ length }: Instruction): void {
    this.#registers.setNumber(Gpr.RIP, this.#registers.number(Gpr.RIP) + length);
  }

  /** The address of the memory operand, modulo 2^64. */
  #address(instruction: Instruction): number {
    const { base, index, scale, displacement, segment, narrow, form } = instruction;
    const registers = this.#registers;
    let low = displacement >>> 0;
    let high = displacement < 0 ? 0xffff_ffff : 0;
    if (form.absolute === true) {
      low = instruction.absolute % 2 ** 32;
      high = Math.floor(instruction.absolute / 2 ** 32);
    }
    if (base !== NO_REGISTER) {
      low += registers.low(base);
      high += registers.high(base);
      if (base === RIP) low += instruction.length;
    }
    if (index !== NO_REGISTER) {
      low += registers.low(index) * scale;
      high += registers.high(index) * scale;
    }
    if (narrow) {
      low %= 2 ** 32;
      high = 0;
    }
    if (segment !== 'none') {
      low += registers.baseLow(segment);
      high += registers.baseHigh(segment);
    }
    return ((high + Math.floor(low / 2 ** 32)) % 2 ** 32) * 2 ** 32 + (low % 2 ** 32);
  }

  #one(instruction: Instruction): void {
    const { form, size, register, rex, registerSize } = instruction;
    const registers = this.#registers;
    const memory = this.#memory;
    const address = this.#address(instruction);
    switch (form.operation) {
      case 'move':
        if (form.toRegister === true) {
          memory.load(address, size);
          registers.setOperand(register, size, rex, memory.low, memory.high);
        } else if (form.immediate !== undefined) {
          memory.store(address, size, instruction.immediate >>> 0, instruction.immediate < 0 ? 0xffff_ffff : 0);
        } else memory.store(address, size, registers.operand(register, size, rex), registers.high(register));
        return;
      case 'move-swapped':
        this.#moveSwapped(instruction, address);
        return;
      case 'zero-extend':
        memory.load(address, size);
        registers.setOperand(register, registerSize, true, memory.low, 0);
        return;
      case 'sign-extend': {
        memory.load(address, size);
        const value = size === 4 ? memory.low | 0 : size === 2 ? (memory.low << 16) >> 16 : (memory.low << 24) >> 24;
        registers.setOperand(register, registerSize, true, value >>> 0, value < 0 ? 0xffff_ffff : 0);
        return;
      }
      case 'move-if': {
        memory.load(address, size);
        if (holds(instruction.opcode & 15, registers.flags)) registers.setOperand(register, size, true, memory.low, memory.high);
        // 32 bits clear the upper half in any case.
        else if (size === 4) registers.set(register, registers.low(register), 0);
        return;
      }
      case 'set-if':
        memory.store(address, 1, holds(instruction.opcode & 15, registers.flags) ? 1 : 0, 0);
        return;
      case 'push': {
        memory.load(address, size);
        const { low, high } = memory;
        const top = registers.number(Gpr.RSP) - size;
        memory.store(top, size, low, high);
        registers.setNumber(Gpr.RSP, top);
        return;
      }
      case 'pop': {
        const top = registers.number(Gpr.RSP);
        memory.load(top, size);
        // An address by RSP is that of after the increment.
        memory.store(address + (instruction.base === Gpr.RSP ? size : 0), size, memory.low, memory.high);
        registers.setNumber(Gpr.RSP, top + size);
        return;
      }
      case 'vector':
        this.#vector(instruction, address);
        return;
      case 'hint':
        return;
      default:
        this.#arithmetic(instruction, address);
    }
  }

  #arithmetic(instruction: Instruction, address: number): void {
    const { form, size, register, rex, immediate } = instruction;
    const { operation } = form;
    const registers = this.#registers;
    const memory = this.#memory;
    const alu = this.#alu;
    if (operation === 'bit-test' || operation === 'bit-set' || operation === 'bit-reset' || operation === 'bit-complement') {
      this.#bit(instruction, address);
      return;
    }
    memory.load(address, size);
    const { low, high } = memory;
    let secondLow = immediate >>> 0;
    let secondHigh = immediate < 0 ? 0xffff_ffff : 0;
    if (form.immediate === undefined) {
      secondLow = registers.operand(register, size, rex);
      secondHigh = registers.high(register);
    }
    const before = registers.flags;
    switch (operation) {
      case 'not':
        memory.store(address, size, (~low & maskOf(size)) >>> 0, ~high >>> 0);
        return;
      case 'negate':
        alu.subtract(size, 0, 0, low, high, 0);
        memory.store(address, size, alu.low, alu.high);
        this.#setStatus(alu.flags);
        return;
      case 'increment':
      case 'decrement':
        if (operation === 'increment') alu.add(size, low, high, 1, 0, 0);
        else alu.subtract(size, low, high, 1, 0, 0);
        memory.store(address, size, alu.low, alu.high);
        // The carry flag stays.
        this.#setStatus((alu.flags & ~Flag.CARRY) | (before & Flag.CARRY));
        return;
      case 'test':
        alu.logic(size, low & secondLow, high & secondHigh);
        this.#setStatus(alu.flags);
        return;
      case 'exchange':
        memory.store(address, size, secondLow, secondHigh);
        registers.setOperand(register, size, rex, low, high);
        return;
      case 'exchange-add':
        alu.add(size, low, high, secondLow, secondHigh, 0);
        memory.store(address, size, alu.low, alu.high);
        registers.setOperand(register, size, rex, low, high);
        this.#setStatus(alu.flags);
        return;
      case 'compare-exchange': {
        alu.subtract(size, registers.operand(Gpr.RAX, size, true), registers.high(Gpr.RAX), low, high, 0);
        const equal = (alu.flags & Flag.ZERO) !== 0;
        // The processor writes in any case.
        if (equal) memory.store(address, size, secondLow, secondHigh);
        else memory.store(address, size, low, high);
        if (!equal) registers.setOperand(Gpr.RAX, size, true, low, high);
        this.#setStatus(alu.flags);
        return;
      }
      default: {
        const alone = operation as AluOperation;
        if (form.toRegister === true) {
          alu.run(alone, size, secondLow, secondHigh, low, high, before);
          if (alone !== 'cmp') registers.setOperand(register, size, rex, alu.low, alu.high);
        } else {
          alu.run(alone, size, low, high, secondLow, secondHigh, before);
          if (alone !== 'cmp') memory.store(address, size, alu.low, alu.high);
        }
        this.#setStatus(alu.flags);
      }
    }
  }

  #setStatus(flags: number): void {
    this.#registers.flags = ((this.#registers.flags & ~STATUS_FLAGS) | flags) >>> 0;
  }

  /** A bit number in a register reaches memory beside the operand, up to 2^63 bits away. */
  #bit(instruction: Instruction, operandAddress: number): void {
    const { form, size, register, immediate } = instruction;
    const { operation } = form;
    const memory = this.#memory;
    const registers = this.#registers;
    let address = operandAddress;
    let bit = immediate & (size * 8 - 1);
    if (form.immediate === undefined) {
      const low = registers.low(register);
      const number = size === 8 ? (registers.high(register) | 0) * 2 ** 32 + low : size === 4 ? low | 0 : (low << 16) >> 16;
      address += Math.floor(number / (size * 8)) * size;
      bit = low & (size * 8 - 1);
    }
    memory.load(address, size);
    let { low, high } = memory;
    const inLow = bit < 32;
    const mask = (1 << (bit & 31)) >>> 0;
    const carry = ((inLow ? low : high) & mask) === 0 ? 0 : Flag.CARRY;
    if (operation !== 'bit-test') {
      const half = inLow ? low : high;
      const changed = (operation === 'bit-set' ? half | mask : operation === 'bit-reset' ? half & ~mask : half ^ mask) >>> 0;
      if (inLow) low = changed;
      else high = changed;
      memory.store(address, size, low, high);
    }
    registers.flags = ((registers.flags & ~Flag.CARRY) | carry) >>> 0;
  }

  #moveSwapped({ form, size, register }: Instruction, address: number): void {
    const registers = this.#registers;
    const memory = this.#memory;
    const load = form.toRegister === true;
    if (load) memory.load(address, size);
    const low = load ? memory.low : registers.low(register);
    const high = load ? memory.high : registers.high(register);
    const swappedLow = size === 8 ? swap32(high) : size === 4 ? swap32(low) : swap32(low) >>> 16;
    const swappedHigh = size === 8 ? swap32(low) : 0;
    if (load) registers.setOperand(register, size, true, swappedLow, swappedHigh);
    else memory.store(address, size, swappedLow, swappedHigh);
  }

  #vector(instruction: Instruction, address: number): void {
    const { form, size, register, clears } = instruction;
    const memory = this.#memory;
    const first = form.upper === true ? 8 : 0;
    // A general register is no part of this: MOVD and MOVQ move the lowest bytes of a vector.
    const vectors = this.#vectors.read();
    if (form.toRegister !== true) {
      if (size === 4) memory.store(address, 4, vectors.word(register, first), 0);
      else
        for (let at = 0; at < size; at += 8)
          memory.store(address + at, 8, vectors.word(register, first + at), vectors.word(register, first + at + 4));
      return;
    }
    for (let at = 0; at < size; at += 8) {
      const step = Math.min(8, size - at);
      memory.load(address + at, step);
      vectors.setWord(register, first + at, memory.low);
      if (step === 8) vectors.setWord(register, first + at + 4, memory.high);
    }
    if (clears) vectors.clear(register, size);
    else if (form.keeps !== true) vectors.clear(register, size, 16);
    this.#vectors.changed();
  }

  /** @returns true when the instruction is at its end */
  #string({ form, size, repeats, segment, narrow }: Instruction): boolean {
    const registers = this.#registers;
    const memory = this.#memory;
    const step = (registers.flags & Flag.DIRECTION) === 0 ? size : -size;
    const at = (register: number) => (narrow ? registers.low(register) : registers.number(register));
    const move = (register: number) => registers.setNumber(register, narrow ? (at(register) + step) >>> 0 : at(register) + step);
    const base = segment === 'none' ? 0 : registers.baseHigh(segment) * 2 ** 32 + registers.baseLow(segment);
    for (let steps = 0; steps < STEPS_MAX; steps++) {
      if (repeats && at(Gpr.RCX) === 0) return true;
      if (form.operation !== 'fill') memory.load(base + at(Gpr.RSI), size);
      if (form.operation === 'take') registers.setOperand(Gpr.RAX, size, true, memory.low, memory.high);
      else if (form.operation === 'copy') memory.store(at(Gpr.RDI), size, memory.low, memory.high);
      else memory.store(at(Gpr.RDI), size, registers.operand(Gpr.RAX, size, true), registers.high(Gpr.RAX));
      if (form.operation !== 'fill') move(Gpr.RSI);
      if (form.operation !== 'take') move(Gpr.RDI);
      if (!repeats) return true;
      registers.setNumber(Gpr.RCX, at(Gpr.RCX) - 1);
    }
    return false;
  }
}

function swap32(value: number): number {
  return ((value << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24)) >>> 0;
}
