/**
 * Frames over a stream, in both directions. A sender waits while the peer takes nothing, a receiver
 * waits while nothing comes, and neither waits for ever.
 */
import { Errno, type ErrnoName, errnoName, VfioError } from '../../base/errno.ts';
import { type ByteStream, END_OF_STREAM, WOULD_BLOCK } from '../../sys/byte-stream.ts';
import type { OwnedFd } from '../../sys/owned-fd.ts';
import { closeAll } from '../../vfio-user/frames.ts';
import { decodeJson, encodeJson, type Frame, frameSize, HEAD_BYTES, Kind, kindName, openFrame, PAYLOAD_MAX, sealFrame } from './frames.ts';

/** A peer that takes nothing for this time is gone. */
const STALL_MS = 30_000;
/** The time after which other clients of this thread get a turn, however fast the peer is. */
const TURN_MS = 5;
/** The time that the peer has to read the reason of an end. */
const HEARD_MS = 2000;
const BUFFER_BYTES = 2 * (HEAD_BYTES + PAYLOAD_MAX);
/** The most characters of a peer's text in a message. */
const TOLD_CHARS = 500;

export class Link implements Disposable {
  /** Frames sent, and bytes of their payloads. */
  framesSent = 0;
  bytesSent = 0;
  readonly #stream: ByteStream;
  readonly #out = new Uint8Array(HEAD_BYTES + PAYLOAD_MAX);
  readonly #in = new Uint8Array(BUFFER_BYTES);
  #start = 0;
  #end = 0;
  #failed: VfioError | null = null;
  #wake: (() => void) | null = null;
  #closed = false;
  #turnMs = performance.now();
  #wantsDescriptor = false;
  #descriptor: OwnedFd | null = null;

  constructor(stream: ByteStream) {
    this.#stream = stream;
  }

  /** From now on every call fails with this error, also calls that wait. */
  fail(error: VfioError): void {
    this.#failed ??= error;
    this.#wake?.();
  }

  /** From now on one descriptor of the peer is kept. All others are closed as they arrive. */
  wantDescriptor(): void {
    this.#wantsDescriptor = true;
  }

  /**
   * The descriptor that came, which is the caller's then.
   *
   * @throws VfioError EPROTO when none came
   */
  takeDescriptor(): OwnedFd {
    const taken = this.#descriptor;
    this.#descriptor = null;
    if (taken === null) throw new VfioError('EPROTO', 'the frame came without its descriptor');
    return taken;
  }

  /**
   * Send a frame: the parts one after the other. When the call throws, the peer has not received
   * the whole frame.
   *
   * @throws VfioError (rejects) EPIPE, ECONNRESET when the peer is gone; ETIMEDOUT when the peer
   *   takes nothing; the error that `fail` got
   */
  async send(kind: Kind, ...parts: readonly Uint8Array[]): Promise<void> {
    await this.#send(kind, parts);
  }

