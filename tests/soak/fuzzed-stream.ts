/**
 * One connection that no client would make. Each kind of mistake has its kind of stream. Where a
 * server must answer every message with an errno, the stream checks that: every message gets one
 * answer, in order.
 */
import { HEADER_BYTES, HeaderFlags } from '../../src/abi/vfio-user.ts';
import { VfioError } from '../../src/base/errno.ts';
import type { OwnedFd } from '../../src/sys/owned-fd.ts';
import { UnixSocket } from '../../src/sys/unix-socket.ts';
import { closeAll, FrameReader } from '../../src/vfio-user/frames.ts';
import { Command, encodeMessage, encodeVersion, viewOf } from '../../src/vfio-user/messages.ts';
import type { Random } from './random.ts';
import { type SoundMessage, soundMessage } from './sound-messages.ts';

export const streamKinds = ['random', 'cut', 'flipped', 'descriptors', 'sound', 'twin'] as const;
export type StreamKind = (typeof streamKinds)[number];

/** Files of all kinds, to send with messages. A message may ask for the first two. */
export interface Files {
  readonly memory: OwnedFd;
  readonly eventfd: OwnedFd;
  readonly others: readonly OwnedFd[];
}

const HANG_MS = 120_000;
const POLL_MS = 5;
/** Id of VERSION: no other message has it. */
const HELLO = 0xffff;
const MAX_REPLY_BYTES = 2 ** 26;

export class FuzzedStream implements Disposable {
  readonly #random: Random;
  readonly #files: Files;
  readonly #stream: UnixSocket;
  readonly #reader: FrameReader;
  /** Ids of the next replies; null where the mistakes leave no order. */
  #expected: number[] | null = null;
  #twin: UnixSocket | null = null;
  /** Answers to the server's own commands, to go between two messages. */
  readonly #replies: Uint8Array[] = [];
  #ended = false;
  /** Frames that went out whole, mistakes included. */
  sent = 0;
  answers = 0;

  constructor(path: string, random: Random, files: Files) {
    this.#random = random;
    this.#files = files;
    this.#stream = UnixSocket.connect(path);
    this.#reader = new FrameReader(this.#stream, { maxMessageBytes: MAX_REPLY_BYTES });
  }

  /**
   * @throws Error when the server breaks a rule: an answer without a request, a request without an
   *   answer, or silence
   */
  run(kind: StreamKind, frames: number): void {
    const random = this.#random;
    if (kind !== 'random' || random.once(2)) this.#hello(kind === 'twin');
    if (kind === 'sound' || kind === 'descriptors') this.#expected = [];
    for (let i = 0; i < frames && !this.#ended; i++) this.#frame(kind, i);
    if (this.#expected !== null) {
      while (this.#expected.length > 0 && !this.#ended) {
        this.#sendReplies();
        this.#wait('an answer');
      }
      if (this.#expected.length > 0) throw new Error(`the server hung up on sound messages, ${this.#expected.length} of them unanswered`);
    } else if (random.once(4)) return;
    if (this.#ended) return;
    this.#try(() => {
      this.#stream.end();
      return 0;
    });
    while (!this.#ended) this.#wait('the end');
  }

  #frame(kind: StreamKind, id: number): void {
    const random = this.#random;
    if (kind === 'random') {
      this.#send(this.#noise());
      return;
    }
    const message = soundMessage(random, id);
    const { bytes } = message;
    if (kind === 'twin' && this.#twin !== null && random.once(8)) {
      const twin = this.#twin;
      this.#try(() => twin.send(bytes, 0, bytes.length));
    } else if (kind === 'descriptors' && random.once(2)) this.#misplaced(message);
    else {
      if (kind === 'cut' && random.once(8)) {
        const cut = random.below(bytes.length);
        this.#send(random.once(2) ? bytes.subarray(0, cut) : bytes.subarray(cut), this.#rightful(message));
        return;
      }
      if (kind === 'flipped')
        for (let flips = random.below(4); flips > 0; flips--) bytes[random.below(bytes.length)]! ^= 1 << random.below(8);
      if (message.answered) this.#expected?.push(id);
      this.#send(bytes, this.#rightful(message));
    }
    if (random.once(20)) this.#drain();
    this.#sendReplies();
  }

  #rightful({ takes }: SoundMessage): readonly OwnedFd[] {
    return takes === 'nothing' ? [] : [takes === 'memory' ? this.#files.memory : this.#files.eventfd];
  }

  /**
   * With the wrong files, or the right ones in the wrong place: too many, in another order, with
   * the middle of a message, with the next message.
   */
  #misplaced(message: SoundMessage): void {
    const random = this.#random;
    const { memory, eventfd, others } = this.#files;
    const all = [memory, eventfd, ...others];
    const count = random.once(10) ? 17 + random.below(230) : random.below(18);
    const files = Array.from({ length: count }, () => random.pick(all));
    if (message.answered) this.#expected?.push(viewOf(message.bytes).getUint16(0, true));
    const { bytes } = message;
    const split = random.once(3) ? 1 + random.below(bytes.length - 1) : 0;
    if (split > 0) this.#write(bytes.subarray(0, split), random.once(2) ? this.#rightful(message) : []);
    this.#send(bytes.subarray(split), files);
  }

