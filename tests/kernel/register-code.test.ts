/**
 * The machine code of accesses to mapped registers, as the addon that is loaded has it: one
 * instruction of the width on the register, and no other access to memory.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { addonFile } from '../../src/sys/addon-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-code-'));
afterAll(() => rmSync(folder, { recursive: true }));

const has = (program: string) => spawnSync(program, ['--version']).status === 0;

type Code = Readonly<Record<string, readonly string[]>>;

/** Each function up to its return. A failed access goes on behind it. */
const x64: Code = {
  vt_load8: ['xor %edx,%edx', 'movzbl (%rdi),%eax', 'ret'],
  vt_load16: ['xor %edx,%edx', 'movzwl (%rdi),%eax', 'ret'],
  vt_load32: ['xor %edx,%edx', 'mov (%rdi),%eax', 'ret'],
  vt_load64: ['xor %edx,%edx', 'mov (%rdi),%rax', 'ret'],
  vt_store8: ['xor %eax,%eax', 'mov %sil,(%rdi)', 'ret'],
  vt_store16: ['xor %eax,%eax', 'mov %si,(%rdi)', 'ret'],
  vt_store32: ['xor %eax,%eax', 'mov %esi,(%rdi)', 'ret'],
  vt_store64: ['xor %eax,%eax', 'mov %rsi,(%rdi)', 'ret'],
};

/** With the barriers of Linux's readl() and writel(). */
const arm64: Code = {
  vt_load8: ['ldrb w0, [x0]', 'dmb oshld', 'mov x1, #0x0', 'ret'],
  vt_load16: ['ldrh w0, [x0]', 'dmb oshld', 'mov x1, #0x0', 'ret'],
  vt_load32: ['ldr w0, [x0]', 'dmb oshld', 'mov x1, #0x0', 'ret'],
  vt_load64: ['ldr x0, [x0]', 'dmb oshld', 'mov x1, #0x0', 'ret'],
  vt_store8: ['dmb oshst', 'strb w1, [x0]', 'mov w0, #0x0', 'ret'],
  vt_store16: ['dmb oshst', 'strh w1, [x0]', 'mov w0, #0x0', 'ret'],
  vt_store32: ['dmb oshst', 'str w1, [x0]', 'mov w0, #0x0', 'ret'],
  vt_store64: ['dmb oshst', 'str x1, [x0]', 'mov w0, #0x0', 'ret'],
};

const subjects = [
  { arch: 'x64', code: x64, tools: 'x86_64-linux-gnu-' },
  { arch: 'arm64', code: arm64, tools: 'aarch64-linux-gnu-' },
].map((subject) => {
  const own = subject.arch === process.arch;
  const disassembler = own ? 'objdump' : `${subject.tools}objdump`;
  const missing = [disassembler, ...(own ? [] : [`${subject.tools}gcc`])].find((program) => !has(program));
  return { ...subject, own, disassembler, missing };
});

/** This computer's is the addon that tests load. A cross compiler makes the other. */
function addonFor(arch: string): string {
  if (arch === process.arch) return addonFile();
  const file = join(folder, `${arch}.node`);
  if (!existsSync(file)) {
    const build = join(import.meta.dirname, '../../native/build.js');
    const { status, stderr } = spawnSync(process.execPath, [build, '--arch', arch, '--output', file], { encoding: 'utf8' });
    if (status !== 0) throw new Error(stderr);
  }
  return file;
}

/** Instructions of each function, up to the first return, with single spaces and no comments. */
function instructions(disassembler: string, file: string, names: readonly string[]): Code {
  const { stdout } = spawnSync(disassembler, ['-d', '--no-show-raw-insn', file], { encoding: 'utf8', maxBuffer: 2 ** 26 });
  const code = Object.fromEntries(names.map((name): [string, string[]] => [name, []]));
  let into: string[] | undefined;
  for (const line of stdout.split('\n')) {
    const [, name] = /^[0-9a-f]+ <(\w+)(?:@@\w+)?>:$/.exec(line) ?? [];
    if (name !== undefined) into = code[name];
    const [, instruction] = /^\s+[0-9a-f]+:\s+(.*)$/.exec(line) ?? [];
    if (into === undefined || instruction === undefined) continue;
    const plain = instruction
      .replace(/\s*(?:\/\/|#\s).*$/, '')
      .replaceAll(/\s+/g, ' ')
      .trim();
    into.push(plain.replace(/^retq$/, 'ret'));
    if (into.at(-1) === 'ret') into = undefined;
  }
  return code;
}

describe.each(subjects)('house: the accesses for $arch', ({ arch, code, disassembler, missing }) => {
  it.skipIf(missing !== undefined)(
    `house: are one instruction of their width${missing === undefined ? '' : ` (skipped: there is no ${missing})`}`,
    () => {
      const file = addonFor(arch);
      expect(instructions(disassembler, file, Object.keys(code))).toEqual(code);
    },
    60_000,
  );
});
