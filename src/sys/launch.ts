/** Programs that start behind a seccomp filter. */
import { VfioError } from '../base/errno.ts';
import { addon, checked, Sys, sysError } from './addon.ts';
import { FdWatch } from './fd-watch.ts';
import { OwnedFd } from './owned-fd.ts';

/** A preparation in the new process, before its program starts. */
export type LaunchStep =
  | {
      readonly kind: 'mount';
      readonly source: string;
      readonly target: string;
      readonly type: string;
      readonly flags: number;
      readonly data: string;
    }
  | { readonly kind: 'write'; readonly path: string; readonly text: string }
  /**
   * The process `pid`, no ancestor, may read the program's memory where Yama asks for it
   * (kernel.yama.ptrace_scope=1).
   */
  | { readonly kind: 'tracer'; readonly pid: number };

/** A preparation that failed: no program was started. */
export class FailedStep extends VfioError {
  readonly step: LaunchStep;

  constructor(error: VfioError, step: LaunchStep) {
    super(error.code, error.message);
    this.step = step;
  }
}

export interface LaunchOptions {
  /** The file of the program, an absolute path. */
  readonly path: string;
  /** The program's own name and its arguments. */
  readonly argv: readonly string[];
  readonly environment: readonly string[];
  /** `struct sock_filter`s. */
  readonly filter: Uint8Array;
  /** Namespaces that the program gets. 'user+mounts': for a user who may not mount. */
  readonly namespaces: 'none' | 'mounts' | 'user+mounts';
  readonly steps: readonly LaunchStep[];
}

/** The status of a program that has ended, as a shell has it: 128 and the signal's number. */
export type ExitStatus = number;

export class LaunchedProgram implements Disposable {
  readonly pid: number;
  readonly #pidfd: OwnedFd;
  readonly #watch: FdWatch;
  readonly #result = new Int32Array(2);

  constructor(pid: number, pidfd: OwnedFd) {
    this.pid = pid;
    this.#pidfd = pidfd;
    this.#watch = new FdWatch(pidfd);
  }

  /** Call `ended` once, from the event loop, with the exit status. Keeps the process alive. */
  onEnd(ended: (status: ExitStatus) => void): Disposable {
    const listening = this.#watch.listen(
      () => {
        if (checked(addon().pidfdWait(this.#pidfd.number, this.#result), 'waiting for the program') === 0) return;
        listening[Symbol.dispose]();
        const [reason, status] = this.#result;
        ended(reason === Sys.CLD_EXITED ? status! : 128 + status!);
      },
      { keepAlive: true },
    );
    return listening;
  }

  /** Send a signal; nothing happens when the program has ended. */
  kill(signal: number): void {
    addon().pidfdSignal(this.#pidfd.number, signal);
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
    this.#pidfd[Symbol.dispose]();
  }
}

/**
 * Start a program. Its standard streams, working directory and signals are this process's; it ends
 * when this process does.
 *
 * @returns the program, and the listener of its filter
 * @throws VfioError the errno of what failed, with the reason and the remedy
 */
export function launch(options: LaunchOptions): { readonly program: LaunchedProgram; readonly listener: OwnedFd } {
  const { path, argv, environment, filter, namespaces, steps } = options;
  const flags = namespaces === 'none' ? 0 : Sys.CLONE_NEWNS | (namespaces === 'mounts' ? 0 : Sys.CLONE_NEWUSER);
  const into = new Int32Array(4);
  const result = addon().launch(path, argv, environment, steps.flatMap(wordsOf), filter, flags, into);
  const [pid, pidfd, listener, at] = into;
  if (result < 0) throw failure(result, at!, options);
  return {
    program: new LaunchedProgram(pid!, OwnedFd.own(pidfd!, 'starting a program')),
    listener: OwnedFd.own(listener!, 'listening to a program'),
  };
}

function wordsOf(step: LaunchStep): string[] {
  switch (step.kind) {
    case 'mount':
      return ['mount', step.source, step.target, step.type, String(step.flags), step.data];
    case 'write':
      return ['write', step.path, step.text, '', '', ''];
    case 'tracer':
      return ['tracer', String(step.pid), '', '', '', ''];
  }
}

function failure(result: number, at: number, { path, steps, namespaces }: LaunchOptions): VfioError {
  const what = (text: string) => sysError(result, text);
  const because = (error: VfioError, fix: string) => new VfioError(error.code, error.message, { fix });
  if (at < 0 && namespaces === 'user+mounts') {
    return because(
      what('this kernel gives the program no user namespace, which its own /dev and /sys need'),
      'Allow user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns), run vfio exec as root, or give --no-sysfs.',
    );
  }
  if (at < 0) return what(`${path} cannot be started`);
  const step = steps[at];
  if (step !== undefined) return new FailedStep(what(`before ${path} starts: ${wordsOf(step).join(' ').trim()}`), step);
  switch (at - steps.length) {
    case 0:
      return what('no_new_privs');
    case 1: {
      const error = what("the filter of the program's system calls");
      if (error.code === 'EBUSY') {
        return because(
          new VfioError('EBUSY', 'this process runs behind a seccomp filter that has a listener already, and Linux allows one'),
          'Run vfio exec outside of the container manager, or of the other vfio exec, that supervises this process.',
        );
      }
      return because(error, 'vfio exec needs Linux 5.19 or newer with seccomp user notification (SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV).');
    }
    default: {
      const error = what(`${path} cannot be executed`);
      return error.code === 'ENOENT' ? because(error, 'The file, or the interpreter that it names, does not exist.') : error;
    }
  }
}
