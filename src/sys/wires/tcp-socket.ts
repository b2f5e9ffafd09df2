/** A connected TCP socket, as far as a stream of frames needs it. */
import { Errno } from '../../base/errno.ts';
import { addon, Sys, sysError } from '../addon.ts';
import { END_OF_STREAM, type ListenOptions, WOULD_BLOCK } from '../byte-stream.ts';
import { FdWatch } from '../fd-watch.ts';
import type { OwnedFd } from '../owned-fd.ts';
import type { FrameStream } from './stream.ts';

const noDescriptors = new Int32Array(1);

export class TcpSocket implements FrameStream {
  readonly #fd: OwnedFd;
  readonly #watch: FdWatch;

  /** Takes `fd` over. Frames are sent at once: TCP_NODELAY. */
  constructor(fd: OwnedFd) {
    this.#fd = fd;
    this.#watch = new FdWatch(fd);
    addon().setsockopt(fd.number, Sys.IPPROTO_TCP, Sys.TCP_NODELAY, 1);
  }

  send(bytes: Uint8Array, start: number, end: number): number {
    const sent = addon().sendmsg(this.#fd.number, bytes, start, end, noDescriptors, 0);
    if (sent >= 0) return sent;
    if (sent === -Errno.EAGAIN || sent === -Errno.EINTR) return WOULD_BLOCK;
    throw sysError(sent, 'sending');
  }

  receive(into: Uint8Array, start: number, end: number): number {
    const received = addon().read(this.#fd.number, into, start, end);
    if (received > 0) return received;
    if (received === -Errno.EAGAIN || received === -Errno.EINTR) return WOULD_BLOCK;
    if (received < 0) throw sysError(received, 'receiving');
    this.#watch.stopListening();
    return END_OF_STREAM;
  }

  listen(onReadable: () => boolean, options?: ListenOptions): Disposable {
    return this.#watch.listen(onReadable, options);
  }

  onWritable(callback: () => void): Disposable {
    return this.#watch.onWritable(callback);
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
    this.#fd[Symbol.dispose]();
  }
}
