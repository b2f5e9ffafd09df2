/**
 * The instructions of x86-64 that have an operand in memory and are emulated where that memory is a
 * device's registers: what compilers make of volatile accesses, the C library's copies and the
 * intrinsics of drivers.
 *
 * @see Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, appendix A (opcode
 * maps), 2.3 (VEX) and 2.7 (EVEX)
 */

/** Arithmetic with the memory operand; `alu.ts` has their results and flags. */
export const aluOperations = ['add', 'or', 'adc', 'sbb', 'and', 'sub', 'xor', 'cmp'] as const;
export type AluOperation = (typeof aluOperations)[number];

export type Operation =
  | AluOperation
  /** To or from a general register, or from an immediate value. */
  | 'move'
  /** The other byte order. */
  | 'move-swapped'
  | 'zero-extend'
  | 'sign-extend'
  | 'move-if'
  | 'set-if'
  | 'test'
  | 'not'
  | 'negate'
  | 'increment'
  | 'decrement'
  | 'exchange'
  | 'compare-exchange'
  | 'exchange-add'
  | 'bit-test'
  | 'bit-set'
  | 'bit-reset'
  | 'bit-complement'
  | 'push'
  | 'pop'
  /** Strings, with or without REP. */
  | 'copy'
  | 'fill'
  | 'take'
  /** To or from a vector register. */
  | 'vector'
  /** Hints about caches, which no register has. */
  | 'hint';

/**
 * Bytes of the memory operand: a number; `v`: 2, 4 or 8 by the operand size; `z`: 4, or 8 with W;
 * `V`: the length of the vector.
 */
export type OperandSize = 1 | 2 | 4 | 8 | 16 | 'v' | 'z' | 'V';

/** The opcode maps; `vex` and `evex` forms are in the map `0f` of theirs unless they say `0f38`. */
export type OpcodeMap = 'one' | '0f' | '0f38';
/** The prefix that selects the instruction; `any`: a prefix changes the operand size at most. */
export type Selector = 'any' | 'none' | '66' | 'f3' | 'f2';

export interface Form {
  readonly operation: Operation;
  readonly size: OperandSize;
  /** The result goes to the register. Else it goes to memory, where the operation has a result. */
  readonly toRegister?: boolean;
  /** Bytes of an immediate value, which is the second operand. 4: no more than 4, sign-extended. */
  readonly immediate?: 1 | 4;
  /** The memory operand is an absolute address in the instruction. */
  readonly absolute?: boolean;
  /** Legacy encodings of vectors: the rest of the 16 bytes is left alone by a load. */
  readonly keeps?: boolean;
  /** The upper half of the 16 bytes is the operand. */
  readonly upper?: boolean;
  /** The encodings besides the legacy one that the instruction has. */
  readonly vex?: boolean;
  readonly evex?: boolean;
}

export interface Row extends Form {
  readonly map: OpcodeMap;
  readonly selector: Selector;
  readonly opcode: number;
  /** The digit in the register field that belongs to the opcode. */
  readonly digit?: number;
}

const rows: Row[] = [];

function row(map: OpcodeMap, selector: Selector, opcode: number, form: Form & { readonly digit?: number }): void {
  rows.push({ map, selector, opcode, ...form });
}

/** The opcode for bytes, and the next one for 2, 4 or 8 bytes. */
function pair(map: OpcodeMap, opcode: number, form: Omit<Form, 'size'> & { readonly digit?: number }): void {
  row(map, 'any', opcode, { ...form, size: 1, ...(form.immediate === undefined ? {} : { immediate: 1 }) });
  row(map, 'any', opcode + 1, { ...form, size: 'v' });
}

for (const [digit, operation] of aluOperations.entries()) {
  pair('one', digit * 8, { operation });
  pair('one', digit * 8 + 2, { operation, toRegister: true });
  pair('one', 0x80, { operation, immediate: 4, digit });
  row('one', 'any', 0x83, { operation, size: 'v', immediate: 1, digit });
}
row('one', 'any', 0x63, { operation: 'sign-extend', size: 4, toRegister: true });
pair('one', 0x84, { operation: 'test' });
pair('one', 0x86, { operation: 'exchange' });
pair('one', 0x88, { operation: 'move' });
pair('one', 0x8a, { operation: 'move', toRegister: true });
row('one', 'any', 0x8f, { operation: 'pop', size: 'v', digit: 0 });
pair('one', 0xa0, { operation: 'move', toRegister: true, absolute: true });
pair('one', 0xa2, { operation: 'move', absolute: true });
pair('one', 0xa4, { operation: 'copy' });
pair('one', 0xaa, { operation: 'fill' });
pair('one', 0xac, { operation: 'take' });
pair('one', 0xc6, { operation: 'move', immediate: 4, digit: 0 });
pair('one', 0xf6, { operation: 'test', immediate: 4, digit: 0 });
pair('one', 0xf6, { operation: 'not', digit: 2 });
pair('one', 0xf6, { operation: 'negate', digit: 3 });
pair('one', 0xfe, { operation: 'increment', digit: 0 });
pair('one', 0xfe, { operation: 'decrement', digit: 1 });
row('one', 'any', 0xff, { operation: 'push', size: 'v', digit: 6 });

