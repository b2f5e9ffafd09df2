/**
 * The instructions that the emulator is compared by, as an assembler file for trap-forms.c. RSI has
 * the address; RAX is a small index, positive or negative.
 */
import { readFileSync } from 'node:fs';

const suffixes = [
  ['b', '%cl', '%dh'],
  ['w', '%cx', '%dx'],
  ['l', '%ecx', '%edx'],
  ['q', '%rcx', '%rdx'],
] as const;

function arithmetic(operation: string): string[] {
  return [
    ...suffixes.flatMap(([s, from, to]) => [`${operation}${s} ${from}, (%rsi)`, `${operation}${s} (%rsi), ${to}`]),
    ...['b $0x7f', 'w $0x7fff', 'l $0x7fffffff', 'q $-0x7fffffff', 'w $-1', 'l $1', 'q $-1'].map((i) => `${operation}${i}, (%rsi)`),
  ];
}

const unary = (operation: string) => suffixes.map(([s]) => `${operation}${s} (%rsi)`);
const withRegister = (operation: string) => suffixes.map(([s, from]) => `${operation}${s} ${from}, (%rsi)`);
const bits = (operation: string) => [
  `${operation}w $5, (%rsi)`,
  `${operation}l $31, (%rsi)`,
  `${operation}q $63, (%rsi)`,
  ...['w %cx', 'l %ecx', 'q %rcx'].flatMap((r) => [
    `andl $0x3ff, %ecx; ${operation}${r}, (%rsi)`,
    `orq $-512, %rcx; ${operation}${r}, 256(%rsi)`,
  ]),
];
const conditions = ['o', 'no', 'b', 'ae', 'e', 'ne', 'be', 'a', 's', 'ns', 'p', 'np', 'l', 'ge', 'le', 'g'];

