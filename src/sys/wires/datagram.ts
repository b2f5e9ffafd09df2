/**
 * QEMU's netdev `dgram` with one peer: a frame is a datagram, from our socket to the peer's.
 *
 * @see QEMU, net/dgram.c
 */
import { fchmodSync, unlinkSync } from 'node:fs';
import { Loss, MAX_FRAME } from '../../abi/wire.ts';
import { Errno, VfioError } from '../../base/errno.ts';
import { addon, checked, Sys, sysError } from '../addon.ts';
import { FdWatch } from '../fd-watch.ts';
import { OwnedFd } from '../owned-fd.ts';
import { removeStaleSocket } from '../unix-listener.ts';
import { socketAddress } from '../unix-socket.ts';
import { type ChannelUser, FRAMES_PER_TURN, type FrameChannel, FULL, LOST, RETRY_MS, TAKEN } from './frame-channel.ts';
import { inetSocket, type NetAddress, textOfAddress } from './net-address.ts';

/** One byte more than a frame may have, so that a longer one shows. */
const READ_BYTES = MAX_FRAME + 1;
const ENOTCONN = 107;
const noDescriptors = new Int32Array(1);

/**
 * A datagram socket at `local` that sends to `remote` and takes frames from there alone. A socket
 * at a path has mode 0600.
 *
 * @throws VfioError EINVAL for addresses of two kinds; EADDRINUSE; EACCES, ENOENT for a path
 */
export function openDatagram(local: NetAddress, remote: NetAddress): FrameChannel {
  const name = `dgram ${textOfAddress(local)} to ${textOfAddress(remote)}`;
  if (local.kind !== remote.kind) {
    throw new VfioError('EINVAL', `${name}: one is a path and the other is not`, { fix: 'Give two paths, or two addresses with ports.' });
  }
  const fd = OwnedFd.own(
    local.kind === 'unix' ? addon().socket(Sys.AF_UNIX, Sys.SOCK_DGRAM) : inetSocket(local.host, Sys.SOCK_DGRAM),
    'creating a socket',
  );
  try {
    if (local.kind === 'unix') bindPath(fd, local.path);
    else checked(addon().bindInet(fd.number, local.host, local.port), `using ${textOfAddress(local)}`);
  } catch (error) {
    fd[Symbol.dispose]();
    throw error;
  }
  return new DatagramChannel(fd, name, remote, local.kind === 'unix' ? local.path : null);
}

function bindPath(fd: OwnedFd, path: string): void {
  const address = socketAddress(path);
  fchmodSync(fd.number, 0o600);
  let bound = addon().bind(fd.number, address);
  if (bound === -Errno.EADDRINUSE) {
    removeStaleSocket(path);
    bound = addon().bind(fd.number, address);
  }
  checked(bound, `making a socket at ${path}`);
}

/** A datagram socket with its peer, which is taken over. */
export function datagramOfFd(fd: OwnedFd): FrameChannel {
  return new DatagramChannel(fd, 'dgram on a descriptor', null, null);
}

class DatagramChannel implements FrameChannel {
  readonly name: string;
  up = false;
  readonly #fd: OwnedFd;
  readonly #watch: FdWatch;
  readonly #remote: NetAddress | null;
  readonly #path: string | null;
  readonly #sys = addon();
  readonly #bytes = new Uint8Array(READ_BYTES);
  #user: ChannelUser | null = null;
  #retry: Disposable | null = null;

  /** @param remote null: the socket has its peer   @param path of our own, to be removed */
  constructor(fd: OwnedFd, name: string, remote: NetAddress | null, path: string | null) {
    this.#fd = fd;
    this.name = name;
    this.#remote = remote;
    this.#path = path;
    this.#watch = new FdWatch(fd);
  }

  start(user: ChannelUser): void {
    this.#user = user;
    this.#watch.listen(() => this.#read());
    this.#connect();
  }

  #connect(): void {
    const remote = this.#remote;
    if (remote !== null) {
      const result =
        remote.kind === 'unix'
          ? this.#sys.connect(this.#fd.number, socketAddress(remote.path))
          : this.#sys.connectInet(this.#fd.number, remote.host, remote.port);
      if (result < 0) {
        this.#retry = this.#user!.clock.after(RETRY_MS, () => {
          this.#retry = null;
          this.#connect();
        });
        return;
      }
    }
    this.up = true;
    this.#user!.report('the peer is there');
    this.#user!.carrierChanged();
  }

  #read(): boolean {
    for (let i = 0; i < FRAMES_PER_TURN && !this.#fd.closed; i++) {
      const length = this.#sys.read(this.#fd.number, this.#bytes, 0, READ_BYTES);
      if (length > 0) this.#user!.arrived(this.#bytes, 0, length);
      else if (length < 0 && this.#failed(length)) return true;
    }
    return true;
  }

  /** An error of the socket. @returns whether nothing more is to be read now */
  #failed(result: number): boolean {
    if (result === -Errno.EAGAIN) return true;
    // Of UDP: a datagram that we have sent found no socket. The peer may come yet.
    if (result === -Errno.ECONNREFUSED && this.#path === null) return false;
    if (result === -Errno.ECONNRESET || result === -Errno.ECONNREFUSED || result === -ENOTCONN) this.#peerGone();
    return result !== -Errno.EINTR;
  }

  #peerGone(): void {
    if (!this.up || this.#remote === null) return;
    this.up = false;
    this.#user!.report('the peer has gone');
    this.#user!.carrierChanged();
    this.#connect();
  }

  send(bytes: Uint8Array, offset: number, length: number): number {
    const sent = this.#sys.sendmsg(this.#fd.number, bytes, offset, offset + length, noDescriptors, 0);
    if (sent >= 0) return TAKEN;
    if (sent === -Errno.EAGAIN) {
      this.#watch.onWritable(() => this.#user!.onRoom());
      return FULL;
    }
    this.#user!.tally.lose(sent === -Errno.ECONNREFUSED ? Loss.NO_RECEIVER : Loss.FAILED);
    if (sent === -Errno.ECONNREFUSED || sent === -ENOTCONN || sent === -Errno.ECONNRESET) {
      const user = this.#user!;
      if (this.#path !== null) user.clock.after(0, () => void (this.#fd.closed || this.#peerGone()));
    } else if (sent !== -Errno.EMSGSIZE) {
      this.#user!.report(sysError(sent, 'sending').message);
    }
    return LOST;
  }

  [Symbol.dispose](): void {
    this.#retry?.[Symbol.dispose]();
    this.#watch[Symbol.dispose]();
    if (this.#fd.closed) return;
    this.#fd[Symbol.dispose]();
    if (this.#path === null) return;
    try {
      unlinkSync(this.#path);
    } catch {
      // Another process has removed it already.
    }
  }
}
