/** A connected UNIX stream socket: bytes, descriptors with them, and the identity of the peer. */
import { readFileSync, statSync } from 'node:fs';
import { basename, dirname, relative } from 'node:path';
import { checkIndex } from '../base/check.ts';
import { Errno, VfioError } from '../base/errno.ts';
import { type Addon, addon, checked, Sys, sysError } from './addon.ts';
import { type ByteStream, END_OF_STREAM, type ListenOptions, type PeerCredentials, WOULD_BLOCK } from './byte-stream.ts';
import { FdWatch, waitFor } from './fd-watch.ts';
import { OwnedFd } from './owned-fd.ts';
import { peerProcess } from './peer-process.ts';

/**
 * How many descriptors of peers may wait to be closed at one time, of all peers together: a quarter
 * of those that this process may open, since each keeps its number. A client that sends many at
 * once stays well below: its descriptors wait for their turn, not for a file system.
 */
export const CLOSING_MAX = closingMax();

function closingMax(): number {
  const [, openFiles = '1024'] = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
  return Math.max(64, Math.min(4096, Math.floor(Number(openFiles) / 4)));
}

/**
 * Descriptor numbers that a call takes or returns: their count, then each. One array serves all
 * sockets of this thread: nothing else runs while it is in use.
 */
const passing = new Int32Array(Sys.MESSAGE_FDS_MAX + 1);

/** Longest path of a socket, in bytes: sun_path of unix(7) less its NUL. */
export const SOCKET_PATH_MAX_BYTES = 107;

/**
 * The path that the kernel gets for the socket at `path`: `path` itself or, when that is too long,
 * the way there from the working directory.
 *
 * @throws VfioError EINVAL for a path that no socket can have
 */
export function socketAddress(path: string): string {
  const length = typeof path === 'string' ? Buffer.byteLength(path) : 0;
  if (length === 0 || path.includes('\0')) throw new VfioError('EINVAL', 'the path of a socket is empty, or has a NUL in it');
  if (length <= SOCKET_PATH_MAX_BYTES) return path;
  const near = relative(process.cwd(), path);
  if (Buffer.byteLength(near) <= SOCKET_PATH_MAX_BYTES) return near;
  const name = basename(path);
  const fits = Buffer.byteLength(name) <= SOCKET_PATH_MAX_BYTES;
  throw new VfioError('EINVAL', `${path} has ${length} bytes; the path of a UNIX socket holds at most ${SOCKET_PATH_MAX_BYTES}`, {
    fix: fits ? `Use a shorter path, or start in ${dirname(path)}: from there it is ${name}.` : 'Use a shorter name.',
  });
}

/** Whether a socket can be at `path`. */
export function fitsSocket(path: string): boolean {
  return Buffer.byteLength(path) <= SOCKET_PATH_MAX_BYTES || Buffer.byteLength(relative(process.cwd(), path)) <= SOCKET_PATH_MAX_BYTES;
}

/**
 * The kernel answers for a file that is no socket as for a socket without a listener.
 * @throws VfioError EINVAL for such a file
 */
export function checkIsSocketFile(path: string): void {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined || found.isSocket()) return;
  const what = found.isDirectory() ? 'a directory' : found.isFile() ? 'a file' : 'a device or pipe';
  throw new VfioError('EINVAL', `${path} is ${what}, not a socket`);
}

/**
 * @throws VfioError EINVAL unless it is a UNIX stream socket, listening or not as `listening` says;
 *   EBADF
 */
export function checkIsSocket(fd: OwnedFd, listening: boolean): void {
  const sys = addon();
  const domain = sys.getsockopt(fd.number, Sys.SO_DOMAIN);
  if (domain !== Sys.AF_UNIX || sys.getsockopt(fd.number, Sys.SO_TYPE) !== Sys.SOCK_STREAM) {
    throw new VfioError('EINVAL', `the descriptor is ${fd.describe()}, not a UNIX stream socket`);
  }
  if ((sys.getsockopt(fd.number, Sys.SO_ACCEPTCONN) === 1) !== listening) {
    throw new VfioError('EINVAL', listening ? 'the socket does not listen for connections' : 'the socket listens for connections');
  }
}

