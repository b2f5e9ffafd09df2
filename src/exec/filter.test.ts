import { describe, expect, it } from 'vitest';
import { callNumbers } from './call-numbers.ts';
import { filterOf } from './filter.ts';
import { filterRows } from './system-calls.ts';

const FIRST = 768;
const REGION_0 = 0x10_0000;

/** A system call as seccomp shows it to a filter: struct seccomp_data. */
function callData(architecture: number, number: number, args: readonly (number | bigint)[]): DataView {
  const view = new DataView(new ArrayBuffer(64));
  view.setUint32(0, number, true);
  view.setUint32(4, architecture, true);
  args.forEach((value, i) => {
    view.setBigUint64(16 + 8 * i, BigInt.asUintN(64, BigInt(value)), true);
  });
  return view;
}

/** The classic BPF machine, as far as filters use it (linux/bpf_common.h). */
function run(program: Uint8Array, data: DataView): number {
  const code = new DataView(program.buffer, program.byteOffset, program.byteLength);
  let accumulator = 0;
  for (let at = 0; ; at++) {
    const operation = code.getUint16(8 * at, true);
    const k = code.getUint32(8 * at + 4, true);
    if (operation === 0x06) return k;
    if (operation === 0x20) accumulator = data.getUint32(k, true);
    else if (operation === 0x54) accumulator = (accumulator & k) >>> 0;
    else {
      const taken = operation === 0x15 ? accumulator === k : accumulator >= k;
      at += code.getUint8(8 * at + (taken ? 2 : 3));
    }
  }
}

describe.each(Object.entries(callNumbers))('the filter of programs on %s', (_, processor) => {
  const program = filterOf(filterRows(FIRST, REGION_0), processor);
  const { architecture, numbers } = processor;
  const stops = (name: keyof typeof numbers, ...args: (number | bigint)[]) =>
    run(program, callData(architecture, numbers[name], args)) === 0x7fc0_0000;

  it.each([
    ['a request of VFIO', 'ioctl', [3, 0x3b64], true],
    ['a request of VFIO with a sign', 'ioctl', [3, 0xffff_ffff_0000_3b64n], true],
    ['a request of a terminal', 'ioctl', [0, 0x5401], false],
    ['config space', 'pread64', [3, 0x1000, 4, 7n << 40n], true],
    ['the first byte of region 1', 'pwrite64', [3, 0x1000, 4, 1n << 40n], true],
    ['the end of region 0', 'pread64', [3, 0x1000, 1, REGION_0 - 1], true],
    ['a byte behind region 0', 'pread64', [3, 0x1000, 1, REGION_0], false],
    ['the last byte before region 1', 'pread64', [3, 0x1000, 1, (1n << 40n) - 1n], false],
    ['a multiple of 4 GiB', 'pread64', [3, 0x1000, 1, 1n << 32n], false],
    ['a file of ours, anywhere', 'pread64', [FIRST, 0x1000, 1, 1n << 32n], true],
    ['a read of a file of ours', 'read', [FIRST, 0x1000, 1], true],
    ['a read of another file', 'read', [FIRST - 1, 0x1000, 1], false],
    ['an open', 'openat', [-100, 0x1000, 0], true],
    ['a program of a shell', 'execve', [0x1000, 0x2000, 0x3000], true],
    ['a program from here', 'execveat', [-100, 0x1000, 0, 0, 0], true],
    ["the launcher's own program", 'execveat', [-1, 0x1000, 0, 0, 0], false],
  ] as const)('%s: %s', (_, name, args, expected) => {
    expect(stops(name, ...args)).toBe(expected);
  });

  it('no call of another processor', () => {
    expect(run(program, callData(0x4000_0003, numbers.ioctl, [3, 0x3b64]))).toBe(0x7fff_0000);
  });
});
