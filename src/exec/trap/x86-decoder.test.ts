/**
 * Bytes of instructions and their memory operands. tests/exec/trap.test.ts compares the results of
 * all forms with the processor's.
 */
import { describe, expect, it } from 'vitest';
import { Instruction, NO_REGISTER, RIP } from './x86-decoder.ts';

function decoded(hex: string): Instruction | null {
  const bytes = Buffer.from(hex.replaceAll(' ', ''), 'hex');
  const instruction = new Instruction();
  return instruction.decode(bytes, bytes.length) ? instruction : null;
}

const RSP = 4;
const RBP = 5;
const RSI = 6;
const R13 = 13;

describe('the decoder', () => {
  // The texts are those of objdump.
  it.each([
    ['8b 46 04', 'mov 0x4(%rsi),%eax', { operation: 'move', size: 4, register: 0, base: RSI, displacement: 4 }],
    ['88 2e', 'mov %ch,(%rsi)', { operation: 'move', size: 1, register: 5, rex: false, base: RSI }],
    ['40 88 2e', 'mov %bpl,(%rsi)', { operation: 'move', size: 1, register: 5, rex: true, base: RSI }],
    ['48 89 44 24 f8', 'mov %rax,-0x8(%rsp)', { operation: 'move', size: 8, base: RSP, index: NO_REGISTER, displacement: -8 }],
    ['66 c7 06 34 92', 'movw $0x9234,(%rsi)', { operation: 'move', size: 2, immediate: 0x9234 - 0x10000, length: 5 }],
    ['48 c7 06 fb ff ff ff', 'movq $-5,(%rsi)', { operation: 'move', size: 8, immediate: -5, length: 7 }],
    ['8b 05 10 00 00 00', 'mov 0x10(%rip),%eax', { base: RIP, displacement: 16 }],
    ['8b 04 25 00 10 00 00', 'mov 0x1000,%eax', { base: NO_REGISTER, index: NO_REGISTER, displacement: 0x1000 }],
    ['43 8b 44 a5 00', 'mov 0x0(%r13,%r12,4),%eax', { base: R13, index: 12, scale: 4, displacement: 0 }],
    ['8b 04 8d 08 00 00 00', 'mov 0x8(,%rcx,4),%eax', { base: NO_REGISTER, index: 1, scale: 4, displacement: 8 }],
    ['64 8b 45 00', 'mov %fs:0x0(%rbp),%eax', { segment: 'fs', base: RBP }],
    ['67 8b 06', 'mov (%esi),%eax', { narrow: true, base: RSI }],
    ['48 a1 88 77 66 55 44 33 01 00', 'movabs 0x1334455667788,%rax', { absolute: 0x1334455667788, size: 8, length: 10 }],
    ['f0 48 0f b1 0e', 'lock cmpxchg %rcx,(%rsi)', { operation: 'compare-exchange', size: 8, register: 1 }],
    ['f3 48 a5', 'rep movsq', { operation: 'copy', size: 8, repeats: true, length: 3 }],
    ['44 0f b6 4e 01', 'movzbl 0x1(%rsi),%r9d', { operation: 'zero-extend', size: 1, registerSize: 4, register: 9 }],
    ['66 0f 7f 0e', 'movdqa %xmm1,(%rsi)', { operation: 'vector', size: 16, register: 1, clears: false }],
    ['c5 fe 6f 4e 20', 'vmovdqu 0x20(%rsi),%ymm1', { operation: 'vector', size: 32, displacement: 32, clears: true }],
    ['c4 c1 7c 10 57 20', 'vmovups 0x20(%r15),%ymm2', { operation: 'vector', size: 32, base: 15, register: 2 }],
    ['62 e1 fe 48 6f 46 01', 'vmovdqu64 0x40(%rsi),%zmm16', { operation: 'vector', size: 64, register: 16, displacement: 64 }],
    ['62 e1 7e 08 10 46 01', 'vmovss 0x4(%rsi),%xmm16', { operation: 'vector', size: 4, register: 16, displacement: 4 }],
  ])('reads %s: %s', (bytes, _, fields) => {
    const { operation, ...rest } = { operation: undefined, ...fields };
    const instruction = decoded(bytes);
    expect(instruction).toMatchObject({ length: bytes.split(' ').length, ...rest });
    if (operation !== undefined) expect(instruction!.form.operation).toBe(operation);
  });

  it.each([
    ['f7 36', 'divl (%rsi): not in the table'],
    ['8b c6', 'mov %esi,%eax: no memory'],
    ['c5 f4 58 06', 'vaddps (%rsi),%ymm1,%ymm0: three operands'],
    ['62 f1 fe 49 6f 06', 'vmovdqu64 (%rsi),%zmm0{%k1}: a mask'],
    ['66 2e 0f 1f 84 00 00 00 00 00', 'a long nop'],
    ['0f 0b', 'ud2'],
    ['f0 f0 f0 f0 f0 f0 f0 f0 f0 f0 f0 f0 f0 f0 8b 06', 'more than 15 bytes'],
  ])('knows nothing of %s: %s', (bytes) => {
    expect(decoded(bytes)).toBeNull();
  });

  it('takes no instruction whose bytes lack', () => {
    const whole = Buffer.from('48c784b5001000000df00000', 'hex');
    const instruction = new Instruction();
    for (let length = 0; length < whole.length; length++) expect(instruction.decode(whole, length)).toBe(false);
    expect(instruction.decode(whole, whole.length)).toBe(true);
  });
});
