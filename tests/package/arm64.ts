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
`;

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
  checks.runs('the addon for arm64 works under qemu-user', result, 'arm64 true 3n 4096');
}
