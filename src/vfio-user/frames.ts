/**
 * Messages out of a byte stream. The reader puts partial reads together, checks a message's size
 * before it keeps a byte of the body, and gives each descriptor to the message it came with. One
 * `fill` is one system call; `next` only looks at what is there: while (reader.fill() > 0) while
 * (reader.next()) handle(reader);
 */
import { HEADER_BYTES } from '../abi/vfio-user.ts';
import type { ByteStream } from '../sys/byte-stream.ts';
import type { OwnedFd } from '../sys/owned-fd.ts';

/** Bytes of a message besides its data, at most: header, fields, capabilities. */
export const OVERHEAD_BYTES = 4096;

export interface FrameReaderOptions {
  /**
   * A larger message, header included, is not kept: the reader gives its header (`oversize`) and
   * drops its body as it arrives.
   */
  readonly maxMessageBytes: number;
  /**
   * The size that the message whose header is at `head` may have, when that is less: called again
   * as it arrives.
   */
  readonly sizes?: { most(view: DataView, head: number, have: number): number };
  /**
   * Descriptors that one message may bring; more are closed as they arrive (`tooManyFds`). Default:
   * 253.
   */
  readonly maxFds?: number;
  /** Bytes received at once at most, until a message is larger. Default: 64 KiB. */
  readonly bufferBytes?: number;
}

interface Delivery {
  /** Where in the stream the message starts that they belong to. */
  readonly at: number;
  readonly fds: OwnedFd[];
  tooMany: boolean;
}

export class FrameReader implements Disposable {
  readonly #stream: ByteStream;
  readonly #maxMessage: number;
  readonly #sizes: FrameReaderOptions['sizes'];
  readonly #maxFds: number;
  /** The buffer that `start` and `size` speak of. A new one after a `fill`. */
  bytes: Uint8Array<ArrayBuffer>;
  view: DataView<ArrayBuffer>;
  /**
   * First byte of the current message, and its length: the header alone when `oversize` or
   * `broken`. Valid until the next `fill`.
   */
  start = 0;
  size = 0;
  /** The message is larger than allowed: this is its header, the rest is dropped. */
  oversize = false;
  /**
   * Its size is less than a header's: this is the header, and what follows is taken for the next
   * message.
   */
  broken = false;
  /** [head, tail) is received and not consumed. */
  #head = 0;
  #tail = 0;
  /** Bytes of an oversize message still to be dropped. */
  #drop = 0;
  /** Stream position of `bytes[0]`. A double: exact for 8 PiB. */
  #base = 0;
  readonly #deliveries: Delivery[] = [];
  readonly #arrived: OwnedFd[] = [];

  constructor(stream: ByteStream, options: FrameReaderOptions) {
    this.#stream = stream;
    this.#maxMessage = options.maxMessageBytes;
    this.#sizes = options.sizes;
    this.#maxFds = options.maxFds ?? 253;
    this.bytes = new Uint8Array(options.bufferBytes ?? 65536);
    this.view = new DataView(this.bytes.buffer);
  }

  /**
   * Whether a message has begun to arrive and is not complete. Meaningful after `next` said false.
   */
  get partial(): boolean {
    return this.#tail > this.#head || this.#drop > 0;
  }

  /**
   * The stream position of the first byte that is not consumed: with `partial`, of the message that
   * is not complete.
   */
  get position(): number {
    return this.#base + this.#head;
  }

  /** Whether the last `fill` took as much as it could: there may be more. */
  full = false;

