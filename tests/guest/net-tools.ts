/**
 * Tools for a guest with network cards: the kernel that has their drivers, ethtool, and our own
 * program.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { DebianPackages } from '../../src/api/linux/debian-packages.ts';
import type { CpioEntry } from './cpio.ts';
import { buildProgram } from './guest-tools.ts';
import { ProgramFolder } from './program-folder.ts';

export class NetTools {
  /** For a guest's first root file system. */
  readonly entries: readonly CpioEntry[];
  /** Our program, for this machine. */
  readonly program: string;

  private constructor(entries: readonly CpioEntry[], program: string) {
    this.entries = entries;
    this.program = program;
  }

  /**
   * Fetches what `cache` lacks and builds the guest's program.
   *
   * @throws Unavailable when it cannot be had
   */
  static prepare(cache: string): NetTools {
    mkdirSync(cache, { recursive: true });
    const programs = new ProgramFolder(join(cache, 'net-programs'));
    new DebianPackages(join(cache, 'apt')).unpack(programs.path, ['ethtool'], 'stable', (name) => /^(ethtool|libmnl0|libc6)$/.test(name));
    return new NetTools(
      [...programs.entries('usr/sbin/ethtool'), { kind: 'file', path: 'bin/net', bytes: buildProgram('net', cache), executable: true }],
      join(cache, 'net'),
    );
  }
}
