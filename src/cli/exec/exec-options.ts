/** Options of `vfio exec`, for a machine of its own and for one that is served. */
import type { BarAccess } from '../../api/exec.ts';
import type { EventsOptions } from '../event-options.ts';
import type { Fault } from '../fail-option.ts';
import type { VfTokenOptions } from '../vf-token-file.ts';
import type { MachineWords } from './command-machine.ts';

export interface ExecOptions extends EventsOptions, MachineWords, VfTokenOptions {
  readonly bars?: BarAccess;
  readonly trace?: boolean;
  readonly output?: string;
  readonly fail?: readonly Fault[];
  readonly record?: string;
  /** False with --no-sysfs. */
  readonly sysfs?: boolean;
}