  async #send(kind: Kind, parts: readonly Uint8Array[], descriptors: readonly OwnedFd[] = []): Promise<void> {
    if (performance.now() - this.#turnMs > TURN_MS) await this.#turn();
    let size = 0;
    for (const part of parts) {
      this.#out.set(part, HEAD_BYTES + size);
      size += part.length;
    }
    const end = sealFrame(this.#out, kind, size);
    for (let at = 0; at < end; ) {
      if (this.#failed !== null) throw this.#failed;
      if (this.#closed) throw new VfioError('EBADF', 'the link is closed');
      // The kernel has sent the descriptors with the first byte.
      const sent = this.#push(at, end, at === 0 ? descriptors : []);
      if (sent === WOULD_BLOCK) await this.#wait('writable', STALL_MS, 'the other side accepts no more data');
      else at += sent;
    }
    this.framesSent++;
    this.bytesSent += size;
  }

  #push(at: number, end: number, descriptors: readonly OwnedFd[]): number {
    try {
      return this.#stream.send(this.#out, at, end, descriptors);
    } catch (cause) {
      if (!(cause instanceof VfioError) || cause.code !== 'EPIPE') throw cause;
      throw new VfioError('EPIPE', 'the other side has closed the connection', { cause });
    }
  }

  async sendJson(kind: Kind, body: object): Promise<void> {
    await this.send(kind, encodeJson(body));
  }

  /** As `sendJson`, with a descriptor, which stays the caller's as well. */
  async sendDescriptor(kind: Kind, body: object, descriptor: OwnedFd): Promise<void> {
    await this.#send(kind, [encodeJson(body)], [descriptor]);
  }

  /**
   * The next frame, once it has arrived. An ABORT is thrown as the error that it carries.
   *
   * @param timeoutMs Infinity: as long as the other side is there
   * @throws VfioError (rejects) ECONNRESET at the end of the stream; ETIMEDOUT; EPROTO; the error
   *   that `fail` got
   */
  async receive(timeoutMs: number): Promise<Frame> {
    if (performance.now() - this.#turnMs > TURN_MS) await this.#turn();
    for (;;) {
      const frame = this.poll();
      if (frame !== null) return frame;
      await this.#wait('readable', timeoutMs, 'the other side says nothing any more');
    }
  }

  /**
   * The next frame, which must be of this kind.
   *
   * @throws VfioError (rejects) EPROTO for any other kind; as `receive`
   */
  async expect(kind: Kind, timeoutMs: number): Promise<Record<string, unknown>> {
    const frame = await this.receive(timeoutMs);
    if (frame.kind !== kind) throw new VfioError('EPROTO', `${kindName(frame.kind)} came in place of ${kindName(kind)}`);
    return decodeJson(frame);
  }

  /**
   * The next frame if it has arrived already.
   *
   * @throws VfioError as `receive`
   */
  poll(): Frame | null {
    for (;;) {
      if (this.#failed !== null) throw this.#failed;
      if (this.#closed) throw new VfioError('EBADF', 'the link is closed');
      const size = frameSize(this.#in, this.#start, this.#end);
      if (size > 0 && this.#end - this.#start >= size) {
        const frame = openFrame(this.#in, this.#start, size);
        this.#start += size;
        if (frame.kind === Kind.ABORT) throw refusal(frame);
        return frame;
      }
      if (this.#start > 0) {
        this.#in.copyWithin(0, this.#start, this.#end);
        this.#end -= this.#start;
        this.#start = 0;
      }
      const fds: OwnedFd[] = [];
      const got = this.#stream.receive(this.#in, this.#end, this.#in.length, fds);
      if (this.#wantsDescriptor && this.#descriptor === null) this.#descriptor = fds.shift() ?? null;
      closeAll(fds);
      if (got === WOULD_BLOCK) return null;
      if (got === END_OF_STREAM) throw new VfioError('ECONNRESET', 'the other side has closed the connection');
      this.#end += got;
    }
  }

  async #wait(what: 'readable' | 'writable', timeoutMs: number, late: string): Promise<void> {
    const { promise, resolve } = withResolvers();
    const passed = () => {
      this.#failed ??= new VfioError('ETIMEDOUT', late);
      resolve();
    };
    const timer = timeoutMs === Number.POSITIVE_INFINITY ? undefined : setTimeout(passed, timeoutMs);
    const ready = () => {
      resolve();
      return false;
    };
    const listening = what === 'readable' ? this.#stream.listen(ready, { keepAlive: true }) : this.#stream.onWritable(ready);
    this.#wake = resolve;
    await promise;
    this.#wake = null;
    clearTimeout(timer);
    listening[Symbol.dispose]();
  }

  async #turn(): Promise<void> {
    await new Promise<void>((resolve) => setImmediate(resolve));
    this.#turnMs = performance.now();
  }

  /** Send the reason of the end to the other side, if it still listens. */
  async abort(error: VfioError): Promise<void> {
    this.#failed = null;
    // The limit is for the whole wait: a peer that sends a byte from time to time cannot keep the
    // connection open.
    const timer = setTimeout(() => this.fail(new VfioError('ETIMEDOUT', 'the other side does not end')), HEARD_MS);
    try {
      await this.sendJson(Kind.ABORT, { code: error.code, message: error.message, ...(error.fix === undefined ? {} : { fix: error.fix }) });
      // The stream stays open until the peer has read the reason. Closed earlier, it would answer
      // data of the peer with a reset, and the reset overtakes the reason.
      const end = performance.now() + HEARD_MS;
      for (let left = HEARD_MS; left > 0; left = end - performance.now()) await this.receive(left);
    } catch {
      // The peer does not listen, or is gone by now.
    } finally {
      clearTimeout(timer);
    }
  }

  /** The stream is closed, and every call that waits fails. Idempotent. */
  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#wake?.();
    this.#descriptor?.[Symbol.dispose]();
    this.#stream[Symbol.dispose]();
  }
}

/** The other side has sent ABORT: it holds nothing of the device. */
export class Refused extends VfioError {}

/** The content of an ABORT, as an error. */
export function refusal(frame: Frame): Refused {
  const { code, message, fix } = decodeJson(frame);
  const known = typeof code === 'string' && Object.hasOwn(Errno, code) ? (code as ErrnoName) : (errnoName(Errno.EIO) ?? 'EIO');
  const told = (value: unknown): string | undefined =>
    typeof value === 'string' ? value.slice(0, TOLD_CHARS).replace(/\p{Cc}/gu, ' ') : undefined;
  const what = told(fix);
  return new Refused(known, told(message) ?? 'the other side gave up', what === undefined ? {} : { fix: what });
}

function withResolvers(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve = (): void => {};
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
