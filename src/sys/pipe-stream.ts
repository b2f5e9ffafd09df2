/**
 * Standard input and output as one stream, or any two descriptors like them: pipes, files,
 * terminals, sockets. No descriptors travel.
 */
import { constants, fstatSync, openSync } from 'node:fs';
import { Cleanup } from '../base/cleanup.ts';
import { Errno, VfioError } from '../base/errno.ts';
import { type Addon, addon, Sys, sysError } from './addon.ts';
import { type ByteStream, END_OF_STREAM, type ListenOptions, WOULD_BLOCK } from './byte-stream.ts';
import { FdWatch, waitFor } from './fd-watch.ts';
import { OwnedFd } from './owned-fd.ts';

/** Descriptors that arrive over a socket all the same; they are closed. */
const unwanted = new Int32Array(Sys.MESSAGE_FDS_MAX + 1);

interface End {
  readonly fd: OwnedFd;
  readonly watch: FdWatch;
  /**
   * A socket is not switched to non-blocking: each call says that it must not block. A write to a
   * socket must not raise a signal.
   */
  readonly isSocket: boolean;
}

export class PipeStream implements ByteStream {
  readonly carriesFds = false;
  readonly #input: End;
  readonly #output: End;
  readonly #sys: Addon = addon();

  private constructor(input: End, output: End) {
    this.#input = input;
    this.#output = output;
  }

  /**
   * Standard input and output of this process, opened anew: processes that share the terminal or
   * pipe see no change.
   * @throws VfioError EBADF
   */
  static stdio(): PipeStream {
    return PipeStream.fromNumbers(0, 1);
  }

  /**
   * The files behind two numbers, which stay their owner's.
   * @throws VfioError EBADF when one is not open
   */
  static fromNumbers(input: number, output: number): PipeStream {
    using undo = new Cleanup();
    const from = undo.use(reopen(input, constants.O_RDONLY));
    const to = undo.use(reopen(output, constants.O_WRONLY));
    undo.move();
    return new PipeStream(endOf(from), endOf(to));
  }

  send(bytes: Uint8Array, start: number, end: number, fds?: readonly OwnedFd[]): number {
    if (fds !== undefined && fds.length > 0) throw new VfioError('EINVAL', 'a pipe carries no descriptors');
    const { fd, isSocket } = this.#output;
    const sent = isSocket ? this.#sys.sendmsg(fd.number, bytes, start, end, unwanted, 0) : this.#sys.write(fd.number, bytes, start, end);
    if (sent >= 0) return sent;
    if (sent === -Errno.EAGAIN) return WOULD_BLOCK;
    throw sysError(sent, `writing bytes ${start} to ${end} of ${bytes.length}`);
  }

  receive(into: Uint8Array, start: number, end: number, _fds: OwnedFd[]): number {
    const { fd, isSocket, watch } = this.#input;
    if (start >= end) throw new VfioError('EINVAL', `receiving into bytes ${start} to ${end}`);
    unwanted[0] = 0;
    const received = isSocket ? this.#sys.recvmsg(fd.number, into, start, end, unwanted) : this.#sys.read(fd.number, into, start, end);
    for (let i = unwanted[0]; i > 0; i--) this.#sys.close(unwanted[i]!);
    if (received > 0) return received;
    if (received === -Errno.EAGAIN) return WOULD_BLOCK;
    if (received < 0) throw sysError(received, `reading into bytes ${start} to ${end} of ${into.length}`);
    watch.stopListening();
    return END_OF_STREAM;
  }

  wait(what: 'readable' | 'writable', timeoutMs: number): boolean {
    return what === 'readable' ? waitFor(this.#input.fd, Sys.POLLIN, timeoutMs) : waitFor(this.#output.fd, Sys.POLLOUT, timeoutMs);
  }

  listen(onReadable: () => boolean, options?: ListenOptions): Disposable {
    return this.#input.watch.listen(onReadable, options);
  }

  onWritable(callback: () => void): Disposable {
    return this.#output.watch.onWritable(callback);
  }

  othersWait(): boolean {
    return this.#sys.watchOthers(this.#input.fd.number) !== 0;
  }

  [Symbol.dispose](): void {
    for (const { fd, watch } of [this.#input, this.#output]) {
      if (fd.closed) continue;
      watch[Symbol.dispose]();
      fd[Symbol.dispose]();
    }
  }
}

function endOf(fd: OwnedFd): End {
  return { fd, watch: new FdWatch(fd), isSocket: addon().getsockopt(fd.number, Sys.SO_TYPE) >= 0 };
}

/**
 * Non-blocking is a property of the open file, which other processes share (the shell has our
 * terminal): so pipes and terminals are opened once more. A socket cannot be opened anew, and need
 * not: its calls say that they must not block. Files never block, and have a position.
 */
function reopen(number: number, access: number): OwnedFd {
  const same = OwnedFd.duplicate(number);
  const kind = fstatSync(same.number);
  if (!kind.isFIFO() && !kind.isCharacterDevice()) return same;
  try {
    const again = OwnedFd.own(
      openSync(`/proc/self/fd/${same.number}`, access | constants.O_NONBLOCK | constants.O_NOCTTY),
      'opening a pipe',
    );
    same[Symbol.dispose]();
    return again;
  } catch {
    // A pipe of another user (sudo), or one whose other end is gone: processes that share it see
    // the change.
    const flags = addon().fcntl(same.number, Sys.F_GETFL, 0);
    addon().fcntl(same.number, Sys.F_SETFL, flags | Sys.O_NONBLOCK);
    return same;
  }
}