const general = `movb %cl, (%rsi)|movb %ch, 3(%rsi)|movb %dil, (%rsi)|movw %cx, (%rsi)|movl %ecx, 4(%rsi)|movq %rcx, 8(%rsi)
movb (%rsi), %dh|movb (%rsi), %dl|movb (%rsi), %dil|movw (%rsi), %dx|movl (%rsi), %edx|movq 16(%rsi), %rdx
movb $0x85, 1(%rsi)|movw $0x8512, (%rsi)|movl $0x85123456, (%rsi)|movq $-5, (%rsi)|movl 64(%rsi,%rax,4), %edx
movl %edx, 0x80(%rsi,%rax,8)|movl -4(%rsi,%rax,2), %ecx|movl 3(%rsi), %edx|movq %rdx, 5(%rsi)|movw 7(%rsi), %dx
movl 4(%esi), %edx|movq %rsi, %r8; movl %ecx, 12(%r8)|movq %rsi, %r12; movl (%r12), %edx|movq %rsi, %rbp; movq %rcx, (%rbp)
movq %rsi, %r15; movq %rax, %r14; movzwl 256(%r15,%r14,8), %r9d; movl %r9d, %edx
movzbl (%rsi), %edx|movzbw (%rsi), %dx|movzbq (%rsi), %rdx|movzwl (%rsi), %edx|movzwq (%rsi), %rdx|movsbl (%rsi), %edx
movsbw (%rsi), %dx|movsbq (%rsi), %rdx|movswl (%rsi), %edx|movswq (%rsi), %rdx|movslq (%rsi), %rdx
movnti %ecx, (%rsi)|movnti %rcx, (%rsi)|testb %cl, (%rsi)|testw %cx, (%rsi)|testl %ecx, (%rsi)|testq %rcx, (%rsi)
testb $0x91, (%rsi)|testw $0x8001, (%rsi)|testl $0x80000001, (%rsi)|testq $-2, (%rsi)
movb (%rsi), %al; lock cmpxchgb %cl, (%rsi)|movl (%rsi), %eax; cmpxchgl %ecx, (%rsi)|movq (%rsi), %rax; lock cmpxchgq %rcx, (%rsi)
pushq (%rsi); popq %rdx|pushq %rcx; popq 8(%rsi)|pushw (%rsi); popw %dx
movl $12, %ecx; leaq 128(%rsi), %rdi; rep movsb|movl $5, %ecx; leaq 256(%rsi), %rdi; rep movsq|leaq 256(%rsi), %rdi; movsw; movsl; movsq
movl $3, %ecx; leaq 100(%rsi), %rdi; rep stosl|leaq 100(%rsi), %rdi; stosw|lodsq|lodsb|movl $3, %ecx; rep lodsw
xorl %ecx, %ecx; leaq 100(%rsi), %rdi; rep stosb|std; movl $4, %ecx; leaq 200(%rsi), %rdi; addq $64, %rsi; rep movsl; cld
pushq %rax; movq %rsp, %rdi; movl $1, %ecx; rep movsq; popq %rdx; xorl %edi, %edi
pushq %rdx; movq %rsi, %rdi; movq %rsp, %rsi; movl $8, %ecx; rep movsb; popq %rdx; xorl %esi, %esi
movups (%rsi), %xmm1|movups %xmm1, 16(%rsi)|movaps 16(%rsi), %xmm1|movaps %xmm2, (%rsi)|movupd (%rsi), %xmm1|movapd %xmm2, (%rsi)
movdqa (%rsi), %xmm3|movdqa %xmm3, (%rsi)|movdqu 1(%rsi), %xmm3|movdqu %xmm3, 3(%rsi)|movntdq %xmm1, (%rsi)|movntps %xmm1, (%rsi)
movntpd %xmm1, (%rsi)|movntdqa (%rsi), %xmm2|lddqu (%rsi), %xmm2|movss (%rsi), %xmm1|movss %xmm1, (%rsi)|movsd (%rsi), %xmm1
movsd %xmm1, (%rsi)|movd (%rsi), %xmm1|movd %xmm1, (%rsi)|movq (%rsi), %xmm1|movq %xmm1, (%rsi)|movlps (%rsi), %xmm1
movhps (%rsi), %xmm1|movlps %xmm1, (%rsi)|movhps %xmm1, (%rsi)|movlpd (%rsi), %xmm1|movhpd (%rsi), %xmm1|movhpd %xmm1, (%rsi)
.byte 0x66, 0x48, 0x0f, 0x6e, 0x0e|.byte 0x66, 0x48, 0x0f, 0x7e, 0x0e|clflush (%rsi)`;

const avx = `movbew (%rsi), %dx|movbel (%rsi), %edx|movbeq (%rsi), %rdx|movbew %cx, (%rsi)|movbel %ecx, (%rsi)|movbeq %rcx, (%rsi)
vmovups (%rsi), %xmm1|vmovups (%rsi), %ymm1|vmovups %ymm1, 32(%rsi)|vmovaps %xmm1, (%rsi)|vmovapd (%rsi), %ymm2|vmovdqa (%rsi), %ymm1
vmovdqa %ymm1, (%rsi)|vmovdqu 5(%rsi), %ymm1|vmovdqu %ymm1, 5(%rsi)|vmovdqu (%rsi), %xmm1|vmovntdq %ymm1, (%rsi)|vmovntps %ymm1, (%rsi)
vmovntdqa (%rsi), %xmm1|vlddqu (%rsi), %ymm1|vmovss (%rsi), %xmm1|vmovss %xmm1, (%rsi)|vmovsd (%rsi), %xmm1|vmovsd %xmm1, (%rsi)
vmovd (%rsi), %xmm1|vmovd %xmm1, (%rsi)|vmovq (%rsi), %xmm1|vmovq %xmm1, (%rsi)|vmovlps %xmm1, (%rsi)|vmovhps %xmm1, (%rsi)
vmovdqu 64(%rsi,%rax,8), %ymm3|movq %rsi, %r15; vmovups 32(%r15), %ymm2`;

