/**
 * Two ends of a byte stream without a kernel. They treat bytes and descriptors as UNIX sockets do,
 * deterministically, with limits that a test sets. Listeners are called from microtasks.
 */
import { VfioError } from '../../src/base/errno.ts';
import { type ByteStream, END_OF_STREAM, type ListenOptions, WOULD_BLOCK } from '../../src/sys/byte-stream.ts';
import type { OwnedFd } from '../../src/sys/owned-fd.ts';

export interface MemoryStreamOptions {
  /** Bytes that one direction holds. Default: 212992, as Linux's sockets do. */
  readonly capacity?: number;
  /** Bytes taken by one `send`, given by one `receive`, at most. */
  readonly maxSend?: number;
  readonly maxReceive?: number;
  readonly carriesFds?: boolean;
}

interface Chunk {
  readonly bytes: Uint8Array;
  at: number;
  fds: OwnedFd[];
}

export class MemoryStream implements ByteStream {
  readonly carriesFds: boolean;
  readonly #options: MemoryStreamOptions;
  #peer: MemoryStream | null = null;
  readonly #chunks: Chunk[] = [];
  #held = 0;
  #ended = false;
  #closed = false;
  #listener: (() => boolean) | null = null;
  #scheduled = false;
  #writable: (() => void)[] = [];
  /** Calls of `send` that took bytes. */
  sends = 0;

  private constructor(options: MemoryStreamOptions) {
    this.#options = options;
    this.carriesFds = options.carriesFds ?? true;
  }

  static pair(options: MemoryStreamOptions = {}): [MemoryStream, MemoryStream] {
    const a = new MemoryStream(options);
    const b = new MemoryStream(options);
    a.#peer = b;
    b.#peer = a;
    return [a, b];
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Bytes that wait here to be received. */
  get held(): number {
    return this.#held;
  }

  get listening(): boolean {
    return this.#listener !== null;
  }

  send(bytes: Uint8Array, start: number, end: number, fds: readonly OwnedFd[] = []): number {
    this.#checkOpen();
    const peer = this.#peer!;
    if (peer.#closed) throw new VfioError('EPIPE', 'the other end is closed');
    if (start < 0 || end > bytes.length || start > end) throw new VfioError('EINVAL', `bytes ${start} to ${end} of ${bytes.length}`);
    if (fds.length > 0 && (start === end || !this.carriesFds)) throw new VfioError('EINVAL', 'descriptors cannot go');
    const room = (this.#options.capacity ?? 212_992) - peer.#held;
    const taken = Math.min(end - start, room, this.#options.maxSend ?? Number.POSITIVE_INFINITY);
    if (taken <= 0) return start === end ? 0 : WOULD_BLOCK;
    this.sends++;
    peer.#chunks.push({ bytes: bytes.slice(start, start + taken), at: 0, fds: fds.map((fd) => fd.duplicate()) });
    peer.#held += taken;
    peer.#schedule();
    return taken;
  }

  receive(into: Uint8Array, start: number, end: number, fds: OwnedFd[]): number {
    this.#checkOpen();
    if (start < 0 || end > into.length || start >= end) throw new VfioError('EINVAL', `bytes ${start} to ${end} of ${into.length}`);
    const room = Math.min(end - start, this.#options.maxReceive ?? Number.POSITIVE_INFINITY);
    let got = 0;
    for (let chunk = this.#chunks[0]; chunk !== undefined && got < room; chunk = this.#chunks[0]) {
      const carried = chunk.fds.length > 0;
      fds.push(...chunk.fds.splice(0));
      const count = Math.min(room - got, chunk.bytes.length - chunk.at);
      into.set(chunk.bytes.subarray(chunk.at, chunk.at + count), start + got);
      chunk.at += count;
      got += count;
      if (chunk.at === chunk.bytes.length) this.#chunks.shift();
      if (carried) break;
    }
    this.#held -= got;
    if (got > 0) this.#peer!.#roomMade();
    return got > 0 ? got : this.#ended ? END_OF_STREAM : WOULD_BLOCK;
  }

  wait(what: 'readable' | 'writable'): boolean {
    return what === 'readable' ? this.#held > 0 || this.#ended : this.#peer!.#held < (this.#options.capacity ?? 212_992);
  }

  listen(onReadable: () => boolean, _options?: ListenOptions): Disposable {
    this.#checkOpen();
    if (this.#listener !== null) throw new VfioError('EBUSY', 'the stream has a listener already');
    this.#listener = onReadable;
    this.#schedule();
    return {
      [Symbol.dispose]: () => {
        if (this.#listener === onReadable) this.#listener = null;
      },
    };
  }

  onWritable(callback: () => void): Disposable {
    this.#checkOpen();
    this.#writable.push(callback);
    return {
      [Symbol.dispose]: () => {
        this.#writable = this.#writable.filter((each) => each !== callback);
      },
    };
  }

  /** Send nothing more: the other end reads to the end of the stream. */
  end(): void {
    this.#peer!.#ended = true;
    this.#peer!.#schedule();
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#listener = null;
    for (const { fds } of this.#chunks.splice(0)) for (const fd of fds) fd[Symbol.dispose]();
    this.#held = 0;
    this.end();
    this.#peer!.#roomMade();
  }

  #checkOpen(): void {
    if (this.#closed) throw new VfioError('EBADF', 'the stream is closed');
  }

  #schedule(): void {
    if (this.#scheduled || this.#listener === null || (this.#held === 0 && !this.#ended)) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      if (this.#listener === null || (this.#held === 0 && !this.#ended)) return;
      this.#listener();
      this.#schedule();
    });
  }

  #roomMade(): void {
    for (const callback of this.#writable.splice(0)) queueMicrotask(callback);
  }
}
