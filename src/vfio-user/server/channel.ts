/**
 * The server's end of one socket: messages in, replies out, neither side faster than the other. While more replies wait than allowed nothing is
 * read, and reading goes on, beginning with what had arrived, when they have gone.
 */
import type { Clock } from '../../base/clock.ts';
import { VfioError } from '../../base/errno.ts';
import { type ByteStream, END_OF_STREAM } from '../../sys/byte-stream.ts';
import { FrameWriter } from '../frame-writer.ts';
import { FrameReader, OVERHEAD_BYTES } from '../frames.ts';
import type { ServerLimits } from '../limits.ts';
import { MessageSizes } from '../message-sizes.ts';

/** While a batch of messages is done, replies go out when there are so many bytes of them. */
const FLUSH_BYTES = 256 * 1024;

export interface ServerChannelOptions {
  /** For messages: which of the client's sockets it is. */
  readonly what: 'connection' | 'twin socket';
  readonly stream: ByteStream;
  readonly limits: ServerLimits;
  readonly clock: Clock;
  readonly keepAlive: boolean;
  /** The current message of `reader`. */
  readonly onMessage: () => void;
  /** Everything that waited for the peer to take it has gone. */
  readonly onDrained: () => void;
  /** Something waits for the peer: ask `overdue` now and then, until it says that nothing does. */
  readonly onWaiting: () => void;
  /** The stream is at its end (a VfioError), or something failed that is nobody's errno. */
  readonly onLost: (error: unknown) => void;
}

export class ServerChannel implements Disposable {
  readonly stream: ByteStream;
  readonly reader: FrameReader;
  readonly writer: FrameWriter;
  readonly #options: ServerChannelOptions;
  #listening: Disposable | null = null;
  #started = false;
  #closed = false;
  /** Bytes of replies that wait for something else than the stream. */
  #heldBytes = 0;
  #partialSinceNs = -1;
  /** Where in the stream that message starts. */
  #partialAt = 0;
  #blockedSinceNs = -1;
  /** `writer.sent` when it was looked at last. */
  #sentThen = 0;

  constructor(options: ServerChannelOptions) {
    const { stream, limits } = options;
    this.#options = options;
    this.stream = stream;
    const sizes = new MessageSizes(limits.maxDataBytes);
    this.reader = new FrameReader(stream, { maxMessageBytes: limits.maxDataBytes + OVERHEAD_BYTES, sizes, maxFds: limits.maxMsgFds });
    this.writer = new FrameWriter(stream, { onDrained: () => this.#drained(), onError: options.onLost });
  }

  start(): void {
    this.#started = true;
    this.#listening = this.stream.listen(() => this.#readable(), { keepAlive: this.#options.keepAlive });
  }

  /** A reply of `bytes` waits; negative when it does no more. */
  hold(bytes: number): void {
    this.#heldBytes += bytes;
    if (bytes < 0) this.#goOn();
  }

  /** Send what is in the writer, from outside of `onMessage`. Whatever is wrong with the stream is told to `onLost`. */
  send(): void {
    if (this.#closed || this.writer.blocked) return;
    try {
      this.#flush();
    } catch (error) {
      this.#options.onLost(error);
    }
  }

  /** What the peer keeps us waiting for, for too long; null when there is nothing of the kind. */
  overdue(nowNs: number): string | null {
    const { limits } = this.#options;
    if (this.#blockedSinceNs >= 0 && this.writer.sent !== this.#sentThen) {
      this.#blockedSinceNs = nowNs;
      this.#sentThen = this.writer.sent;
    }
    const over = (sinceNs: number, ms: number): boolean => sinceNs >= 0 && nowNs - sinceNs >= ms * 1e6;
    if (over(this.#partialSinceNs, limits.messageTimeoutMs)) return 'it stopped in the middle of a message';
    if (over(this.#blockedSinceNs, limits.stallTimeoutMs)) return 'it does not take its replies';
    return null;
  }

  /** Whether anything waits for the peer. */
  get waiting(): boolean {
    return this.#partialSinceNs >= 0 || this.#blockedSinceNs >= 0;
  }

  /** The stream is closed too. Idempotent. */
  [Symbol.dispose](): void {
    this.#closed = true;
    this.#stopListening();
    for (const each of [this.writer, this.reader, this.stream]) each[Symbol.dispose]();
  }

  #readable(): boolean {
    try {
      const got = this.reader.fill();
      if (got === END_OF_STREAM) throw new VfioError('ECONNRESET', `it closed the ${this.#options.what}`);
      if (got > 0) this.#work();
    } catch (error) {
      this.#options.onLost(error);
    }
    return this.#listening !== null;
  }

  /** Do what has arrived, as far as the peer takes what we answer. */
  #work(): void {
    // A batch that stopped may go on at once when the stream took everything.
    while (!this.#batch() && !this.#mustWait());
    if (this.#closed) return;
    // While reading has stopped nothing can be said of the rest of a message: it is we who do not take it.
    if (!this.reader.partial || this.#mustWait()) this.#partialSinceNs = -1;
    else if (this.#partialSinceNs < 0 || this.#partialAt !== this.reader.position) {
      // A client that never pauses leaves a part of a message behind each time, of another one.
      this.#partialSinceNs = this.#options.clock.nowNs();
      this.#partialAt = this.reader.position;
      this.#options.onWaiting();
    }
    if (this.#mustWait()) this.#stopListening();
  }

  /** False when it stopped because too much waits. */
  #batch(): boolean {
    const { reader, writer } = this;
    let all = true;
    while (!this.#closed) {
      if (this.#mustWait()) {
        all = false;
        break;
      }
      if (!reader.next()) break;
      this.#options.onMessage();
      if (writer.queued > FLUSH_BYTES) this.#flush();
    }
    if (this.#closed) return true;
    if (writer.queued > 0) this.#flush();
    return all;
  }

  #mustWait(): boolean {
    return this.writer.queued + this.#heldBytes > this.#options.limits.maxQueuedBytes;
  }

  #flush(): void {
    if (this.writer.flush() || this.#blockedSinceNs >= 0) return;
    this.#blockedSinceNs = this.#options.clock.nowNs();
    this.#sentThen = this.writer.sent;
    this.#options.onWaiting();
  }

  #drained(): void {
    this.#blockedSinceNs = -1;
    this.#options.onDrained();
    this.#goOn();
  }

  /** Read again, beginning with what had arrived when reading stopped. */
  #goOn(): void {
    if (this.#closed || !this.#started || this.#listening !== null || this.#mustWait()) return;
    try {
      this.#work();
      if (!this.#closed && !this.#mustWait()) this.start();
    } catch (error) {
      this.#options.onLost(error);
    }
  }

  #stopListening(): void {
    this.#listening?.[Symbol.dispose]();
    this.#listening = null;
  }
}
