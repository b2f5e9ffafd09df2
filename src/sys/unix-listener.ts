/** A UNIX socket that waits for connections at a path. */
import { closeSync, constants, existsSync, fchmodSync, lstatSync, openSync, type Stats, statSync, unlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { Cleanup } from '../base/cleanup.ts';
import { Errno, errnoName, VfioError } from '../base/errno.ts';
import { type Addon, addon, checked, Sys, sysError } from './addon.ts';
import { FdWatch } from './fd-watch.ts';
import { OwnedFd } from './owned-fd.ts';
import { SystemError, systemError } from './system-error.ts';
import { CLOSING_MAX, checkIsSocket, socketAddress, takeOver, UnixSocket } from './unix-socket.ts';

/**
 * Connections that may wait to be accepted. A further connect waits, or gets EAGAIN when it is
 * non-blocking.
 */
const BACKLOG = 64;
/** Connections accepted in one turn of the event loop. */
const ACCEPT_MAX = 16;
/** How often, 10 ms apart, the lock of a directory is tried before giving up. */
const LOCK_TRIES = 200;

/** Those of this thread that have a path. */
const listening = new Set<UnixListener>();

export interface AcceptOptions {
  /** Whether waiting for connections keeps the process alive. Default: it does. */
  readonly keepAlive?: boolean;
}

export class UnixListener implements Disposable {
  /** Where it listens; null when it was inherited as a number. */
  readonly path: string | null;
  readonly #fd: OwnedFd;
  readonly #sys: Addon = addon();
  readonly #watch: FdWatch;
  readonly #file: Stats | null;
  /**
   * Closed for a moment when no descriptor is left, to accept a connection and close it: the event
   * loop would report a waiting connection for ever.
   */
  #reserve: OwnedFd | null;
  #refused = 0;

  private constructor(fd: OwnedFd, path: string | null) {
    this.#fd = fd;
    this.path = path;
    this.#watch = new FdWatch(fd);
    this.#reserve = this.#newReserve();
    try {
      this.#file = path === null ? null : lstatSync(path);
    } catch {
      // Another process has removed it already.
      this.#file = null;
    }
    if (this.#file !== null) listening.add(this);
  }

  /**
   * Listen at `path`, with mode 0600 from the moment it exists. A socket that a dead process left
   * there is replaced.
   *
   * @throws VfioError EADDRINUSE when a process listens there, or something else than a socket is
   *   there; EINVAL for a path that is too long; ENOENT, ENOTDIR without its directory; EACCES,
   *   EROFS where no file can be made; EMFILE
   */
  static listen(path: string): UnixListener {
    const address = socketAddress(path);
    const sys = addon();
    using undo = new Cleanup();
    const fd = undo.use(OwnedFd.own(sys.socket(Sys.AF_UNIX, Sys.SOCK_STREAM), 'creating a socket'));
    // On Linux, bind gives the file the mode of the socket's own inode (unix(7) says only "umask";
    // net/unix/af_unix.c, unix_bind_bsd()).
    fchmodSync(fd.number, 0o600);
    {
      // Between bind and listen a socket looks as dead as an abandoned one, and two processes may
      // find the same dead one.
      using _lock = lockDirectory(dirname(path));
      let bound = sys.bind(fd.number, address);
      if (bound === -Errno.EADDRINUSE) {
        removeStaleSocket(path);
        bound = sys.bind(fd.number, address);
      }
      if (bound < 0) throw cannotListen(bound, path);
      undo.defer(() => unlinkSync(path));
      checked(sys.listen(fd.number, BACKLOG), `listening at ${path}`);
    }
    const listener = new UnixListener(fd, path);
    undo.move();
    return listener;
  }

  /**
   * A listening socket that this process was started with. The number is taken over. Its path, if
   * it has one, is left to its maker.
   *
   * @throws VfioError EBADF when it is not open; EINVAL when it is not a listening socket, which is
   *   then left as it was
   */
  static fromNumber(fd: number): UnixListener {
    {
      using looked = OwnedFd.duplicate(fd);
      checkIsSocket(looked, true);
    }
    return new UnixListener(takeOver(fd), null);
  }

  /**
   * Whether this thread itself accepts connections to `path`. A caller that blocks the thread would
   * wait for ever for the answer.
   */
  static isOfThisThread(path: string): boolean {
    const there = statSync(path, { throwIfNoEntry: false });
    return there !== undefined && [...listening].some((each) => each.#file?.ino === there.ino && each.#file.dev === there.dev);
  }

  /**
   * Connections closed at once, because this process had no descriptor left for them, or has too
   * many peers' descriptors waiting to be closed.
   */
  get refused(): number {
    return this.#refused;
  }

  /**
   * Call `callback` with every connection, which the callback disposes.
   * @throws VfioError EBUSY when there is a callback already; EBADF once disposed
   */
  onConnection(callback: (socket: UnixSocket) => void, options: AcceptOptions = {}): Disposable {
    return this.#watch.listen(() => this.#accept(callback), { keepAlive: options.keepAlive ?? true });
  }

  #accept(callback: (socket: UnixSocket) => void): void {
    for (let i = 0; i < ACCEPT_MAX && !this.#fd.closed; i++) {
      const accepted = this.#sys.accept(this.#fd.number);
      if (accepted >= 0) {
        this.#reserve ??= this.#newReserve();
        if (this.#sys.closing(CLOSING_MAX) > 0) {
          this.#sys.closeSocket(accepted);
          this.#refused++;
          continue;
        }
        callback(UnixSocket.accepted(OwnedFd.own(accepted, 'accepting a connection')));
      } else if (accepted === -Errno.EAGAIN || accepted === -Errno.ENOMEM || accepted === -ENOBUFS) {
        return;
      } else if (accepted === -Errno.EMFILE || accepted === -ENFILE) {
        if (!this.#refuse()) return;
      } else if (accepted !== -ECONNABORTED && accepted !== -Errno.EINTR) {
        throw sysError(accepted, 'accepting a connection');
      }
    }
  }

  /** Whether a connection was taken off the queue. */
  #refuse(): boolean {
    if (this.#reserve === null) return false;
    this.#reserve[Symbol.dispose]();
    const accepted = this.#sys.accept(this.#fd.number);
    if (accepted >= 0) {
      this.#sys.close(accepted);
      this.#refused++;
    }
    this.#reserve = this.#newReserve();
    return accepted >= 0;
  }

  #newReserve(): OwnedFd | null {
    try {
      return this.#fd.duplicate();
    } catch {
      return null;
    }
  }

  /**
   * Stops listening and removes the socket's file, unless another one is at its path by now.
   * Connections stay. Idempotent.
   */
  [Symbol.dispose](): void {
    if (this.#fd.closed) return;
    listening.delete(this);
    this.#watch[Symbol.dispose]();
    if (this.path !== null && this.#file !== null) {
      try {
        const there = lstatSync(this.path);
        if (there.ino === this.#file.ino && there.dev === this.#file.dev) unlinkSync(this.path);
      } catch {
        // Gone, or out of reach: there is nothing to remove.
      }
    }
    this.#reserve?.[Symbol.dispose]();
    this.#fd[Symbol.dispose]();
  }
}

/**
 * The socket behind an inherited number. `--fd` takes a connection as well as a listening socket.
 * @throws VfioError EBADF, EINVAL
 */
export function socketFromNumber(fd: number): UnixListener | UnixSocket {
  let listening: boolean;
  {
    using looked = OwnedFd.duplicate(fd);
    listening = addon().getsockopt(looked.number, Sys.SO_ACCEPTCONN) === 1;
  }
  return listening ? UnixListener.fromNumber(fd) : UnixSocket.fromNumber(fd);
}

const ENFILE = 23;
const ECONNABORTED = 103;
const ENOBUFS = 105;
const EPROTOTYPE = 91;

function cannotListen(result: number, path: string): VfioError {
  const code = errnoName(result) ?? 'EIO';
  const directory = dirname(path);
  const what = `no socket can be made at ${path}`;
  if (code === 'ENOENT' && !existsSync(directory)) {
    return new SystemError(code, `${what}: there is no directory ${directory}`, {
      fix: `Make it, mkdir -p ${directory}, or choose another path.`,
    });
  }
  if (code === 'ENOENT' || code === 'EACCES' || code === 'EPERM' || code === 'EROFS') {
    return systemError(code, what, {
      fix: 'Choose a path in a directory where this user may make files, such as one in $XDG_RUNTIME_DIR or /tmp.',
    });
  }
  return sysError(result, `listening at ${path}`);
}

/**
 * Remove the socket that a dead process or thread left at `path`; nothing when there is no file.
 * @throws VfioError EADDRINUSE unless it is a socket at which no process listens; EACCES
 */
export function removeStaleSocket(path: string): void {
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (there === undefined) return;
  if (!there.isSocket()) {
    throw new VfioError('EADDRINUSE', `${path} exists, and is not a socket`, {
      fix: 'Choose another path, or move that file away.',
    });
  }
  // The kernel reports, for a connect with a socket of another type, whether a socket is behind the
  // file, without connecting to it (af_unix.c, unix_find_bsd()).
  using probe = OwnedFd.own(addon().socket(Sys.AF_UNIX, Sys.SOCK_DGRAM), 'creating a socket');
  const answer = addon().connect(probe.number, socketAddress(path));
  if (answer === 0 || answer === -EPROTOTYPE) {
    throw new VfioError('EADDRINUSE', `another process listens at ${path}`, { fix: 'Choose another path, or end that process first.' });
  }
  if (answer !== -Errno.ECONNREFUSED) throw sysError(answer, `finding out whether a process listens at ${path}`);
  try {
    unlinkSync(path);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw new VfioError('EACCES', `${path} is a socket that a dead process left, and may not be removed`, { cause });
  }
}

/**
 * An exclusive lock of a directory (flock(2)), against other processes that replace a socket in it
 * at the same time. No lock is taken where this user may not read the directory.
 */
function lockDirectory(directory: string): Disposable {
  let fd: number;
  try {
    fd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch {
    return { [Symbol.dispose]: () => {} };
  }
  const unlock = { [Symbol.dispose]: () => closeSync(fd) };
  for (let tries = 0; addon().flock(fd, Sys.LOCK_EX | Sys.LOCK_NB) === -Errno.EAGAIN; tries++) {
    if (tries < LOCK_TRIES) {
      addon().poll(-1, 0, 10);
      continue;
    }
    unlock[Symbol.dispose]();
    throw new VfioError('EADDRINUSE', `another process keeps ${directory} locked`, { fix: 'Use a directory of your own for the socket.' });
  }
  return unlock;
}
