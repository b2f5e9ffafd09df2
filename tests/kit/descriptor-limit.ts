/** Descriptors that this process may have open: for tests that use up all of them, which takes long where they are a million. */
import { spawnSync } from 'node:child_process';

const FEW = 2048;

/** Where there is no prlimit(1), the limit stays as it is. */
export function fewDescriptors(): void {
  spawnSync('prlimit', ['--pid', String(process.pid), `--nofile=${FEW}:`]);
}
