/**
 * Tools for a guest with disks: programs of Debian packages for partitions, file systems and NVMe,
 * a boot loader, and our own program.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DebianPackages } from '../../src/api/linux/debian-packages.ts';
import type { CpioEntry } from './cpio.ts';
import { buildProgram } from './guest-tools.ts';
import { ProgramFolder } from './program-folder.ts';

const PACKAGES = ['nvme-cli', 'e2fsprogs', 'fdisk', 'util-linux', 'extlinux', 'syslinux-common'];

/** Dependencies for a running system, which no program used here needs. */
const NOT_NEEDED = /^(systemd|libsystemd-shared|passwd|libpam|libdb5|openssl|adduser|debconf|gcc)/;

const IN_THE_GUEST = ['nvme', 'sfdisk', 'mke2fs', 'blkdiscard', 'fstrim'].map((name) => `usr/sbin/${name}`);

export class DiskTools {
  /** For a guest's first root file system. */
  readonly entries: readonly CpioEntry[];
  readonly #programs: ProgramFolder;

  private constructor(programs: ProgramFolder, entries: readonly CpioEntry[]) {
    this.#programs = programs;
    this.entries = entries;
  }

  /**
   * Fetches what `cache` lacks and builds the guest's program.
   *
   * @throws Unavailable when it cannot be had
   */
  static prepare(cache: string): DiskTools {
    const programs = new ProgramFolder(join(cache, 'disk-programs'));
    new DebianPackages(join(cache, 'apt')).unpack(programs.path, PACKAGES, 'stable', (name) => !NOT_NEEDED.test(name));
    return new DiskTools(programs, [
      ...programs.entries(...IN_THE_GUEST, 'usr/bin/extlinux'),
      { kind: 'link', path: 'bin/mkfs.ext4', target: 'mke2fs' },
      { kind: 'file', path: 'bin/disk', bytes: buildProgram('disk', cache), executable: true },
    ]);
  }

  /**
   * Files that a guest needs to make a disk bootable: /install/vmlinuz and the boot code of a disk
   * with a GPT.
   */
  installer(kernel: string): readonly CpioEntry[] {
    const file = (path: string, source: string): CpioEntry => ({ kind: 'file', path, bytes: readFileSync(source) });
    return [file('install/vmlinuz', kernel), file('install/gptmbr.bin', join(this.#programs.path, 'usr/lib/EXTLINUX/gptmbr.bin'))];
  }

  /** Runs a program on this machine, such as `e2fsck`. Returns its status and all its output. */
  run(name: string, args: readonly string[]): { readonly status: number | null; readonly output: Buffer; readonly complaints: string } {
    const { file, args: words } = this.#programs.command(`usr/sbin/${name}`, args);
    const { status, stdout, stderr, error } = spawnSync(file, words, { maxBuffer: 2 ** 28, timeout: 600_000 });
    return { status, output: stdout ?? Buffer.alloc(0), complaints: error?.message ?? stderr.toString() };
  }
}