  /** Nothing but noise, or noise behind a header that is likely. */
  #noise(): Uint8Array {
    const random = this.#random;
    const bytes = random.bytes(1 + random.below(200));
    if (bytes.length < HEADER_BYTES || random.once(4)) return bytes;
    const view = viewOf(bytes);
    view.setUint16(2, random.below(20), true);
    view.setUint32(4, random.once(40) ? random.below(2 ** 21) : bytes.length, true);
    view.setUint32(8, random.pick([0, 0, 0, 1, 0x10, 0x21]), true);
    return bytes;
  }

  #hello(twin: boolean): void {
    const capabilities = { maxMsgFds: 8, writeMultiple: true, ...(twin ? { twinSocket: { supported: true } } : {}) };
    this.#send(encodeMessage(HELLO, Command.VERSION, encodeVersion(0, 1, capabilities)));
    const before = this.answers;
    while (this.answers === before && !this.#ended) this.#wait('VERSION');
    if (this.#ended) throw new Error('the server hung up on VERSION');
  }

  #send(bytes: Uint8Array, files?: readonly OwnedFd[]): void {
    if (bytes.length === 0) return;
    this.#write(bytes, files);
    if (!this.#ended) this.sent++;
  }

  #write(bytes: Uint8Array, files?: readonly OwnedFd[]): void {
    for (let at = 0; at < bytes.length && !this.#ended; ) {
      const taken = this.#try(() => this.#stream.send(bytes, at, bytes.length, at === 0 ? files : undefined));
      if (taken > 0) at += taken;
      else if (!this.#ended) this.#wait('room for more', 'writable');
    }
  }

  /**
   * Read until a message came or, for 'writable', until there is room: a server that takes no more
   * waits until this client reads.
   */
  #wait(what: string, event: 'readable' | 'writable' = 'readable'): void {
    const deadline = performance.now() + HANG_MS;
    while (!this.#drain() && !this.#ended) {
      if (this.#stream.wait(event, POLL_MS) && event === 'writable') return;
      if (performance.now() > deadline) throw new Error(`the server does nothing; waiting for ${what}`);
    }
  }

  /**
   * Read what is there. Answers to DMA wait until no message is half sent.
   *
   * @returns whether anything was there
   */
  #drain(): boolean {
    for (let any = false; ; any = true) {
      const got = this.#ended ? 0 : this.#try(() => this.#reader.fill());
      if (got === 0) this.#ended = true;
      if (got <= 0) return any;
      while (this.#reader.next()) this.#message();
    }
  }

  #sendReplies(): void {
    for (let reply = this.#replies.shift(); reply !== undefined && !this.#ended; reply = this.#replies.shift()) this.#send(reply);
  }

  #message(): void {
    const { view, start, size, oversize, broken } = this.#reader;
    if (oversize || broken) throw new Error(`the server sent a header that says ${view.getUint32(start + 4, true)} bytes`);
    const [id, command, flags] = [view.getUint16(start, true), view.getUint16(start + 2, true), view.getUint32(start + 8, true)];
    const fds = this.#reader.takeFds();
    if (id === HELLO && fds.length > 0) this.#twin = UnixSocket.fromFd(fds.shift()!);
    closeAll(fds);
    if (flags === HeaderFlags.COMMAND && (command === Command.DMA_READ || command === Command.DMA_WRITE)) {
      this.#answerDma(id, command);
      return;
    }
    this.answers++;
    if (flags !== HeaderFlags.REPLY && flags !== (HeaderFlags.REPLY | HeaderFlags.ERROR)) {
      throw new Error(`the server sent command ${command} with flags ${flags}`);
    }
    if (flags !== HeaderFlags.REPLY && size !== HEADER_BYTES) throw new Error(`an error with ${size} bytes`);
    if (this.#expected === null || id === HELLO) return;
    const next = this.#expected.shift();
    if (next !== id) throw new Error(`a reply to message ${id}, command ${command}; ${next} is next`);
  }

  /** Mostly well. */
  #answerDma(id: number, command: number): void {
    const random = this.#random;
    const { bytes, start, size, view } = this.#reader;
    if (random.once(8)) return;
    const isRead = command === Command.DMA_READ;
    const count = isRead ? Number(view.getBigUint64(start + HEADER_BYTES + 8, true)) : 0;
    const payload = new Uint8Array(16 + count);
    payload.set(bytes.subarray(start + HEADER_BYTES, start + Math.min(size, HEADER_BYTES + 16)));
    const reply = encodeMessage(id, command as Command, payload, HeaderFlags.REPLY);
    // With mistakes in streams that do not count answers: a reply to nothing is answered too.
    if (this.#expected === null && random.once(4)) reply[random.below(32)]! ^= 1 << random.below(8);
    this.#replies.push(reply);
  }

  /** 0 when the server is gone. */
  #try(call: () => number): number {
    try {
      return call();
    } catch (error) {
      if (!(error instanceof VfioError) || (error.code !== 'EPIPE' && error.code !== 'ECONNRESET')) throw error;
      this.#ended = true;
      return 0;
    }
  }

  [Symbol.dispose](): void {
    this.#twin?.[Symbol.dispose]();
    this.#reader[Symbol.dispose]();
    this.#stream[Symbol.dispose]();
  }
}
