/**
 * The seccomp filter of a program: a table of system calls, with tests of their arguments, as a
 * program of the classic BPF machine. A call that passes a row's tests waits for the supervisor;
 * every other one goes to the kernel at once.
 *
 * @see seccomp(2); linux/filter.h, linux/bpf_common.h, linux/seccomp.h
 */
import type { CallName, CallNumbers } from './call-numbers.ts';

/** A test of one argument. */
export type ArgumentTest =
  /** Its lower 32 bits, masked. */
  | { readonly argument: number; readonly mask: number; readonly equals: number }
  /** Its lower 32 bits, unsigned. */
  | { readonly argument: number; readonly atLeast32: number }
  /** All 64 bits, unsigned; a multiple of 2^32. */
  | { readonly argument: number; readonly atLeast: number }
  /** All 64 bits, unsigned; less than 2^32. */
  | { readonly argument: number; readonly below: number };

export interface FilterRow {
  readonly call: CallName;
  /** Lists of tests: the call waits when all tests of one list pass. [[]]: it always waits. */
  readonly when: readonly (readonly ArgumentTest[])[];
}

/** struct sock_filter */
interface Instruction {
  readonly code: number;
  readonly k: number;
  /** Instructions to skip when a comparison is true, and false. */
  readonly yes?: number;
  readonly no?: number;
}

const LOAD_WORD = 0x20;
const AND = 0x54;
const JUMP_EQUAL = 0x15;
const JUMP_AT_LEAST = 0x35;
const RETURN = 0x06;
const ALLOW = 0x7fff0000;
const NOTIFY = 0x7fc00000;

/** struct seccomp_data */
const NUMBER_AT = 0;
const ARCHITECTURE_AT = 4;
const argumentAt = (index: number): number => 16 + 8 * index;
const upperHalfAt = (index: number): number => argumentAt(index) + 4;

const INSTRUCTION_BYTES = 8;

/** A test, then `rest`, which it skips when it fails: it is the last of its list. */
function testCode(test: ArgumentTest, skip: number): Instruction[] {
  if ('equals' in test) {
    return [
      { code: LOAD_WORD, k: argumentAt(test.argument) },
      { code: AND, k: test.mask },
      { code: JUMP_EQUAL, k: test.equals, no: skip },
    ];
  }
  if ('atLeast32' in test) {
    return [
      { code: LOAD_WORD, k: argumentAt(test.argument) },
      { code: JUMP_AT_LEAST, k: test.atLeast32, no: skip },
    ];
  }
  if ('atLeast' in test) {
    return [
      { code: LOAD_WORD, k: upperHalfAt(test.argument) },
      { code: JUMP_AT_LEAST, k: test.atLeast / 2 ** 32, no: skip },
    ];
  }
  return [
    { code: LOAD_WORD, k: upperHalfAt(test.argument) },
    { code: JUMP_EQUAL, k: 0, no: skip + 2 },
    { code: LOAD_WORD, k: argumentAt(test.argument) },
    { code: JUMP_AT_LEAST, k: test.below, yes: skip },
  ];
}

function listCode(tests: readonly ArgumentTest[]): Instruction[] {
  let code: Instruction[] = [{ code: RETURN, k: NOTIFY }];
  for (const test of [...tests].reverse()) code = [...testCode(test, code.length), ...code];
  return code;
}

/** The filter's bytes. */
export function filterOf(rows: readonly FilterRow[], { architecture, numbers }: CallNumbers): Uint8Array {
  const code: Instruction[] = [
    { code: LOAD_WORD, k: ARCHITECTURE_AT },
    // 32-bit calls have other numbers.
    { code: JUMP_EQUAL, k: architecture, yes: 1 },
    { code: RETURN, k: ALLOW },
    { code: LOAD_WORD, k: NUMBER_AT },
  ];
  for (const { call, when } of rows) {
    if (numbers[call] < 0) continue;
    const block = [...when.flatMap(listCode), { code: RETURN, k: ALLOW }];
    code.push({ code: JUMP_EQUAL, k: numbers[call], no: block.length }, ...block);
  }
  code.push({ code: RETURN, k: ALLOW });
  const view = new DataView(new ArrayBuffer(code.length * INSTRUCTION_BYTES));
  code.forEach(({ code: operation, k, yes = 0, no = 0 }, i) => {
    if (yes > 255 || no > 255) throw new Error(`a jump of the filter over ${Math.max(yes, no)} instructions`);
    const at = i * INSTRUCTION_BYTES;
    view.setUint16(at, operation, true);
    view.setUint8(at + 2, yes);
    view.setUint8(at + 3, no);
    view.setUint32(at + 4, k, true);
  });
  return new Uint8Array(view.buffer);
}