const avx512 = `vmovdqu64 (%rsi), %zmm1|vmovdqu64 %zmm1, 64(%rsi)|vmovdqu64 64(%rsi), %ymm16|vmovdqu64 %ymm16, 32(%rsi)
vmovdqu64 %xmm16, 16(%rsi)|vmovdqu32 128(%rsi), %zmm16|vmovdqa64 (%rsi), %zmm16|vmovdqa32 %zmm16, (%rsi)|vmovdqu8 7(%rsi), %zmm2
vmovdqu16 %zmm2, 7(%rsi)|vmovups 64(%rsi), %zmm16|vmovups %zmm16, 64(%rsi)|vmovaps %zmm16, 64(%rsi)|vmovupd (%rsi), %zmm1
vmovntdq %zmm16, (%rsi)|vmovntdqa 64(%rsi), %zmm16|vmovss 4(%rsi), %xmm16|vmovsd %xmm16, 8(%rsi)|vmovd 4(%rsi), %xmm16
vmovq %xmm16, 8(%rsi)|vmovq 8(%rsi), %xmm16`;

const listed = (text: string) => text.split(/[|\n]/);

/** Registers of the widest vectors that this processor has, and their names. */
function widest(): { readonly level: 0 | 1 | 2; readonly move: string; readonly name: string } {
  const flags = readFileSync('/proc/cpuinfo', 'latin1');
  if (/ avx512bw .* ?avx512vl/.test(flags.replaceAll('\n', ' '))) return { level: 2, move: 'vmovdqu64', name: 'zmm' };
  return / avx2 /.test(flags) && / movbe /.test(flags)
    ? { level: 1, move: 'vmovdqu', name: 'ymm' }
    : { level: 0, move: 'movdqu', name: 'xmm' };
}

/** The assembler file. */
export function trapForms(): string {
  const { level, move, name } = widest();
  const forms = [
    ...['add', 'or', 'adc', 'sbb', 'and', 'sub', 'xor', 'cmp'].flatMap(arithmetic),
    ...['not', 'neg', 'inc', 'dec', 'lock incl (%rsi) #'].flatMap(unary),
    ...['xchg', 'lock xadd', 'lock cmpxchg'].flatMap(withRegister),
    ...['bt', 'bts', 'btr', 'btc'].flatMap(bits),
    ...conditions.flatMap((c) => [`cmov${c}w (%rsi), %dx`, `cmov${c}l (%rsi), %edx`, `cmov${c}q (%rsi), %rdx`, `set${c} (%rsi)`]),
    ...listed(general),
    ...(level >= 1 ? listed(avx) : []),
    ...(level >= 2 ? listed(avx512) : []),
  ];
  // The address does not fit into 32 bits.
  const usable = forms.filter((form) => !form.includes('(%esi)'));
  const vectors = [0, 1, 2, 3, ...(level === 2 ? [16] : [])];
  const place = (i: number) => `${64 + 64 * i}(%rbx)`;
  const functions = usable.map(
    (form, i) => `f${i}:
  push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15; sub $264, %rsp
  mov %rdi, %rbx
  ${vectors.map((v, at) => `${move} ${place(at)}, %${name}${v}`).join('; ')}
  pushq 32(%rbx); popfq
  mov (%rbx), %rax; mov 8(%rbx), %rcx; mov 16(%rbx), %rdx; mov 40(%rbx), %rsi; mov 24(%rbx), %rdi
  ${form}
  pushfq; popq 32(%rbx); cld
  mov %rax, (%rbx); mov %rcx, 8(%rbx); mov %rdx, 16(%rbx); mov %rsi, 40(%rbx); mov %rdi, 24(%rbx)
  ${vectors.map((v, at) => `${move} %${name}${v}, ${place(at)}`).join('; ')}
  add $264, %rsp; pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret`,
  );
  return `.text
${functions.join('\n')}
.section .data.rel.ro, "aw"
.globl forms, form_count
.balign 8
forms:
${usable.map((_, i) => `  .quad f${i}, n${i}`).join('\n')}
form_count: .quad ${usable.length}
.section .rodata
${usable.map((form, i) => `n${i}: .asciz "${form}"`).join('\n')}
.section .note.GNU-stack, "", @progbits
`;
}
