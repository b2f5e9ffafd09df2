/** A process that is not ours, held by its pidfd: its number is no other process's meanwhile. */
import { addon } from './addon.ts';
import { FdWatch } from './fd-watch.ts';
import { OwnedFd } from './owned-fd.ts';

export class ProcessHandle implements Disposable {
  readonly #pid: number;
  readonly #pidfd: OwnedFd;
  readonly #watch: FdWatch;

  /** @throws VfioError ESRCH when there is no such process; EMFILE */
  constructor(pid: number) {
    this.#pid = pid;
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
   * A descriptor of ours for the open file behind `fd` of the process.
   * @throws VfioError EBADF; EPERM where this user may not
   */
  descriptor(fd: number): OwnedFd {
    const got = addon().pidfdGetfd(this.#pidfd.number, fd);
    if (got >= 0) return OwnedFd.received(got);
    return OwnedFd.own(got, `descriptor ${fd} of process ${this.#pid}`);
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
    this.#pidfd[Symbol.dispose]();
  }
}
