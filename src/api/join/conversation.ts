/**
 * The conversation of `vfio exec DIRECTORY` at the door of a served machine, behind the server's
 * STATUS:
 *
 *     client PROGRAM {version, bars, sysfs, overlay, trace, faults, vfToken}
 *     server MOUNTS {supervisor, region0, mounts}
 *     client LISTENER {firstDescriptor}, with the listener of the program's filter
 *     server PROGRESS {text}, a line of the trace each
 *     server DONE {}, once the program and all that it has started have ended
 *
 * A client whose kernel refuses the overlayfs asks once more, with `overlay` false. Either side may
 * send ABORT. When the client's end of the connection closes, the programs lose the machine.
 */
import { flag, integer, keys, listOf, oneOf, text } from '../../base/declared.ts';
import type { ErrnoName } from '../../base/errno.ts';
import type { MountCall } from '../../exec/sysfs/mounts.ts';
import type { BarAccess } from '../../exec/trap/mapped-bars.ts';

export const JOIN_VERSION = 1;

/** A system call of the program that fails once. */
export interface CallFault {
  /** Its name in a trace: VFIO_IOMMU_MAP_DMA. */
  readonly step: string;
  readonly errno: ErrnoName;
  /** How often it succeeds before. */
  readonly skip: number;
}

export interface ProgramRequest {
  readonly version: number;
  readonly bars: BarAccess;
  /** Whether the program sees the machine's files in /sys and /dev. */
  readonly sysfs: boolean;
  /** Whether the mounts may have an overlayfs among them. */
  readonly overlay: boolean;
  /** Whether the client wants a line for each call. */
  readonly trace: boolean;
  readonly faults: readonly CallFault[];
  /** As in `KernelDoorOptions`. */
  readonly vfToken?: string | undefined;
}

export interface ProgramView {
  /** The pid of the server, which reads the program's memory. */
  readonly supervisor: number;
  /** Bytes of the largest region 0 of any function. */
  readonly region0: number;
  readonly mounts: readonly MountCall[] | null;
  /** As in `LaunchRequest`. */
  readonly bindings?: string | undefined;
}

const FAULTS_MAX = 64;
const SKIPS_MAX = 2 ** 30;
const faults = listOf(keys({ step: text, errno: text, skip: integer(0, SKIPS_MAX) }, ['step', 'errno', 'skip']));
const request = { version: integer(0, 2 ** 31), bars: oneOf('trap', 'poll', 'rw'), sysfs: flag, overlay: flag, trace: flag, faults };
const isRequest = keys({ ...request, vfToken: text }, Object.keys(request));
const isStart = keys({ firstDescriptor: integer(0, 2 ** 20) }, ['firstDescriptor']);

/** @throws VfioError EINVAL */
export function checkRequest(body: Record<string, unknown>): ProgramRequest {
  isRequest(body, 'a program');
  const checked = body as unknown as ProgramRequest;
  integer(0, FAULTS_MAX)(checked.faults.length, 'faults of a program');
  return checked;
}

/** @throws VfioError EINVAL */
export function checkStart(body: Record<string, unknown>): { readonly firstDescriptor: number } {
  isStart(body, 'a program that has started');
  return body as { readonly firstDescriptor: number };
}
