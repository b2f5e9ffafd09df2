/**
 * The server's end of one socket: messages in, replies out, neither side faster than the other.
 * While more replies wait than allowed, the server reads nothing. When they have gone it goes on,
 * beginning with what had arrived.
 *
 * A client that floods leaves room for the others of its thread: when its messages have taken
 * SLICE_NS and anything else waits, the rest of them waits for the next turn of the event loop.
 */
import type { Clock } from '../../base/clock.ts';
import { VfioError } from '../../base/errno.ts';
import { type ByteStream, END_OF_STREAM } from '../../sys/byte-stream.ts';
import { FrameWriter } from '../frame-writer.ts';
import { FrameReader, OVERHEAD_BYTES } from '../frames.ts';
import type { ServerLimits } from '../limits.ts';
import { MessageSizes } from '../message-sizes.ts';
import type { SocketEvents } from './socket-events.ts';

/**
 * While a batch of messages is done, the server sends its replies when there are so many bytes of
 * them.
 */
const FLUSH_BYTES = 256 * 1024;

/** The time that a client's messages take at once while others wait, and one message more. */
const SLICE_NS = 20_000;
/** Messages between two looks at the clock, at most. */
const STRIDE_MAX = 8;

export interface ServerChannelOptions {
  /** Which of the client's sockets it is, for messages. */
  readonly what: 'connection' | 'twin socket';
  readonly stream: ByteStream;
  readonly limits: ServerLimits;
  readonly clock: Clock;
  readonly keepAlive: boolean;
  readonly events: SocketEvents;
  /** The current message of `reader`. */
  readonly onMessage: () => void;
  /** Everything that waited for the peer to take it has gone. */
  readonly onDrained: () => void;
  /** Something waits for the peer: ask `overdue` now and then, until nothing waits. */
  readonly onWaiting: () => void;
  /** The stream is at its end (a VfioError), or an error came that is no errno. */
  readonly onLost: (error: unknown) => void;
}

export class ServerChannel implements Disposable {
  readonly stream: ByteStream;
  readonly reader: FrameReader;
  readonly writer: FrameWriter;
  readonly events: SocketEvents;
  readonly #options: ServerChannelOptions;
  #listening: Disposable | null = null;
  #started = false;
  #closed = false;
  /** The messages that have arrived wait for their next turn. */
  #turn: NodeJS.Immediate | null = null;
  #sliceNs = 0;
  #lookedNs = 0;
  #stride = 1;
  /** Bytes of replies that wait for something other than the stream. */
  #heldBytes = 0;
  #partialSinceNs = -1;
  /** Where in the stream that message starts. */
  #partialAt = 0;
  #blockedSinceNs = -1;
  /** The last value of `writer.sent` that `overdue` saw. */
  #sentThen = 0;

  constructor(options: ServerChannelOptions) {
    const { stream, limits } = options;
    this.#options = options;
    this.stream = stream;
    if (stream.spins !== undefined) stream.spins = limits.spin;
    this.events = options.events;
    const sizes = new MessageSizes(limits.maxDataBytes);
    this.reader = new FrameReader(stream, { maxMessageBytes: limits.maxDataBytes + OVERHEAD_BYTES, sizes, maxFds: limits.maxMsgFds });
    this.writer = new FrameWriter(stream, {
      watch: options.events,
      onDrained: () => this.#drained(),
      onError: options.onLost,
    });
  }

  start(): void {
    this.#started = true;
    this.#listening = this.stream.listen(() => this.#readable(), { keepAlive: this.#options.keepAlive });
  }

  /** A reply of `bytes` waits; negative when it waits no longer. */
  hold(bytes: number): void {
    this.#heldBytes += bytes;
    if (bytes < 0) this.#goOn();
  }

  /**
   * Sends what is in the writer, from outside of `onMessage`. Reports a failure of the stream to
   * `onLost`.
   */
  send(): void {
    if (this.#closed || this.writer.blocked) return;
    try {
      this.#flush();
    } catch (error) {
      this.#options.onLost(error);
    }
  }

  /** The peer's delay that is too long, in words; null when there is none. */
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
    if (this.#turn !== null) clearImmediate(this.#turn);
    this.#stopListening();
    for (const each of [this.writer, this.reader, this.stream]) each[Symbol.dispose]();
  }

  #readable(): boolean {
    if (this.#turn !== null) return true;
    try {
      const got = this.reader.fill();
      if (got === END_OF_STREAM) throw new VfioError('ECONNRESET', `it closed the ${this.#options.what}`);
      if (got > 0) this.#work();
    } catch (error) {
      this.#options.onLost(error);
    }
    return this.#listening !== null;
  }

  /** Does what has arrived, as far as the peer takes the replies. */
  #work(): void {
    // A batch that stopped may go on at once when the stream took everything.
    while (!this.#batch() && !this.#mustWait());
    if (this.#closed || this.#turn !== null) return;
    // While the server does not read, the rest of a message is late by the server's doing.
    if (!this.reader.partial || this.#mustWait()) this.#partialSinceNs = -1;
    else if (this.#partialSinceNs < 0 || this.#partialAt !== this.reader.position) {
      // A client that never pauses leaves a part of another message behind each time.
      this.#partialSinceNs = this.#options.clock.nowNs();
      this.#partialAt = this.reader.position;
      this.#options.onWaiting();
    }
    if (this.#mustWait()) this.#stopListening();
  }

  /** False when it stopped because too much waits. */
  #batch(): boolean {
    const { reader, writer, events } = this;
    const { onMessage } = this.#options;
    let all = true;
    let done = 0;
    let look = 1;
    while (!this.#closed) {
      if (this.#mustWait()) {
        all = false;
        break;
      }
      if (done === look) {
        if (this.#othersTurn(done === 1)) break;
        look += this.#stride;
      }
      if (!reader.next()) break;
      done++;
      writer.answering = true;
      if (events.on) events.received(reader, onMessage);
      else onMessage();
      writer.answering = false;
      if (writer.queued > FLUSH_BYTES) this.#flush();
    }
    if (this.#closed) return true;
    if (writer.queued > 0) this.#flush();
    return all;
  }

  /**
   * Whether it is the turn of others, after a message of this client.
   * @param begin  its slice begins
   */
  #othersTurn(begin: boolean): boolean {
    const now = this.#options.clock.nowNs();
    // Quick messages are looked at less often.
    this.#stride = begin || now - this.#lookedNs > SLICE_NS / 4 ? 1 : Math.min(2 * this.#stride, STRIDE_MAX);
    this.#lookedNs = now;
    if (begin) this.#sliceNs = now;
    if (now - this.#sliceNs < SLICE_NS) return false;
    this.#sliceNs = now;
    if (this.stream.othersWait?.() !== true) return false;
    this.#turn = setImmediate(() => this.#takeTurn());
    return true;
  }

  #takeTurn(): void {
    this.#turn = null;
    // Else the stream goes on with them when the peer has taken its replies.
    if (this.#listening === null) return;
    try {
      this.#work();
    } catch (error) {
      this.#options.onLost(error);
    }
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

  /** Reads again, beginning with what had arrived when reading stopped. */
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
