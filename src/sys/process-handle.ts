/** A process that is not ours, held by its pidfd: its number is no other process's meanwhile. */
import { addon, checked } from './addon.ts';
import { FdWatch } from './fd-watch.ts';
import { OwnedFd } from './owned-fd.ts';

export interface ProcessLimits {
  /** Effective ones, by bit of linux/capability.h. */
  readonly capabilities: number;
  /** RLIMIT_MEMLOCK, bytes; Infinity: none. */
  readonly memlock: number;
  /** RLIMIT_NOFILE: descriptors are below it. */
  readonly descriptors: number;
}

export class ProcessHandle implements Disposable {
  readonly pid: number;
  readonly #pidfd: OwnedFd;
  readonly #watch: FdWatch;
  readonly #limits = new Float64Array(4);

  /** @throws VfioError ESRCH when there is no such process; EMFILE */
  constructor(pid: number) {
    this.pid = pid;
    this.#pidfd = OwnedFd.own(addon().pidfdOpen(pid), `process ${pid}`);
    this.#watch = new FdWatch(this.#pidfd);
  }

  /** Call `ended` once, from the event loop, when the process has ended. */
  onEnd(ended: () => void): void {
    const listening = this.#watch.listen(() => {
      listening[Symbol.dispose]();
      ended();
    });
  }

  /**
   * Its limits and capabilities now.
   * @throws VfioError ESRCH when it has ended
   */
  limits(): ProcessLimits {
    const into = this.#limits;
    checked(addon().processLimits(this.pid, into), `the limits of process ${this.pid}`);
    return {
      capabilities: into[0]! + into[1]! * 2 ** 32,
      memlock: into[2]! < 0 ? Number.POSITIVE_INFINITY : into[2]!,
      descriptors: into[3]! < 0 ? Number.POSITIVE_INFINITY : into[3]!,
    };
  }

  /**
   * A descriptor of ours for the open file behind `fd` of the process.
   * @throws VfioError EBADF; EPERM where this user may not
   */
  descriptor(fd: number): OwnedFd {
    const got = addon().pidfdGetfd(this.#pidfd.number, fd);
    if (got >= 0) return OwnedFd.received(got);
    return OwnedFd.own(got, `descriptor ${fd} of process ${this.pid}`);
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
    this.#pidfd[Symbol.dispose]();
  }
}
