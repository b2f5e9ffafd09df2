/**
 * Frames over a stream, both ways, for code that waits: what is not taken is not made, what is not
 * there is waited for, and neither for ever.
 */
import { Errno, type ErrnoName, errnoName, VfioError } from '../../base/errno.ts';
import { type ByteStream, END_OF_STREAM, WOULD_BLOCK } from '../../sys/byte-stream.ts';
import type { OwnedFd } from '../../sys/owned-fd.ts';
import { closeAll } from '../../vfio-user/frames.ts';
import { decodeJson, encodeJson, type Frame, frameSize, HEAD_BYTES, Kind, kindName, openFrame, PAYLOAD_MAX, sealFrame } from './frames.ts';

/** A peer that takes nothing for so long is gone. */
const STALL_MS = 30_000;
/**
 * Whoever else is served in this thread gets a turn after so long, however fast the other side is.
 */
const TURN_MS = 5;
/** So long may hearing of an end take. */
const HEARD_MS = 2000;
const BUFFER_BYTES = 2 * (HEAD_BYTES + PAYLOAD_MAX);
/** Of a peer's words in a message of ours. */
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

  constructor(stream: ByteStream) {
    this.#stream = stream;
  }

  /** From now on everything fails with this, also what waits. */
  fail(error: VfioError): void {
    this.#failed ??= error;
    this.#wake?.();
  }

  /**
   * Send a frame: the parts one after the other. When it throws, the peer has not got the whole of
   * it.
   *
   * @throws VfioError (rejects) EPIPE, ECONNRESET when the peer is gone; ETIMEDOUT when it takes
   *   nothing; what `fail` was told
   */
  async send(kind: Kind, ...parts: readonly Uint8Array[]): Promise<void> {
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
      const sent = this.#push(at, end);
      if (sent === WOULD_BLOCK) await this.#wait('writable', STALL_MS, 'the other side takes nothing any more');
      else at += sent;
    }
    this.framesSent++;
    this.bytesSent += size;
  }

  #push(at: number, end: number): number {
    try {
      return this.#stream.send(this.#out, at, end);
    } catch (cause) {
      if (!(cause instanceof VfioError) || cause.code !== 'EPIPE') throw cause;
      throw new VfioError('EPIPE', 'the other side has closed the connection', { cause });
    }
  }

  async sendJson(kind: Kind, body: object): Promise<void> {
    await this.send(kind, encodeJson(body));
  }

  /**
   * The next frame, once it is there. One that says ABORT is thrown as what it says.
   *
   * @throws VfioError (rejects) ECONNRESET at the end of the stream; ETIMEDOUT; EPROTO; what `fail`
   *   was told
   */
  async receive(timeoutMs: number): Promise<Frame> {
    if (performance.now() - this.#turnMs > TURN_MS) await this.#turn();
    for (;;) {
      const frame = this.poll();
      if (frame !== null) return frame;
      await this.#wait('readable', timeoutMs, 'the other side says nothing any more');
    }
  }

  /** One of this kind. @throws VfioError (rejects) EPROTO for any other; as `receive` */
  async expect(kind: Kind, timeoutMs: number): Promise<Record<string, unknown>> {
    const frame = await this.receive(timeoutMs);
    if (frame.kind !== kind) throw new VfioError('EPROTO', `${kindName(frame.kind)} came in place of ${kindName(kind)}`);
    return decodeJson(frame);
  }

  /** The next frame if it is there already. @throws VfioError as `receive` */
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
      closeAll(fds);
      if (got === WOULD_BLOCK) return null;
      if (got === END_OF_STREAM) throw new VfioError('ECONNRESET', 'the other side has closed the connection');
      this.#end += got;
    }
  }

  async #wait(what: 'readable' | 'writable', timeoutMs: number, late: string): Promise<void> {
    const { promise, resolve } = withResolvers();
    const timer = setTimeout(() => {
      this.#failed ??= new VfioError('ETIMEDOUT', late);
      resolve();
    }, timeoutMs);
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

  /** Tell the other side, if it still listens, why this is over. */
  async abort(error: VfioError): Promise<void> {
    this.#failed = null;
    // The limit is for the whole: a peer that sends a byte now and then does not hold the
    // connection for ever.
    const timer = setTimeout(() => this.fail(new VfioError('ETIMEDOUT', 'the other side does not end')), HEARD_MS);
    try {
      await this.sendJson(Kind.ABORT, { code: error.code, message: error.message, ...(error.fix === undefined ? {} : { fix: error.fix }) });
      // Not closed before it was heard: what the other side sends meanwhile would be answered with
      // a reset, which overtakes it.
      const end = performance.now() + HEARD_MS;
      for (let left = HEARD_MS; left > 0; left = end - performance.now()) await this.receive(left);
    } catch {
      // It does not, or is gone now.
    } finally {
      clearTimeout(timer);
    }
  }

  /** The stream is closed; whatever waits fails. Idempotent. */
  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#wake?.();
    this.#stream[Symbol.dispose]();
  }
}

/** The other side has said ABORT: it has nothing, and does nothing. */
export class Refused extends VfioError {}

/** What an ABORT says, as the error that it was. */
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
