/**
 * A file descriptor with one owner, which closes it once; when the owner's thread ends first, the
 * end closes it. Descriptor numbers appear nowhere outside this room.
 */
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

  /**
   * Take over the result of a system call: a number.
   * @throws VfioError the errno of a negative result
   */
  static own(result: number, what: string): OwnedFd {
    const fd = checked(result, what);
    addon().own(fd);
    return new OwnedFd(fd);
  }

  /** Take over a number that came from a peer: closing it never waits for the peer. */
  static received(number: number): OwnedFd {
    addon().own(number);
    return new OwnedFd(number, true);
  }

  /**
   * A descriptor of our own for the file that `fd` refers to; the number `fd` stays its owner's.
   * @throws VfioError EBADF when it is not open
   */
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

  /**
   * Give the descriptor to a new owner; this object has none afterwards.
   * @throws VfioError EBADF once closed
   */
  move(): OwnedFd {
    const moved = new OwnedFd(this.number, this.#foreign);
    this.#fd = -1;
    return moved;
  }

  /**
   * As `move`, for a descriptor of a peer that this process trusts: closing it may wait for the
   * peer.
   *
   * @throws VfioError EBADF once closed
   */
  trust(): OwnedFd {
    const moved = this.move();
    moved.#foreign = false;
    return moved;
  }

  /**
   * The number, for a call that closes it: from now on the caller closes it.
   * @throws VfioError EBADF once closed
   */
  disown(): number {
    const { number } = this;
    this.#fd = -1;
    addon().disown(number);
    return number;
  }

  /**
   * True for memory and eventfds: no call on such a file waits for its maker. Never waits.
   *
   * @throws VfioError EBADF once closed
   */
  get cannotWait(): boolean {
    return addon().cannotWait(this.number) === 1;
  }

  /**
   * Whether it is memory: a memfd, or a file of tmpfs or hugetlbfs. Never waits.
   * @throws VfioError EBADF once closed
   */
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

  /** Bytes of the file; 0 for a file without a size. @throws VfioError EBADF once closed */
  get size(): number {
    return fstatSync(this.number).size;
  }

  /**
   * Close. Idempotent. The result does not matter: Linux frees the number even when close returns
   * an error.
   */
  [Symbol.dispose](): void {
    const fd = this.#fd;
    this.#fd = -1;
    if (fd < 0) return;
    if (this.#foreign) addon().closeForeign(fd);
    else addon().close(fd);
  }
}