/** Take over an inherited descriptor number. @throws VfioError EBADF when it is not open */
export function takeOver(number: number): OwnedFd {
  checkIndex(number, 0x7fff_ffff, 'the descriptor', 'EBADF');
  const what = `taking over descriptor ${number}`;
  const result = addon().fcntl(number, Sys.F_SETFD, Sys.FD_CLOEXEC);
  if (result === -Errno.EBADF) {
    throw new VfioError('EBADF', `this process was started without a descriptor ${number}`, {
      fix: 'Give the number of a descriptor that the parent process has opened and passed on.',
    });
  }
  checked(result, what);
  return OwnedFd.own(number, what);
}

export class UnixSocket implements ByteStream {
  readonly carriesFds = true;
  spins = true;
  readonly #fd: OwnedFd;
  readonly #sys: Addon = addon();
  readonly #watch: FdWatch;
  readonly #isServers: boolean;
  #peer: PeerCredentials | undefined;

  private constructor(fd: OwnedFd, isServers = false) {
    this.#fd = fd;
    this.#isServers = isServers;
    this.#watch = new FdWatch(fd);
  }

  /**
   * @throws VfioError EINVAL for a path that is too long, or of a file that is no socket; ENOENT
   *   when nothing is there; ECONNREFUSED when no process listens; EACCES; EAGAIN when the
   *   listener's queue is full: try again
   */
  static connect(path: string): UnixSocket {
    const address = socketAddress(path);
    const fd = OwnedFd.own(addon().socket(Sys.AF_UNIX, Sys.SOCK_STREAM), 'creating a socket');
    try {
      const connected = addon().connect(fd.number, address);
      if (connected === -Errno.ECONNREFUSED) checkIsSocketFile(path);
      checked(connected, `connecting to ${path}`);
    } catch (error) {
      fd[Symbol.dispose]();
      throw error;
    }
    return new UnixSocket(fd);
  }

  /** Two sockets, connected to each other. @throws VfioError EMFILE */
  static pair(): [UnixSocket, UnixSocket] {
    const what = 'creating a pair of sockets';
    checked(addon().socketpair(passing), what);
    return [new UnixSocket(OwnedFd.own(passing[0]!, what)), new UnixSocket(OwnedFd.own(passing[1]!, what))];
  }

  /**
   * A connected socket that this process was started with. The number is taken over: this object
   * closes it, and children do not get it.
   *
   * @throws VfioError EBADF when it is not open; EINVAL when it is not a connected socket, which is
   *   then left as it was
   */
  static fromNumber(fd: number): UnixSocket {
    {
      using looked = OwnedFd.duplicate(fd);
      checkIsSocket(looked, false);
    }
    return new UnixSocket(takeOver(fd));
  }

  /**
   * Takes `fd` over and closes it when it is refused.
   * @throws VfioError EINVAL when it is not a connected UNIX stream socket
   */
  static fromFd(fd: OwnedFd): UnixSocket {
    try {
      checkIsSocket(fd, false);
    } catch (error) {
      fd[Symbol.dispose]();
      throw error;
    }
    return new UnixSocket(fd);
  }

  /**
   * A connection that a listener has accepted, which is taken over. The peer may have sent
   * descriptors that this process did not receive: they are closed without waiting, whatever they
   * are. Unread data does not reset the connection.
   */
  static accepted(fd: OwnedFd): UnixSocket {
    return new UnixSocket(fd, true);
  }

