/** One of a client's sockets: its reader, and the answers to be sent on it. */
import type { ByteStream } from '../../sys/byte-stream.ts';
import { UnixSocket } from '../../sys/unix-socket.ts';
import { FrameReader } from '../frames.ts';

/** The longest wait in one call. Between two calls the thread can be terminated. */
const WAIT_SLICE_MS = 200;
/**
 * Answers that wait behind a message that the server does not take. With more bytes of them, the
 * client receives nothing.
 */
const QUEUE_BYTES = 4 * 2 ** 20;

export class ClientChannel implements Disposable {
  readonly stream: ByteStream;
  readonly reader: FrameReader;
  /** A message is being sent on it; others wait. */
  busy = false;
  /** Answers that wait, oldest first. */
  readonly queued: Uint8Array[] = [];
  #queuedBytes = 0;
  #answer = new Uint8Array(4096);
  #listening: Disposable | null = null;

  /** Takes `stream` over. */
  constructor(stream: ByteStream, maxMessageBytes: number) {
    this.stream = stream;
    this.reader = new FrameReader(stream, { maxMessageBytes });
  }

  listen(onReadable: () => boolean, keepAlive: boolean): void {
    this.#listening = this.stream.listen(onReadable, { keepAlive });
  }

  /**
   * Blocks until this channel (1) or its twin `other` (2) has something to receive, or both (3).
   * Returns 0 when the time passes first.
   */
  waitWith(other: ClientChannel, timeoutMs: number): number {
    const { stream } = this;
    const twin = other.stream;
    if (!(stream instanceof UnixSocket) || !(twin instanceof UnixSocket)) throw new Error('only sockets have twins');
    const ready = stream.waitEither(twin, Math.max(0, Math.min(timeoutMs, WAIT_SLICE_MS)));
    return ready !== 0 || timeoutMs <= 0 ? ready : waitOn(stream, twin, timeoutMs - WAIT_SLICE_MS);
  }

  /** A buffer of at least `size` bytes for an answer: the same one each time. */
  answerBuffer(size: number): Uint8Array<ArrayBuffer> {
    if (this.#answer.length < size) this.#answer = new Uint8Array(Math.max(size, 2 * this.#answer.length));
    return this.#answer;
  }

  get queueFull(): boolean {
    return this.#queuedBytes >= QUEUE_BYTES;
  }

  queue(bytes: Uint8Array): void {
    this.queued.push(bytes);
    this.#queuedBytes += bytes.length;
  }

  unqueue(): Uint8Array | undefined {
    const bytes = this.queued.shift();
    if (bytes !== undefined) this.#queuedBytes -= bytes.length;
    return bytes;
  }

  [Symbol.dispose](): void {
    this.#listening?.[Symbol.dispose]();
    this.#listening = null;
    this.reader[Symbol.dispose]();
    this.stream[Symbol.dispose]();
  }
}

function waitOn(stream: UnixSocket, twin: UnixSocket, timeoutMs: number): number {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const left = Math.ceil(deadline - performance.now());
    const ready = stream.waitEither(twin, Math.max(0, Math.min(left, WAIT_SLICE_MS)));
    if (ready !== 0 || left <= 0) return ready;
  }
}
