/**
 * A low limit of descriptors for this process: for tests that use up all of them, which takes long
 * for a million.
 */
import { spawnSync } from 'node:child_process';

const FEW = 2048;

/** Without prlimit(1) the limit stays as it is. */
export function fewDescriptors(): void {
  spawnSync('prlimit', ['--pid', String(process.pid), `--nofile=${FEW}:`]);
}