for (let condition = 0; condition < 16; condition++) {
  row('0f', 'any', 0x40 + condition, { operation: 'move-if', size: 'v', toRegister: true });
  row('0f', 'any', 0x90 + condition, { operation: 'set-if', size: 1 });
}
for (const [digit, operation] of (['bit-test', 'bit-set', 'bit-reset', 'bit-complement'] as const).entries()) {
  row('0f', 'any', 0xa3 + 8 * digit, { operation, size: 'v' });
  row('0f', 'any', 0xba, { operation, size: 'v', immediate: 1, digit: 4 + digit });
}
pair('0f', 0xb0, { operation: 'compare-exchange' });
row('0f', 'any', 0xb6, { operation: 'zero-extend', size: 1, toRegister: true });
row('0f', 'any', 0xb7, { operation: 'zero-extend', size: 2, toRegister: true });
row('0f', 'any', 0xbe, { operation: 'sign-extend', size: 1, toRegister: true });
row('0f', 'any', 0xbf, { operation: 'sign-extend', size: 2, toRegister: true });
pair('0f', 0xc0, { operation: 'exchange-add' });
row('0f', 'none', 0xc3, { operation: 'move', size: 'v' });
row('0f', 'any', 0xae, { operation: 'hint', size: 1, digit: 7 });
row('0f', '66', 0xae, { operation: 'hint', size: 1, digit: 6 });
row('0f38', 'none', 0xf0, { operation: 'move-swapped', size: 'v', toRegister: true });
row('0f38', '66', 0xf0, { operation: 'move-swapped', size: 'v', toRegister: true });
row('0f38', 'none', 0xf1, { operation: 'move-swapped', size: 'v' });
row('0f38', '66', 0xf1, { operation: 'move-swapped', size: 'v' });

const vector = { operation: 'vector', size: 'V', vex: true, evex: true } as const;
const scalar = { operation: 'vector', vex: true, evex: true } as const;
const half = { operation: 'vector', size: 8 } as const;
for (const selector of ['none', '66'] as const) {
  row('0f', selector, 0x10, { ...vector, toRegister: true });
  row('0f', selector, 0x11, vector);
  row('0f', selector, 0x28, { ...vector, toRegister: true });
  row('0f', selector, 0x29, vector);
  row('0f', selector, 0x2b, vector);
  row('0f', selector, 0x12, { ...half, toRegister: true, keeps: true });
  row('0f', selector, 0x13, { ...half, vex: true });
  row('0f', selector, 0x16, { ...half, toRegister: true, keeps: true, upper: true });
  row('0f', selector, 0x17, { ...half, upper: true, vex: true });
}
row('0f', 'f3', 0x10, { ...scalar, size: 4, toRegister: true });
row('0f', 'f3', 0x11, { ...scalar, size: 4 });
row('0f', 'f2', 0x10, { ...scalar, size: 8, toRegister: true });
row('0f', 'f2', 0x11, { ...scalar, size: 8 });
row('0f', '66', 0x6e, { ...scalar, size: 'z', toRegister: true });
row('0f', '66', 0x7e, { ...scalar, size: 'z' });
row('0f', 'f3', 0x7e, { ...scalar, size: 8, toRegister: true });
row('0f', '66', 0xd6, { ...scalar, size: 8 });
for (const selector of ['66', 'f3'] as const) {
  row('0f', selector, 0x6f, { ...vector, toRegister: true });
  row('0f', selector, 0x7f, vector);
}
// EVEX alone: the forms for elements of 8 and 16 bits.
row('0f', 'f2', 0x6f, { operation: 'vector', size: 'V', evex: true, toRegister: true });
row('0f', 'f2', 0x7f, { operation: 'vector', size: 'V', evex: true });
row('0f', '66', 0xe7, vector);
row('0f', 'f2', 0xf0, { operation: 'vector', size: 'V', vex: true, toRegister: true });
row('0f38', '66', 0x2a, { ...vector, toRegister: true });

/**
 * An instruction that is not in the table is not emulated: its program gets the SIGBUS, and a line
 * says so.
 */
export const opcodeRows: readonly Row[] = rows;

/** Opcodes that have no byte of their own for operands: strings and absolute addresses. */
export function hasOperandByte({ operation, absolute }: Form): boolean {
  return absolute !== true && operation !== 'copy' && operation !== 'fill' && operation !== 'take';
}
