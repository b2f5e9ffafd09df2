/** Starts a program under the supervisor. */
import { VfioError } from '../base/errno.ts';
import type { Kernel } from '../ioctl/user-process.ts';
import { FailedStep, type LaunchedProgram, type LaunchStep, launch } from '../sys/launch.ts';
import { NotifiedCalls } from '../sys/notified-calls.ts';
import type { OwnedFd } from '../sys/owned-fd.ts';
import { descriptorLimit, programFile } from '../sys/program-files.ts';
import { callNumbers } from './call-numbers.ts';
import { filterOf } from './filter.ts';
import { Supervisor } from './supervisor.ts';
import type { MountCall } from './sysfs/mounts.ts';
import type { SysfsTree } from './sysfs/sysfs-tree.ts';
import { filterRows } from './system-calls.ts';
import type { BarAccess } from './trap/mapped-bars.ts';

/** The environment variable in place of --state of `vfio bind` and `vfio restore`. */
const BINDINGS_VARIABLE = 'VFIO_BINDINGS';

/** A program to start, and the machine as the program's filter and mounts have it. */
export interface LaunchRequest {
  /** The program, looked up as a shell does, and its arguments. */
  readonly command: readonly string[];
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** The machine's files in /sys and /dev; null: the program sees the computer's own. */
  readonly mounts: readonly MountCall[] | null;
  /** `SysfsTree.bindings`, where the program sees the machine's files. */
  readonly bindings?: string | undefined;
  /** Bytes of the largest region 0 of any function. */
  readonly region0: number;
  /** The process that supervises. Default: this one. */
  readonly supervisor?: number;
}

/** A program that has started. Its first call waits for a supervisor. */
export interface Launched {
  readonly program: LaunchedProgram;
  /** The listener of its filter, for `NotifiedCalls`. */
  readonly listener: OwnedFd;
  /** As `SupervisorOptions`. */
  readonly firstDescriptor: number;
}

export interface ProgramOptions extends Omit<LaunchRequest, 'mounts' | 'bindings' | 'supervisor'> {
  /** The machine's files in /sys and /dev; null: the program sees the computer's own. */
  readonly tree: SysfsTree | null;
  /** As `SupervisorOptions`. */
  readonly memlock?: number | undefined;
  readonly bars: BarAccess;
}

/** A program, and the end of all programs that it has started. */
export interface StartedProgram extends Disposable {
  readonly program: LaunchedProgram;
  /** The exit status of the program, once it and all programs below it have ended. */
  readonly status: Promise<number>;
  /** The same, once the program itself has ended. */
  readonly exited: Promise<number>;
}

export interface RunningProgram extends StartedProgram {
  readonly supervisor: Supervisor;
}

/** select(2) takes descriptors below it. */
const FD_SETSIZE = 1024;
/** So many numbers below that are for files of VFIO. */
const OWN_NUMBERS = 256;

/** The file `config` of sysfs is read and written at offsets below: bytes. */
const CONFIG_BYTES = 4096;

/** @throws VfioError ENOENT, EACCES; ENOSYS on a processor that is not known; as `launch` */
export function startProgram(kernel: Kernel, { tree, bars, memlock, ...request }: ProgramOptions): RunningProgram {
  const { program, listener, firstDescriptor } =
    tree === null ? launchProgram({ ...request, mounts: null }) : launchWithFiles(request, tree);
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

/**
 * Launch with the machine's files in place of the computer's, in mounts of the program's own. A
 * kernel that lets no user mount an overlayfs gets more mounts instead.
 */
function launchWithFiles(given: Omit<LaunchRequest, 'mounts'>, tree: SysfsTree): Launched {
  const request = { ...given, bindings: tree.bindings };
  try {
    return launchProgram({ ...request, mounts: tree.mounts() });
  } catch (error) {
    if (!isOverlayRefusal(error)) throw error;
    return launchProgram({ ...request, mounts: tree.mounts({ overlay: false }) });
  }
}

/** Whether `launchProgram` failed because this user may mount no overlayfs. */
export function isOverlayRefusal(error: unknown): boolean {
  return error instanceof FailedStep && error.step.kind === 'mount' && error.step.type === 'overlay';
}

/** @throws VfioError ENOENT, EACCES; ENOSYS on a processor that is not known; as `launch` */
export function launchProgram({ command, environment = process.env, mounts, bindings, region0, supervisor }: LaunchRequest): Launched {
  const numbers = callNumbers[process.arch];
  if (numbers === undefined)
    throw new VfioError('ENOSYS', `vfio exec knows no system calls of the processor ${process.arch}, only of x64 and arm64`);
  const path = programFile(command[0] ?? '', environment.PATH ?? '');
  const firstDescriptor = firstNumber();
  const isRoot = process.geteuid!() === 0;
  const identity = mounts === null || isRoot ? [] : ownIdentity();
  const tracer: readonly LaunchStep[] = supervisor === undefined ? [] : [{ kind: 'tracer', pid: supervisor }];
  const launched = launch({
    path,
    argv: command,
    environment: Object.entries(bindings === undefined ? environment : { [BINDINGS_VARIABLE]: bindings, ...environment }).map(
      ([name, value]) => `${name}=${value}`,
    ),
    filter: filterOf(filterRows(firstDescriptor, Math.max(region0, mounts === null ? 0 : CONFIG_BYTES)), numbers),
    namespaces: mounts === null ? 'none' : isRoot ? 'mounts' : 'user+mounts',
    steps: [...identity, ...tracer, ...(mounts ?? []).map(mountStep)],
  });
  return { ...launched, firstDescriptor };
}

/** Numbers of ours are high, where a program's own are not, and below what select(2) takes. */
function firstNumber(): number {
  const end = Math.min(descriptorLimit(), FD_SETSIZE);
  return Math.max(end - OWN_NUMBERS, Math.floor(end / 2));
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
