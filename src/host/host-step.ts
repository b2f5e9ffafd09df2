/**
 * One change of the computer with the change that undoes it, and a transaction of several: a step
 * that fails undoes the earlier ones.
 */
import { VfioError } from '../base/errno.ts';
import type { HostChanges } from '../sys/host-changes.ts';
import { SystemError } from '../sys/system-error.ts';

/** A change. Shells can make the same: `command` is the line for one. */
export type HostChange =
  | { readonly kind: 'write'; readonly path: string; readonly value: string }
  | { readonly kind: 'run'; readonly program: string; readonly words: readonly string[] };

export interface HostStep {
  /** The purpose, as in `it failed to …`: `unbind 0000:03:00.0 from nvme`. */
  readonly purpose: string;
  readonly change: HostChange;
  /** Changes that undo it, in their order; empty where nothing has to be undone. */
  readonly undo: readonly HostChange[];
  /** The remedy for a failure. */
  readonly fix?: string;
}

function makeChange(host: HostChanges, change: HostChange): void {
  if (change.kind === 'write') {
    host.attribute(change.path, change.value);
    return;
  }
  const { status, said } = host.run(change.program, change.words);
  if (status === 0) return;
  const line = [change.program, ...change.words].join(' ');
  throw new VfioError(
    'EIO',
    `${line} ${status === null ? 'cannot be started' : `ended with status ${status}`}${said === '' ? '' : `: ${said}`}`,
  );
}

const quoted = (text: string) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);

/** The change as a line for a POSIX shell. */
export function changeCommand(change: HostChange): string {
  if (change.kind === 'run') return [change.program, ...change.words].map(quoted).join(' ');
  return `echo ${change.value === '' ? '' : `${quoted(change.value)} `}> ${quoted(change.path)}`;
}

/** Changes that undo `steps`, the newest first. */
function undoingChanges(steps: readonly HostStep[]): readonly HostChange[] {
  return steps.toReversed().flatMap(({ undo }) => undo);
}

/**
 * Make all steps, then have `verify` look at the result.
 *
 * @param verify throws where the computer is not as the steps have to leave it
 * @throws VfioError of the step that failed, after the earlier ones are undone. The message says
 *   whether the computer is as before.
 */
export function transact(host: HostChanges, steps: readonly HostStep[], verify: () => void): void {
  const done: HostStep[] = [];
  let purpose = '';
  let fix: string | undefined;
  try {
    for (const step of steps) {
      ({ purpose, fix } = step);
      makeChange(host, step.change);
      done.push(step);
    }
    purpose = 'verify the result';
    fix = undefined;
    verify();
  } catch (cause) {
    if (!(cause instanceof VfioError)) throw cause;
    const stuck = undoAll(host, done);
    const state = done.every(({ undo }) => undo.length === 0)
      ? 'nothing was changed'
      : stuck.length === 0
        ? 'the steps before it are undone, and the computer is as before'
        : 'some steps before it could not be undone';
    // A driver that does not take a device answers ENODEV: the device is there all the same.
    const code = cause.code === 'ENODEV' ? 'EINVAL' : cause.code;
    // A refusal of the system stays one, and is no rule of VFIO.
    const Failure = cause instanceof SystemError ? SystemError : VfioError;
    throw new Failure(code, `cannot ${purpose}: ${cause.message}; ${state}`, {
      cause,
      ...(stuck.length === 0 ? {} : { details: stuck }),
      ...((fix ?? cause.fix) === undefined ? {} : { fix: fix ?? cause.fix! }),
    });
  }
}

/** @returns a line for each change that failed */
function undoAll(host: HostChanges, done: readonly HostStep[]): readonly string[] {
  const stuck: string[] = [];
  for (const change of undoingChanges(done)) {
    try {
      makeChange(host, change);
    } catch (error) {
      if (!(error instanceof VfioError)) throw error;
      stuck.push(`${error.message}; do it by hand: ${changeCommand(change)}`);
    }
  }
  return stuck;
}
