/** A system call of a program, as the rows that serve it see it. */
import type { OpenFile } from '../ioctl/file-table.ts';
import type { Kernel } from '../ioctl/user-process.ts';
import type { NotifiedCalls } from '../sys/notified-calls.ts';
import type { RealProcess } from './real-process.ts';
import type { SysfsTree } from './sysfs/sysfs-tree.ts';
import type { CallText } from './trace/call-text.ts';
import type { MappedBars } from './trap/mapped-bars.ts';

/** The result of a call that Linux carries out itself. No call returns it. */
export const PROCEED = -(2 ** 30);
/** The result of a call that is answered later. */
export const LATER = -(2 ** 30) - 1;

/** The present call, for its row. */
export interface Served {
  readonly calls: NotifiedCalls;
  readonly kernel: Kernel;
  /** The machine's files in /sys and /dev; null when programs see the computer's own. */
  readonly tree: SysfsTree | null;
  /** Whether calls are reported: `begin` gets their arguments in words then. */
  readonly traced: boolean;
  /**
   * The present call concerns VFIO. Nothing of it has happened yet.
   *
   * @param step its name in a plan of faults
   * @throws VfioError the errno that the plan has for it
   */
  begin(step: string, text: CallText | null): void;
  /** Answer the present call when `result` is there. @returns LATER */
  later(result: Promise<number>): number;
  /** @throws VfioError ESRCH */
  readonly caller: RealProcess;
  readonly bars: MappedBars;
  /** The open file of VFIO behind a descriptor; null when it is none. */
  file(fd: number): OpenFile | null;
  /** The same of a descriptor of another thread or process. */
  fileOf(thread: number, fd: number): OpenFile | null;
  /** The process that makes the call is about to execute another program. */
  executes(): void;
}
