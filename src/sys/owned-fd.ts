/** A file descriptor that somebody owns: closed once, by them. Descriptor numbers appear nowhere outside this room. */
import { fstatSync, readlinkSync } from 'node:fs';
import { checkIndex } from '../base/check.ts';
import { VfioError } from '../base/errno.ts';
import { addon, checked, Sys } from './addon.ts';

export class OwnedFd implements Disposable {
  #fd: number;
  /** A peer sent it, and the kind of file decides how long closing takes. */
  #foreign: boolean;

  private constructor(fd: number, foreign = false) {
    this.#fd = fd;
    this.#foreign = foreign;
  }

  /** Take over a number that a system call has just answered. @throws VfioError the errno that it carries when it is negative */
  static own(result: number, what: string): OwnedFd {
    return new OwnedFd(checked(result, what));
  }

  /** Take over a number that came from a peer: whatever it is, closing it does not wait for the peer. */
  static received(number: number): OwnedFd {
    return new OwnedFd(number, true);
  }

  /** A descriptor of our own for the file that `fd`, a number that stays someone else's, refers to. @throws VfioError EBADF when it is not open */
  static duplicate(fd: number): OwnedFd {
    checkIndex(fd, 0x7fff_ffff, 'the descriptor', 'EBADF');
    return OwnedFd.own(addon().fcntl(fd, Sys.F_DUPFD_CLOEXEC, 0), `duplicating descriptor ${fd}`);
  }

  /** For calls of this room only. @throws VfioError EBADF once closed */
  get number(): number {
    if (this.#fd < 0) throw new VfioError('EBADF', 'the descriptor is closed');
    return this.#fd;
  }

  get closed(): boolean {
    return this.#fd < 0;
  }

  /** @throws VfioError EBADF once closed; EMFILE when this process has no descriptor left */
  duplicate(): OwnedFd {
    const copy = OwnedFd.duplicate(this.number);
    copy.#foreign = this.#foreign;
    return copy;
  }

  /** Hand the descriptor over to a new owner; this one has none any more. @throws VfioError EBADF once closed */
  move(): OwnedFd {
    const moved = new OwnedFd(this.number, this.#foreign);
    this.#fd = -1;
    return moved;
  }

  /** The number, whose closing is the caller's now: for a call that closes it. @throws VfioError EBADF once closed */
  disown(): number {
    const { number } = this;
    this.#fd = -1;
    return number;
  }

  /**
   * Whether no call on it waits for its maker: memory, or an eventfd. Never waits.
   *
   * @throws VfioError EBADF once closed
   */
  get cannotWait(): boolean {
    return addon().cannotWait(this.number) === 1;
  }

  /** Whether it is memory: a memfd, or a file of tmpfs or hugetlbfs. Never waits. @throws VfioError EBADF once closed */
  get isMemory(): boolean {
    return addon().fcntl(this.number, Sys.F_GET_SEALS, 0) >= 0;
  }

  /**
   * The kernel's name of the file. Never waits: `anon_inode:[eventfd]`, `/memfd:name (deleted)`,
   * `socket:[123]`, or a path.
   */
  describe(): string {
    return readlinkSync(`/proc/self/fd/${this.number}`);
  }

  /** Bytes of the file, 0 for what has no size. @throws VfioError EBADF once closed */
  get size(): number {
    return fstatSync(this.number).size;
  }

  /** Close. Idempotent. The result is not looked at: Linux frees the number even when close answers an error. */
  [Symbol.dispose](): void {
    const fd = this.#fd;
    this.#fd = -1;
    if (fd < 0) return;
    if (this.#foreign) addon().closeForeign(fd);
    else addon().close(fd);
  }
}
