/** Programs that run on a machine as if Linux's VFIO had it. */

import { Cleanup } from '../base/cleanup.ts';
import { VfioError } from '../base/errno.ts';
import type { Machine } from '../engine/machine/machine.ts';
import { firstRegionSize } from '../exec/first-region.ts';
import { type RunningProgram, startProgram } from '../exec/launcher.ts';
import { SysfsTree } from '../exec/sysfs/sysfs-tree.ts';
import type { BarAccess } from '../exec/trap/mapped-bars.ts';
import { KernelDoor, type KernelDoorOptions } from '../ioctl/kernel-door.ts';

export type { BarAccess } from '../exec/trap/mapped-bars.ts';

export interface ExecOptions extends KernelDoorOptions {
  /** Default: this process's. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /**
   * Bytes that each program may map for DMA, Infinity for no limit. Default: its RLIMIT_MEMLOCK, as
   * Linux has it, though this machine locks no memory.
   */
  readonly memlock?: number;
  /**
   * False: the program sees the computer's own /sys and /dev, and opens of /dev/vfio and /dev/iommu
   * are the machine's all the same. That needs no user namespace. Default: true.
   */
  readonly sysfs?: boolean;
  /**
   * 'trap': each access to mapped registers traps, by ptrace. 'poll': so it does, but devices poll
   * the doorbells that they declare, and stores to them cost nothing. 'rw': BARs cannot be mapped,
   * only read and written, which needs no ptrace. Default: 'trap' on x86-64, else 'rw'.
   */
  readonly bars?: BarAccess;
}

/**
 * Run an unmodified program on a machine: it opens /dev/vfio and /dev/iommu, and the machine
 * answers. The program's standard streams are this process's.
 *
 * @param command the program, looked up in PATH, and its arguments
 * @returns its exit status, or 128 and the number of the signal that ended it, once the program
 *   and all that it has started are gone
 * @throws VfioError ENOENT, EACCES for the program; the errno of what the kernel refuses, with the
 *   remedy
 */
export async function execOn(machine: Machine, command: readonly string[], options: ExecOptions = {}): Promise<number> {
  using running = startOn(machine, command, options);
  return await running.status;
}

/** As `execOn`; the caller waits for `status`, and disposes it then. */
export function startOn(machine: Machine, command: readonly string[], options: ExecOptions = {}): RunningProgram {
  const door = new KernelDoor(machine, options);
  const { environment, sysfs = true } = options;
  const bars = barsFor(options.bars);
  using undo = new Cleanup();
  const tree = sysfs ? undo.use(SysfsTree.open(machine)) : null;
  const running = startProgram(door, {
    command,
    tree,
    region0: firstRegionSize(machine),
    bars,
    memlock: options.memlock,
    ...(environment === undefined ? {} : { environment }),
  });
  const owns = undo.move();
  owns.use(running);
  const { program, supervisor, status, exited } = running;
  return { program, supervisor, status, exited, [Symbol.dispose]: () => owns[Symbol.dispose]() };
}

/**
 * @param given undefined: the default
 * @throws VfioError ENOSYS on a processor whose instructions are not emulated
 */
export function barsFor(given: BarAccess | undefined): BarAccess {
  const emulated = process.arch === 'x64';
  if (given === undefined) return emulated ? 'trap' : 'rw';
  if (!emulated && given !== 'rw') {
    throw new VfioError('ENOSYS', `mapped registers of the processor ${process.arch} cannot be trapped, only those of x64`, {
      fix: "Use bars 'rw' (--bars rw): programs read and write BARs.",
    });
  }
  return given;
}
