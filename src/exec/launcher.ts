/** Starts a program under the supervisor. */
import { VfioError } from '../base/errno.ts';
import type { Kernel } from '../ioctl/user-process.ts';
import { FailedStep, type LaunchedProgram, type LaunchOptions, type LaunchStep, launch } from '../sys/launch.ts';
import { NotifiedCalls } from '../sys/notified-calls.ts';
import { descriptorLimit, programFile } from '../sys/program-files.ts';
import { callNumbers } from './call-numbers.ts';
import { filterOf } from './filter.ts';
import { Supervisor } from './supervisor.ts';
import type { MountCall } from './sysfs/mounts.ts';
import type { SysfsTree } from './sysfs/sysfs-tree.ts';
import { filterRows } from './system-calls.ts';
import type { BarAccess } from './trap/mapped-bars.ts';

export interface ProgramOptions {
  /** The program, looked up as a shell does, and its arguments. */
  readonly command: readonly string[];
  readonly environment?: NodeJS.ProcessEnv;
  /** The machine's files in /sys and /dev; null: the program sees the computer's own. */
  readonly tree: SysfsTree | null;
  /** As `SupervisorOptions`. */
  readonly memlock?: number | undefined;
  /** Bytes of the largest region 0 of any function. */
  readonly region0: number;
  readonly bars: BarAccess;
}

export interface RunningProgram extends Disposable {
  readonly program: LaunchedProgram;
  readonly supervisor: Supervisor;
  /** The exit status of the program, once it and all programs below it have ended. */
  readonly status: Promise<number>;
  /** The same, once the program itself has ended. */
  readonly exited: Promise<number>;
}

/** select(2) takes descriptors below it. */
const FD_SETSIZE = 1024;
/** So many numbers below that are for files of VFIO. */
const OWN_NUMBERS = 256;

/** The file `config` of sysfs is read and written at offsets below: bytes. */
const CONFIG_BYTES = 4096;

/** @throws VfioError ENOENT, EACCES; ENOSYS on a processor that is not known; as `launch` */
export function startProgram(
  kernel: Kernel,
  { command, environment = process.env, tree, region0, bars, memlock }: ProgramOptions,
): RunningProgram {
  const numbers = callNumbers[process.arch];
  if (numbers === undefined)
    throw new VfioError('ENOSYS', `vfio exec knows no system calls of the processor ${process.arch}, only of x64 and arm64`);
  const path = programFile(command[0] ?? '', environment.PATH ?? '');
  const firstDescriptor = firstNumber();
  const options = {
    path,
    argv: command,
    environment: Object.entries(environment).map(([name, value]) => `${name}=${value}`),
    filter: filterOf(filterRows(firstDescriptor, Math.max(region0, tree === null ? 0 : CONFIG_BYTES)), numbers),
  };
  const { program, listener } = tree === null ? launch({ ...options, namespaces: 'none', steps: [] }) : launchWithFiles(options, tree);
  let gone = () => {};
  const left = new Promise<void>((settle) => {
    gone = settle;
  });
  const supervisor = new Supervisor(new NotifiedCalls(listener), kernel, { firstDescriptor, tree, bars, memlock }, () => gone());
  const exited = new Promise<number>((settle) => program.onEnd(settle));
  const status = Promise.all([exited, left]).then(([first]) => first);
  return {
    program,
    supervisor,
    status,
    exited,
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

/**
 * Launch with the machine's files in place of the computer's, in mounts of the program's own. A
 * kernel that lets no user mount an overlayfs gets more mounts instead.
 */
function launchWithFiles(options: Omit<LaunchOptions, 'namespaces' | 'steps'>, tree: SysfsTree): ReturnType<typeof launch> {
  const isRoot = process.geteuid!() === 0;
  const launchWith = (overlay: boolean) => {
    const steps = [...(isRoot ? [] : ownIdentity()), ...tree.mounts({ overlay }).map(mountStep)];
    return launch({ ...options, namespaces: isRoot ? 'mounts' : 'user+mounts', steps });
  };
  try {
    return launchWith(true);
  } catch (error) {
    if (error instanceof FailedStep && error.step.kind === 'mount' && error.step.type === 'overlay') return launchWith(false);
    throw error;
  }
}

/** In its user namespace the program is the user that it is outside. */
function ownIdentity(): LaunchStep[] {
  const [uid, gid] = [process.geteuid!(), process.getegid!()];
  return [
    { kind: 'write', path: '/proc/self/setgroups', text: 'deny' },
    { kind: 'write', path: '/proc/self/uid_map', text: `${uid} ${uid} 1` },
    { kind: 'write', path: '/proc/self/gid_map', text: `${gid} ${gid} 1` },
  ];
}

function mountStep({ source, target, type, flags, data }: MountCall): LaunchStep {
  return { kind: 'mount', source, target, type: type ?? '', flags, data: data ?? '' };
}