  /**
   * The process that connected, or listened, as it was then. Looked up once.
   * @throws VfioError EBADF once disposed
   */
  get peer(): PeerCredentials {
    if (this.#peer !== undefined) return this.#peer;
    checked(this.#sys.peerCredentials(this.#fd.number, passing), 'asking who the peer is');
    const pid = passing[0]!;
    this.#peer = { pid, uid: passing[1]! >>> 0, gid: passing[2]! >>> 0, process: peerProcess(this.#fd, pid) };
    return this.#peer;
  }

  send(bytes: Uint8Array, start: number, end: number, fds?: readonly OwnedFd[]): number {
    let count = 0;
    if (fds !== undefined && fds.length > 0) {
      count = fds.length;
      if (count > Sys.MESSAGE_FDS_MAX) throw new VfioError('EINVAL', `${count} descriptors; a message carries ${Sys.MESSAGE_FDS_MAX}`);
      for (let i = 0; i < count; i++) passing[i] = fds[i]!.number;
    }
    const sent = this.#sys.sendmsg(this.#fd.number, bytes, start, end, passing, count);
    if (sent >= 0) return sent;
    if (sent === -Errno.EAGAIN) return WOULD_BLOCK;
    throw sysError(sent, `sending bytes ${start} to ${end} of ${bytes.length} with ${count} descriptors`);
  }

  receive(into: Uint8Array, start: number, end: number, fds: OwnedFd[]): number {
    passing[0] = 0;
    const received = this.#sys.recvmsg(this.#fd.number, into, start, end, passing);
    if (received > 0) {
      const count = passing[0];
      for (let i = 1; i <= count; i++) fds.push(OwnedFd.received(passing[i]!));
      if (count > 0 && this.#sys.closing(CLOSING_MAX) > 0) this.#refuseStrange(fds, count);
      return received;
    }
    if (received === -Errno.EAGAIN) return WOULD_BLOCK;
    if (received === END_OF_STREAM) {
      this.#watch.stopListening();
      return END_OF_STREAM;
    }
    if (received === -Errno.EPROTO) {
      throw new VfioError('EPROTO', 'descriptors that the peer sent did not fit into this process; all of that message are closed', {
        fix: 'Raise the limit of open files (ulimit -n).',
      });
    }
    throw sysError(received, `receiving into bytes ${start} to ${end} of ${into.length}`);
  }

  /**
   * Refuse descriptors when so many wait to be closed that more of that kind would use up this
   * process.
   * @throws VfioError EPROTO when some came
   */
  #refuseStrange(fds: OwnedFd[], count: number): void {
    if (fds.slice(-count).every((fd) => fd.cannotWait)) return;
    for (const fd of fds.splice(-count)) fd[Symbol.dispose]();
    throw new VfioError(
      'EPROTO',
      `it sent descriptors that are neither memory nor eventfds, and ${this.#sys.closing(0)} such wait to be closed`,
    );
  }

  wait(what: 'readable' | 'writable', timeoutMs: number): boolean {
    return what === 'readable' ? waitFor(this.#fd, Sys.POLLIN, timeoutMs, this.spins) : waitFor(this.#fd, Sys.POLLOUT, timeoutMs);
  }

  /**
   * Block this thread until this socket (1), `other` (2) or both (3) have something to receive. For
   * clients that are spoken to on two sockets.
   *
   * @returns 0 when the time passed first, or a little earlier when a signal came
   * @throws VfioError EBADF once disposed
   */
  waitEither(other: UnixSocket, timeoutMs: number): number {
    const ready = this.#sys.pollEither(this.#fd.number, other.#fd.number, timeoutMs, this.spins);
    return ready === -Errno.EINTR ? 0 : checked(ready, 'polling two sockets');
  }

  listen(onReadable: () => boolean, options?: ListenOptions): Disposable {
    return this.#watch.listen(onReadable, options, this.spins);
  }

  onWritable(callback: () => void): Disposable {
    return this.#watch.onWritable(callback);
  }

  othersWait(): boolean {
    return this.#sys.watchOthers(this.#fd.number) !== 0;
  }

  /**
   * Send nothing more: the peer reads the end of the stream after what was sent.
   * @throws VfioError EBADF once disposed
   */
  end(): void {
    checked(this.#sys.shutdown(this.#fd.number, Sys.SHUT_WR), 'ending a stream');
  }

  /**
   * The descriptor itself; the caller owns it. This object is disposed.
   * @throws VfioError EBADF once disposed; EMFILE
   */
  release(): OwnedFd {
    const fd = this.#fd.duplicate();
    this.#watch[Symbol.dispose]();
    this.#fd[Symbol.dispose]();
    return fd;
  }

  [Symbol.dispose](): void {
    if (this.#fd.closed) return;
    this.#watch[Symbol.dispose]();
    if (this.#isServers) this.#sys.closeSocket(this.#fd.disown());
    else this.#fd[Symbol.dispose]();
  }
}
