/**
 * Messages into a byte stream. They are built in place, in the buffer they are sent from, and
 * several that are ready go out in one system call. Bytes that the kernel has no room for stay
 * queued, and go when it has room. The owner looks at `queued` to know when to stop making more.
 *
 *     const at = writer.begin(HEADER_BYTES + 16);
 *     Header.encode(writer.view, at, {...});
 *     writer.commit(HEADER_BYTES + 16);
 *     writer.flush();
 */
import type { ByteStream } from '../sys/byte-stream.ts';
import type { OwnedFd } from '../sys/owned-fd.ts';
import { closeAll } from './frames.ts';

/** Sees the messages of a writer. */
export interface WriterWatch {
  /** Whether it wants to: asked before each message. */
  readonly on: boolean;
  /** A message of `size` bytes at `at` of the writer's buffer, with `fds` descriptors. */
  committed(writer: FrameWriter, at: number, size: number, fds: number): void;
}

export interface FrameWriterOptions {
  readonly watch?: WriterWatch;
  /** Called from the event loop when everything that had to wait is gone. */
  readonly onDrained?: () => void;
  /** Called when the stream fails outside of any call. */
  readonly onError?: (error: unknown) => void;
  /** Default: 64 KiB. Grows as needed, and shrinks when drained if it has passed `keepBytes`. */
  readonly bufferBytes?: number;
  readonly keepBytes?: number;
}

interface Cargo {
  /** Stream positions of the message they go with. */
  readonly at: number;
  readonly end: number;
  readonly fds: readonly OwnedFd[];
}

export class FrameWriter implements Disposable {
  readonly #stream: ByteStream;
  readonly #options: FrameWriterOptions;
  readonly #watch: WriterWatch | null;
  readonly #initialBytes: number;
  readonly #keepBytes: number;
  /** The buffer that `begin` points into. A new one after the next `begin`. */
  bytes: Uint8Array<ArrayBuffer>;
  view: DataView<ArrayBuffer>;
  /** [head, tail) is committed and not sent. */
  #head = 0;
  #tail = 0;
  /** Stream position of `bytes[0]`. */
  #base = 0;
  readonly #cargo: Cargo[] = [];
  #waiting: Disposable | null = null;
  #closed = false;
  /** Set by the owner while it answers a message here: others put nothing in between. */
  answering = false;

  constructor(stream: ByteStream, options: FrameWriterOptions = {}) {
    this.#stream = stream;
    this.#options = options;
    this.#watch = options.watch ?? null;
    this.#initialBytes = options.bufferBytes ?? 65536;
    this.#keepBytes = options.keepBytes ?? 4 * 2 ** 20;
    this.bytes = new Uint8Array(this.#initialBytes);
    this.view = new DataView(this.bytes.buffer);
  }

  /** Bytes committed and not sent. */
  get queued(): number {
    return this.#tail - this.#head;
  }

  /** Bytes sent so far. */
  get sent(): number {
    return this.#base + this.#head;
  }

  /** The kernel has no room: what is queued goes when it has. */
  get blocked(): boolean {
    return this.#waiting !== null;
  }

  /**
   * Room for a message of `size` bytes: where in `bytes` it starts. Valid until the next `begin`;
   * nothing is sent before `commit`.
   */
  begin(size: number): number {
    if (this.bytes.length - this.#tail < size) this.#makeRoom(size);
    return this.#tail;
  }

  /**
   * Completes the message that `begin` made room for, of `size` bytes. The writer owns the
   * descriptors, and closes them once they are sent.
   */
  commit(size: number, fds?: readonly OwnedFd[]): void {
    if (this.#closed) {
      if (fds !== undefined) closeAll(fds);
      return;
    }
    if (this.#watch?.on === true) this.#watch.committed(this, this.#tail, size, fds?.length ?? 0);
    const at = this.#base + this.#tail;
    this.#tail += size;
    if (fds !== undefined && fds.length > 0) this.#cargo.push({ at, end: at + size, fds });
  }

  /**
   * Sends what is committed. False when some of it has to wait.
   * @throws what `ByteStream.send` throws: the peer is gone
   */
  flush(): boolean {
    if (this.#waiting !== null) return false;
    while (this.#head < this.#tail) {
      if (this.#cargo.length === 0 ? !this.#send(this.#tail, null) : !this.#sendCargo()) {
        this.#waiting = this.#stream.onWritable(() => this.#writable());
        return false;
      }
    }
    if (this.#tail !== 0) this.#rewind();
    return true;
  }

  /**
   * Forgets what is queued and closes its descriptors. The stream belongs to its owner. Idempotent.
   */
  [Symbol.dispose](): void {
    this.#closed = true;
    this.#waiting?.[Symbol.dispose]();
    this.#waiting = null;
    for (const { fds } of this.#cargo.splice(0)) closeAll(fds);
    this.#rewind();
  }

  #send(end: number, fds: readonly OwnedFd[] | null): boolean {
    const stream = this.#stream;
    const taken = fds === null ? stream.send(this.bytes, this.#head, end) : stream.send(this.bytes, this.#head, end, fds);
    if (taken < 0) return false;
    this.#head += taken;
    return true;
  }

  /**
   * A message with descriptors goes in a call of its own, so that a peer that reads headers first
   * gets them with the right one.
   */
  #sendCargo(): boolean {
    const cargo = this.#cargo[0]!;
    if (this.#base + this.#head < cargo.at) return this.#send(cargo.at - this.#base, null);
    if (!this.#send(cargo.end - this.#base, cargo.fds)) return false;
    this.#cargo.shift();
    closeAll(cargo.fds);
    return true;
  }

  #writable(): void {
    this.#waiting = null;
    if (this.#closed) return;
    try {
      if (this.flush()) this.#options.onDrained?.();
    } catch (error) {
      if (this.#options.onError === undefined) throw error;
      this.#options.onError(error);
    }
  }

  #rewind(): void {
    this.#base += this.#tail;
    this.#head = 0;
    this.#tail = 0;
    if (this.bytes.length > this.#keepBytes) this.#resize(this.#initialBytes);
  }

  #makeRoom(size: number): void {
    const queued = this.#tail - this.#head;
    const needed = queued + size;
    this.#base += this.#head;
    if (needed > this.bytes.length) {
      const old = this.bytes.subarray(this.#head, this.#tail);
      this.#resize(Math.max(2 * this.bytes.length, needed));
      this.bytes.set(old);
    } else this.bytes.copyWithin(0, this.#head, this.#tail);
    this.#head = 0;
    this.#tail = queued;
  }

  #resize(bytes: number): void {
    this.bytes = new Uint8Array(bytes);
    this.view = new DataView(this.bytes.buffer);
  }
}
