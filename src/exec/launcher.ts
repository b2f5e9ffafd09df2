/** Starts a program under the supervisor. */
import { VfioError } from '../base/errno.ts';
import type { Kernel } from '../ioctl/user-process.ts';
import { type LaunchedProgram, type LaunchStep, launch } from '../sys/launch.ts';
import { NotifiedCalls } from '../sys/notified-calls.ts';
import { descriptorLimit, programFile } from '../sys/program-files.ts';
import { callNumbers } from './call-numbers.ts';
import { filterOf } from './filter.ts';
import { Supervisor } from './supervisor.ts';
import { filterRows } from './system-calls.ts';

export interface ProgramOptions {
  /** The program, looked up as a shell does, and its arguments. */
  readonly command: readonly string[];
  readonly environment?: NodeJS.ProcessEnv;
  /** Mounts and files that the program sees in place of the machine's own. */
  readonly steps?: readonly LaunchStep[];
  /** Bytes of the largest region 0 of any function. */
  readonly region0: number;
}

export interface RunningProgram extends Disposable {
  readonly program: LaunchedProgram;
  readonly supervisor: Supervisor;
  /** The exit status of the program, once it and all programs below it have ended. */
  readonly status: Promise<number>;
}

/** select(2) takes descriptors below it. */
const FD_SETSIZE = 1024;
/** So many numbers below that are for files of VFIO. */
const OWN_NUMBERS = 256;

/** @throws VfioError ENOENT, EACCES; ENOSYS on a processor that is not known; as `launch` */
export function startProgram(kernel: Kernel, { command, environment = process.env, steps = [], region0 }: ProgramOptions): RunningProgram {
  const numbers = callNumbers[process.arch];
  if (numbers === undefined)
    throw new VfioError('ENOSYS', `vfio exec knows no system calls of the processor ${process.arch}, only of x64 and arm64`);
  const path = programFile(command[0] ?? '', environment.PATH ?? '');
  const firstDescriptor = firstNumber();
  const { program, listener } = launch({
    path,
    argv: command,
    environment: Object.entries(environment).map(([name, value]) => `${name}=${value}`),
    filter: filterOf(filterRows(firstDescriptor, region0), numbers),
    namespaces: steps.length === 0 ? 'none' : process.geteuid!() === 0 ? 'mounts' : 'user+mounts',
    steps,
  });
  let gone = () => {};
  const left = new Promise<void>((settle) => {
    gone = settle;
  });
  const supervisor = new Supervisor(new NotifiedCalls(listener), kernel, { firstDescriptor }, () => gone());
  const exited = new Promise<number>((settle) => program.onEnd(settle));
  const status = Promise.all([exited, left]).then(([first]) => first);
  return {
    program,
    supervisor,
    status,
    [Symbol.dispose]: () => {
      supervisor[Symbol.dispose]();
      program[Symbol.dispose]();
    },
  };
}

/** Numbers of ours are high, where a program's own are not, and below what select(2) takes. */
function firstNumber(): number {
  const end = Math.min(descriptorLimit(), FD_SETSIZE);
  return Math.max(end - OWN_NUMBERS, Math.floor(end / 2));
}
