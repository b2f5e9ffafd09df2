/**
 * A stream of bytes between two processes, and the descriptors that travel with them: a socket, or
 * a pair of pipes. Neither side waits for the other.
 */
import type { OwnedFd } from './owned-fd.ts';
import type { PeerProcess } from './peer-process.ts';

/** `send` and `receive` return this when the kernel has no room, or no bytes, right now. */
export const WOULD_BLOCK = -1;

/** `receive` returns this when the peer has closed its end and everything that it sent was read. */
export const END_OF_STREAM = 0;

export interface ListenOptions {
  /** Whether this listener keeps the process alive. Default: it does not. */
  readonly keepAlive?: boolean;
}

/**
 * `send` and `receive` allocate nothing when no descriptors travel. Disposing closes the stream and
 * ends its listeners. It is idempotent, and a callback may do it.
 */
export interface ByteStream extends Disposable {
  /**
   * Whether waits for the peer look again and again before the thread sleeps, while that pays
   * (native/spin.c). Absent: the stream cannot.
   */
  spins?: boolean;
  /**
   * Send bytes [start, end). The kernel duplicates the descriptors and sends them with the first
   * byte; the caller keeps its own. Descriptors have gone as soon as one byte has, so the caller
   * must not give them again with the rest.
   *
   * @returns bytes taken, which may be fewer than given; WOULD_BLOCK (-1) when there is no room,
   *   and then no descriptor has gone either
   * @throws VfioError EPIPE or ECONNRESET when the peer is gone; EINVAL for a range outside
   *   `bytes`, more than 253 descriptors, descriptors without a byte, or descriptors on a stream
   *   that carries none; EBADF once disposed
   */
  send(bytes: Uint8Array, start: number, end: number, fds?: readonly OwnedFd[]): number;

  /**
   * Receive into [start, end) of `into`. Descriptors that came are appended to `fds`; the caller
   * owns them. They came with the first byte of their message. Bytes of messages without
   * descriptors may precede that byte: the descriptors belong to the last message that starts in
   * the chunk.
   *
   * @returns bytes received; END_OF_STREAM (0); WOULD_BLOCK (-1) when there is nothing yet
   * @throws VfioError ECONNRESET when the peer is gone with bytes of ours unread; EPROTO when
   *   descriptors were lost on the way because this process has no room for more (those that did
   *   arrive are closed, the bytes are gone: close the stream); EINVAL for an empty range or one
   *   outside `into`; EBADF once disposed
   */
  receive(into: Uint8Array, start: number, end: number, fds: OwnedFd[]): number;

  /**
   * Block this thread until there is something to receive (bytes, the end or an error), or room to
   * send. For synchronous clients.
   *
   * @param timeoutMs -1 waits for ever
   * @returns false when the time passed first
   * @throws VfioError EBADF once disposed
   */
  wait(what: 'readable' | 'writable', timeoutMs: number): boolean;

  /**
   * Call `onReadable` while there is something to receive; the end of the stream and errors count.
   *
   * `onReadable` handles one message, or everything that is there. It returns true to be asked
   * again at the next readiness without a return to the event loop, which is cheaper. The streams
   * of a thread take turns, one call each, and so does the event loop. Each call is a turn of its
   * own: promises that it settled have run before the next call. An error that it throws is an
   * uncaught exception. A stream has one listener at a time.
   *
   * @throws VfioError EBUSY when the stream has a listener; EBADF once disposed
   */
  listen(onReadable: () => boolean, options?: ListenOptions): Disposable;

  /**
   * Call `callback` once, from the event loop, when there is room to send, or when the peer is
   * gone, which the next `send` then reports. Keeps the process alive until then. A stream has one
   * such callback at a time; a second one waits for the same moment.
   *
   * @throws VfioError EBADF once disposed
   */
  onWritable(callback: () => void): Disposable;

  /**
   * Within `onReadable`: whether anything else waits for this thread. A listener that has more to
   * do then returns, and goes on in a later turn of the event loop. Absent: the stream does not
   * know.
   */
  othersWait?(): boolean;

  readonly carriesFds: boolean;
}

/**
 * The process at the other end of a socket, as the kernel recorded it when the connection was made
 * (socket(7), SO_PEERCRED).
 */
export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  /** Absent where only the numbers are known, null where the process has no identity. */
  readonly process?: PeerProcess | null;
}
