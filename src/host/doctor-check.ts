/** The form of a check of `vfio doctor`, and what checks look at. */
import type { HostChanges } from '../sys/host-changes.ts';
import type { HostFiles } from '../sys/host-files.ts';
import type { FunctionState } from './function-state.ts';
import type { StakeOptions } from './stakes.ts';

/** `unknown`: the files do not say it. `warning`: it works, with a limit. */
export type FindingStatus = 'ok' | 'warning' | 'problem' | 'unknown';

export interface Finding {
  readonly status: FindingStatus;
  /** The fact, as a sentence without a full stop. */
  readonly what: string;
  /** The consequence; undefined where all is well. */
  readonly why?: string;
  /** The remedy: a command, or a sentence. */
  readonly fix?: string;
}

export interface CheckFinding extends Finding {
  /** The name of the check, for programs. */
  readonly id: string;
  readonly title: string;
}

/** A computer and the question: all checks look at these. */
export interface DoctorContext {
  readonly files: HostFiles;
  /** Null for a copy, which answers no questions about this process. */
  readonly host: HostChanges | null;
  readonly functions: readonly FunctionState[];
  /** One device; null: the computer as a whole. */
  readonly bdf: string | null;
  readonly stakes: StakeOptions;
}

export interface Check {
  readonly id: string;
  readonly title: string;
  /** The finding; null where there is nothing to look at. */
  readonly probe: (context: DoctorContext) => Finding | null;
}

/** The kernel's command line, as words. */
export function commandLine({ files }: DoctorContext): readonly string[] {
  return (files.text('/proc/cmdline') ?? '').trim().split(/\s+/);
}

/** The kernel's release, such as `6.12.48+deb13-amd64`; null where the files do not say it. */
export function kernelRelease({ files }: DoctorContext): string | null {
  return files.text('/proc/sys/kernel/osrelease')?.trim() ?? /^Linux version (\S+)/.exec(files.text('/proc/version') ?? '')?.[1] ?? null;
}

/** Major and minor number of a version; null for another text. */
export function versionIn(text: string): readonly [major: number, minor: number] | null {
  const match = /(\d+)\.(\d+)/.exec(text);
  return match === null ? null : [Number(match[1]), Number(match[2])];
}

export function isAtLeast(version: readonly [number, number], major: number, minor: number): boolean {
  return version[0] > major || (version[0] === major && version[1] >= minor);
}