  /**
   * Receives once. Ends the current message.
   *
   * @returns bytes received, 0 at the end of the stream, -1 when there is nothing now
   * @throws what `ByteStream.receive` throws
   */
  fill(): number {
    this.#consume();
    if (this.#tail === this.bytes.length) this.#makeRoom();
    const from = this.#tail;
    const room = this.bytes.length;
    const got = this.#stream.receive(this.bytes, from, room, this.#arrived);
    this.full = got === room - from;
    if (got <= 0) {
      if (this.#arrived.length > 0) closeAll(this.#arrived.splice(0));
      return got;
    }
    this.#tail += got;
    if (this.#arrived.length > 0) this.#deliver(from);
    if (this.#drop > 0) this.#dropped();
    return got;
  }

  /** Goes on to the next whole message; false when there is none yet. */
  next(): boolean {
    this.#consume();
    const have = this.#tail - this.#head;
    if (have < HEADER_BYTES) return false;
    const head = this.#head;
    const size = this.view.getUint32(head + 4, true);
    const most = this.#sizes === undefined ? this.#maxMessage : Math.min(this.#maxMessage, this.#sizes.most(this.view, head, have));
    if (size <= have && size >= HEADER_BYTES && size <= most) {
      this.start = head;
      this.size = size;
      return true;
    }
    if (size > most) {
      this.oversize = true;
      this.#drop = size - HEADER_BYTES;
    } else if (size < HEADER_BYTES) this.broken = true;
    else return false;
    this.start = head;
    this.size = HEADER_BYTES;
    return true;
  }

  /**
   * Descriptors that came with the current message; the caller owns them. Those that are not taken
   * are closed.
   */
  takeFds(): OwnedFd[] {
    return this.hasFds ? this.#deliveries.shift()!.fds : [];
  }

  get hasFds(): boolean {
    return this.#deliveries.length !== 0 && this.#deliveries[0]!.at === this.#base + this.start;
  }

  /** Descriptors of the current message, taken or not, that came and were not too many. */
  get fdCount(): number {
    return this.hasFds ? this.#deliveries[0]!.fds.length : 0;
  }

  /** The current message brought more descriptors than it may; ask before `takeFds`. */
  get tooManyFds(): boolean {
    return this.hasFds && this.#deliveries[0]!.tooMany;
  }

  /** Closes every descriptor that was not taken. The stream belongs to its owner. Idempotent. */
  [Symbol.dispose](): void {
    for (const { fds } of this.#deliveries.splice(0)) closeAll(fds);
    closeAll(this.#arrived.splice(0));
  }

  /** The current message was handled. */
  #consume(): void {
    if (this.size === 0) return;
    if (this.#deliveries.length !== 0) this.#forgetFds();
    this.#head += this.size;
    this.size = 0;
    if (this.oversize) {
      this.oversize = false;
      this.#dropped();
    }
    this.broken = false;
    if (this.#head === this.#tail) this.#rewind();
  }

  #rewind(): void {
    this.#base += this.#tail;
    this.#head = 0;
    this.#tail = 0;
  }

  #forgetFds(): void {
    const upTo = this.#base + this.start;
    while (this.#deliveries.length !== 0 && this.#deliveries[0]!.at <= upTo) closeAll(this.#deliveries.shift()!.fds);
  }

  /** Skips what has arrived of an oversize message's body. */
  #dropped(): void {
    const gone = Math.min(this.#drop, this.#tail - this.#head);
    this.#drop -= gone;
    this.#head += gone;
    if (this.#head === this.#tail) this.#rewind();
  }

  /**
   * The buffer is full and holds no whole message: moves it to the front, or grows the buffer to
   * the message's size, which is below the maximum.
   */
  #makeRoom(): void {
    const have = this.#tail - this.#head;
    const wanted = have < HEADER_BYTES ? HEADER_BYTES : this.view.getUint32(this.#head + 4, true);
    this.#base += this.#head;
    if (wanted > this.bytes.length) {
      const capacity = Math.max(this.bytes.length * 2, Math.ceil(wanted / 4096) * 4096);
      const larger = new Uint8Array(Math.min(capacity, Math.ceil(this.#maxMessage / 4096) * 4096));
      larger.set(this.bytes.subarray(this.#head, this.#tail));
      this.bytes = larger;
      this.view = new DataView(larger.buffer);
    } else this.bytes.copyWithin(0, this.#head, this.#tail);
    this.#head = 0;
    this.#tail = have;
  }

  /**
   * Gives the descriptors that have just arrived to the last message that starts in [from, tail),
   * or else to the one that was in flight before.
   */
  #deliver(from: number): void {
    const arrived = this.#arrived.splice(0);
    let start = this.#head;
    // The rest of a dropped message belongs to a message that was answered already; a new message
    // may start behind it.
    if (this.#drop > 0) {
      start = from + this.#drop;
      if (start >= this.#tail) {
        closeAll(arrived);
        return;
      }
    }
    for (;;) {
      if (this.#tail - start < HEADER_BYTES) break;
      const next = start + Math.max(HEADER_BYTES, this.view.getUint32(start + 4, true));
      if (next >= this.#tail) break;
      start = next;
    }
    const at = this.#base + start;
    const last = this.#deliveries[this.#deliveries.length - 1];
    const delivery = last !== undefined && last.at === at ? last : { at, fds: [], tooMany: false };
    if (delivery !== last) this.#deliveries.push(delivery);
    const room = this.#maxFds - delivery.fds.length;
    if (arrived.length > room) {
      delivery.tooMany = true;
      closeAll(arrived.splice(room));
    }
    delivery.fds.push(...arrived);
  }
}

export function closeAll(fds: readonly Disposable[]): void {
  for (const fd of fds) fd[Symbol.dispose]();
}
