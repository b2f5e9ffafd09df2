/** How a stream of frames gets its peers: it connects, it listens, or it was given a socket. */
import { Errno, VfioError } from '../../base/errno.ts';
import { addon, checked, Sys, sysError } from '../addon.ts';
import { FdWatch } from '../fd-watch.ts';
import { OwnedFd } from '../owned-fd.ts';
import { UnixListener } from '../unix-listener.ts';
import { UnixSocket } from '../unix-socket.ts';
import type { FrameChannel } from './frame-channel.ts';
import { EINPROGRESS, inetSocket, type NetAddress, textOfAddress, whyOf } from './net-address.ts';
import { type FrameStream, StreamChannel, type StreamSource } from './stream.ts';
import { TcpSocket } from './tcp-socket.ts';

/**
 * Connects to `address`, and again every second while no peer is there: a peer may come later.
 * @throws VfioError EINVAL for a path that no socket can have
 */
export function connectStream(address: NetAddress): FrameChannel {
  return new StreamChannel(address.kind === 'unix' ? new UnixConnector(address.path) : new TcpConnector(address));
}

/**
 * Listens at `address` and has one peer at a time. A UNIX socket has mode 0600.
 * @throws VfioError as `UnixListener.listen`; EADDRINUSE
 */
export function listenForStream(address: NetAddress): FrameChannel {
  return new StreamChannel(address.kind === 'unix' ? new UnixServer(address.path) : new TcpServer(address));
}

/** A connected stream socket that is taken over, of UNIX or TCP. */
export function streamOfFd(fd: OwnedFd): FrameChannel {
  const unix = addon().getsockopt(fd.number, Sys.SO_DOMAIN) === Sys.AF_UNIX;
  return new StreamChannel(new Given(unix ? quiet(UnixSocket.fromFd(fd)) : new TcpSocket(fd)));
}

/** Its waits do not keep the processor busy: a wire is idle for long. */
function quiet(socket: UnixSocket): UnixSocket {
  socket.spins = false;
  return socket;
}

class Given implements StreamSource {
  readonly name = 'stream on a descriptor';
  #stream: FrameStream | null;

  constructor(stream: FrameStream) {
    this.#stream = stream;
  }

  start(connected: (stream: FrameStream) => void): void {
    const stream = this.#stream!;
    this.#stream = null;
    connected(stream);
  }

  [Symbol.dispose](): void {
    this.#stream?.[Symbol.dispose]();
  }
}

class UnixConnector implements StreamSource {
  readonly name: string;
  readonly #path: string;
  #connected: (stream: FrameStream) => void = () => {};
  #failed: (why: string) => void = () => {};

  constructor(path: string) {
    this.#path = path;
    this.name = `stream ${path}`;
  }

  start(connected: (stream: FrameStream) => void, failed: (why: string) => void): void {
    this.#connected = connected;
    this.#failed = failed;
  }

  wanted(): void {
    let socket: UnixSocket;
    try {
      socket = UnixSocket.connect(this.#path);
    } catch (error) {
      this.#failed(error instanceof VfioError && ['ENOENT', 'ECONNREFUSED'].includes(error.code) ? whyOf(-Errno.ENOENT) : String(error));
      return;
    }
    this.#connected(quiet(socket));
  }

  [Symbol.dispose](): void {}
}

class TcpConnector implements StreamSource {
  readonly name: string;
  readonly #address: Extract<NetAddress, { kind: 'inet' }>;
  #connected: (stream: FrameStream) => void = () => {};
  #failed: (why: string) => void = () => {};
  /** A connection that is being made. */
  #making: { readonly fd: OwnedFd; readonly watch: FdWatch } | null = null;

  constructor(address: Extract<NetAddress, { kind: 'inet' }>) {
    this.#address = address;
    this.name = `stream ${textOfAddress(address)}`;
  }

  start(connected: (stream: FrameStream) => void, failed: (why: string) => void): void {
    this.#connected = connected;
    this.#failed = failed;
  }

  wanted(): void {
    const { host, port } = this.#address;
    const fd = OwnedFd.own(inetSocket(host, Sys.SOCK_STREAM), 'creating a socket');
    const result = addon().connectInet(fd.number, host, port);
    if (result === 0) {
      this.#connected(new TcpSocket(fd));
    } else if (result === -EINPROGRESS) {
      const watch = new FdWatch(fd);
      this.#making = { fd, watch };
      watch.onWritable(() => this.#made());
    } else {
      fd[Symbol.dispose]();
      this.#failed(whyOf(result));
    }
  }

  #made(): void {
    const { fd, watch } = this.#making!;
    this.#making = null;
    watch[Symbol.dispose]();
    const error = addon().getsockopt(fd.number, Sys.SO_ERROR);
    if (error === 0) {
      this.#connected(new TcpSocket(fd));
      return;
    }
    fd[Symbol.dispose]();
    this.#failed(whyOf(error > 0 ? -error : error));
  }

  [Symbol.dispose](): void {
    this.#making?.watch[Symbol.dispose]();
    this.#making?.fd[Symbol.dispose]();
    this.#making = null;
  }
}

class UnixServer implements StreamSource {
  readonly name: string;
  readonly #listener: UnixListener;

  constructor(path: string) {
    this.#listener = UnixListener.listen(path);
    this.name = `stream-listen ${path}`;
  }

  start(connected: (stream: FrameStream) => void): void {
    this.#listener.onConnection((socket) => connected(quiet(socket)), { keepAlive: false });
  }

  [Symbol.dispose](): void {
    this.#listener[Symbol.dispose]();
  }
}

class TcpServer implements StreamSource {
  readonly name: string;
  readonly #fd: OwnedFd;
  readonly #watch: FdWatch;

  constructor(address: Extract<NetAddress, { kind: 'inet' }>) {
    const { host, port } = address;
    this.name = `stream-listen ${textOfAddress(address)}`;
    const fd = OwnedFd.own(inetSocket(host, Sys.SOCK_STREAM), 'creating a socket');
    try {
      checked(addon().setsockopt(fd.number, Sys.SOL_SOCKET, Sys.SO_REUSEADDR, 1), 'preparing a socket');
      const bound = addon().bindInet(fd.number, host, port);
      if (bound === -Errno.EADDRINUSE) {
        throw new VfioError('EADDRINUSE', `another process listens at ${textOfAddress(address)}`, { fix: 'Choose another port.' });
      }
      checked(bound, `listening at ${textOfAddress(address)}`);
      checked(addon().listen(fd.number, 1), `listening at ${textOfAddress(address)}`);
    } catch (error) {
      fd[Symbol.dispose]();
      throw error;
    }
    this.#fd = fd;
    this.#watch = new FdWatch(fd);
  }

  start(connected: (stream: FrameStream) => void, failed: (why: string) => void): void {
    this.#watch.listen(() => {
      const accepted = addon().accept(this.#fd.number);
      if (accepted >= 0) connected(new TcpSocket(OwnedFd.own(accepted, 'accepting a connection')));
      else if (accepted === -Errno.EMFILE) {
        // The event loop would report the connection for ever: no one is accepted any more.
        this.#watch.stopListening();
        failed(sysError(accepted, 'accepting a connection').message);
      }
      return false;
    });
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
    this.#fd[Symbol.dispose]();
  }
}
