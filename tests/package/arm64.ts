/**
 * Loads the addon for arm64 in an arm64 Node under qemu-user, where this computer has the programs
 * for it.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Checks, run } from './checks.ts';
import { fetchBinary, root } from './nodes.ts';

/** Debian's libc6-arm64-cross and libstdc++6-arm64-cross. */
const libraries = '/usr/aarch64-linux-gnu';

const program = `
  const module = { exports: {} };
  process.dlopen(module, process.argv[1]);
  const sys = module.exports;
  const fd = sys.eventfd(3, 0);
  const memfd = sys.memfdCreate('x', 1);
  sys.ftruncate(memfd, 4096);
  console.log(process.arch, Object.keys(sys).length > 40, sys.eventfdRead(fd), sys.mmap(memfd, 0, 4096, 4096, 0, 0).byteLength);
  sys.ftruncate(memfd, 8192);
  const [readWrite, bytes, line] = [3, Buffer.alloc(16), []];
  const registers = sys.registersMap(memfd, 0, 8192, readWrite);
  sys.store8(registers, 0, 0x181);
  sys.store16(registers, 2, 0x18283);
  sys.store32(registers, 4, 0x84858687);
  sys.store64(registers, 8, 0x88898a8b8c8d8e8fn);
  sys.pread(memfd, bytes, 0);
  line.push(bytes.toString('hex'));
  for (const [width, at] of [[8, 1], [16, 2], [32, 4], [64, 8]]) line.push(sys['load' + width](registers, at).toString(16));
  sys.ftruncate(memfd, 4096);
  for (const width of [8, 16, 32, 64]) line.push(sys['load' + width](registers, 4096));
  for (const width of [8, 16, 32]) line.push(sys['store' + width](registers, 4096, 1));
  line.push(sys.store64(registers, 4096, 1n), sys.load32(registers, 4));
  console.log(line.join(' '));
`;

/** Stores land, loads give them, and a fault is -EFAULT (14) of its access alone. */
const accesses = `81008382878685848f8e8d8c8b8a8988 0 8283 84858687 88898a8b8c8d8e8f${' -14'.repeat(8)} ${0x8485_8687}`;

export function checkArm64(checks: Checks): void {
  const qemu = ['qemu-aarch64-static', 'qemu-aarch64'].find((each) => run(each, ['--version'], root).status === 0);
  const addon = join(root, 'prebuilds/linux-arm64/node.napi.glibc.node');
  const missing = [
    ...(process.arch === 'x64' ? [] : ['an x64 computer']),
    ...(qemu === undefined ? ['qemu-user'] : []),
    ...(existsSync(join(libraries, 'lib/libstdc++.so.6')) ? [] : [`libraries in ${libraries}`]),
    ...(existsSync(addon) ? [] : ['the addon for arm64']),
  ];
  if (missing.length > 0) {
    console.log(`WARNING: the addon for arm64 is not loaded, SKIPPED: there is no ${missing.join(', no ')}`);
    return;
  }
  const result = run(qemu!, ['-L', libraries, fetchBinary(22, 'arm64'), '-e', program, addon], root);
  checks.runs('the addon for arm64 works under qemu-user', result, `arm64 true 3n 4096\n${accesses}`);
}
