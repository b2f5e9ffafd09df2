/**
 * The client's end of a connection. The client makes one request at a time, and blocks this thread
 * until the reply. It answers the server's own commands whenever they come: while it waits for a
 * reply, and from the event loop at other times.
 *
 * A reply that does not come in time ends the connection, because a late reply would be taken for
 * the answer to another request. A reply that does not fit its request ends it too. From then on
 * every call throws ENODEV.
 *
 * This file is longer than 400 lines because sending and receiving are one state: while a request
 * is sent, commands come in, and while a reply is awaited, answers go out.
 */
import { HEADER_BYTES, HeaderFlags } from '../../abi/vfio-user.ts';
import { checkIndex } from '../../base/check.ts';
import { viewOf } from '../../base/data-view.ts';
import { Errno, type ErrnoName, VfioError } from '../../base/errno.ts';
import { type ByteStream, END_OF_STREAM, WOULD_BLOCK } from '../../sys/byte-stream.ts';
import type { OwnedFd } from '../../sys/owned-fd.ts';
import { closeAll, OVERHEAD_BYTES } from '../frames.ts';
import type { MessageEvents } from '../message-events.ts';
import type { Question } from '../messages/message.ts';
import { commandName } from '../messages.ts';
import { ClientChannel } from './channel.ts';
import { refusal } from './refusal.ts';

/**
 * The most data of a request, whatever the server takes. A message of ours so goes with one call,
 * and libvfio-user's server, which loses its step over pieces of 64 KiB and more, can be written
 * to.
 */
export const REQUEST_DATA_BYTES = 32768;
const OUT_BYTES = HEADER_BYTES + OVERHEAD_BYTES + REQUEST_DATA_BYTES;
/**
 * Milliseconds between two looks at what has come in, while neither side reads because both send.
 */
const BOTH_SEND_MS = 5;
const NO_FDS: readonly OwnedFd[] = [];
/**
 * The time of the request has not begun. It is no integer, so that deadlines are stored as doubles
 * in place.
 */
const NO_DEADLINE = -0.5;

export interface ConnectionOptions {
  /** The device and its server, for messages. */
  readonly name: string;
  /** How long a request may take. */
  readonly timeoutMs: number;
  /** The most data that a message of the server may carry. */
  readonly maxDataBytes: number;
  /** Where the connection's messages are emitted. */
  readonly messages: MessageEvents;
}

/**
 * Answers a command of the server: the current message of the channel's reader. It answers mistakes
 * of the server with an errno and never throws. It must not use the connection otherwise.
 */
export type CommandHandler = (channel: ClientChannel, command: number, flags: number) => void;

export class ClientConnection implements Disposable {
  readonly name: string;
  readonly maxDataBytes: number;
  /** The request to be sent: fields from HEADER_BYTES on. */
  readonly out = new DataView(new ArrayBuffer(OUT_BYTES));
  readonly outBytes = new Uint8Array(this.out.buffer);
  readonly messages: MessageEvents;
  /** The handler of the server's commands. */
  onCommand: CommandHandler = () => {};
  /** Called once when the connection is lost, and not when this side closes it. */
  onLost: (reason: string) => void = () => {};
  /**
   * The reply that `request` got: its buffer, where its payload starts, and its length. Valid until
   * the next request.
   */
  reply: DataView;
  replyBytes: Uint8Array;
  replyAt = 0;
  replySize = 0;
  readonly #timeoutMs: number;
  readonly #main: ClientChannel;
  #twin: ClientChannel | null = null;
  #replyFds: OwnedFd[] | null = null;
  /** The last reply is still needed: the client must not receive over it. */
  #holdsReply = false;
  /** The last reply was an error. */
  #failed = false;
  #waiting = false;
  #lost: string | null = null;
  #id = 0;
  #command = 0;
  #deadline = NO_DEADLINE;
  /** `seq` of the request under way, of which the reply is a consequence. */
  #requested = 0;

  /** Takes `stream` over. @throws VfioError EINVAL for a timeout that is none */
  constructor(stream: ByteStream, options: ConnectionOptions) {
    this.name = options.name;
    this.messages = options.messages;
    this.maxDataBytes = options.maxDataBytes;
    this.#timeoutMs = checkIndex(options.timeoutMs, 0x7fff_ffff, 'timeoutMs');
    this.#main = new ClientChannel(stream, options.maxDataBytes + OVERHEAD_BYTES);
    this.reply = this.#main.reader.view;
    this.replyBytes = this.#main.reader.bytes;
  }

  /** The server's commands come on `stream` from now on. Takes it over. */
  useTwin(stream: ByteStream): void {
    this.#twin = new ClientChannel(stream, this.maxDataBytes + OVERHEAD_BYTES);
  }

  get hasTwin(): boolean {
    return this.#twin !== null;
  }

  get carriesFds(): boolean {
    return this.#main.stream.carriesFds;
  }

  /** Serves the server from the event loop too, and notices there that it is gone. */
  listen(keepAlive: boolean): void {
    this.#main.listen(() => this.#readable(this.#main), keepAlive);
    this.#twin?.listen(() => this.#readable(this.#twin!), keepAlive);
  }

  /** The reason of the connection's end; null while it lives. */
  get lost(): string | null {
    return this.#lost;
  }

  /** @throws VfioError ENODEV when the connection has ended */
  checkLive(): void {
    if (this.#lost !== null) throw this.lostError();
  }

  lostError(): VfioError {
    return new VfioError('ENODEV', `${this.name}: ${this.#lost}`);
  }

  /**
   * The error for an errno that `request` has just returned: with the server's reason, where the
   * server gives one.
   */
  failure(errno: number, what: string): VfioError {
    const { replyBytes, replyAt, replySize } = this;
    return refusal(`${this.name}: ${what}`, errno, this.#failed ? replyBytes.subarray(replyAt, replyAt + replySize) : null);
  }

  // --- requests

  /**
   * Sends the request in `out`, waits for the reply, and answers the server meanwhile.
   *
   * @param size bytes of `out` after the header
   * @returns 0 when there is a reply, else the positive errno that it carries
   * @throws VfioError ETIMEDOUT, and the connection has ended; ENODEV when it has ended; EPROTO for
   *   a reply that does not fit the request, and the connection has ended
   */
  request(command: number, size: number, fds: readonly OwnedFd[] = NO_FDS): number {
    const id = this.#start(command, size, HeaderFlags.COMMAND);
    this.#sendRequest(size, fds);
    return this.#await(id, command);
  }

  /**
   * Sends a control message, and reads the reply as the row of the message says. Register accesses,
   * interrupts and mappings do not come this way, because `ask` allocates.
   *
   * @param what names the request in an error
   * @returns what the row decodes; bytes in it are valid until the next request
   * @throws VfioError the errno that the server answers; EPROTO for a reply that does not fit the
   *   row, and the connection has ended; as `request`
   */
  ask<Request, Reply>(row: Question<Request, Reply>, request: Request, what: string, fds: readonly OwnedFd[] = NO_FDS): Reply {
    const payload = row.encode(request);
    this.outBytes.set(payload, HEADER_BYTES);
    let errno: number;
    try {
      errno = this.request(row.number, payload.length, fds);
    } finally {
      // The buffer stays, and a secret must not stay with it.
      if (row.masked !== undefined) this.outBytes.fill(0, HEADER_BYTES, HEADER_BYTES + payload.length);
    }
    if (errno !== 0) throw this.failure(errno, what);
    const { replyBytes, replyAt, replySize } = this;
    try {
      return row.decodeReply(replyBytes.subarray(replyAt, replyAt + replySize));
    } catch (error) {
      if (error instanceof VfioError) throw this.badReply(row.number, error.message);
      throw error;
    }
  }

  /**
   * Sends the request in `out` and wants no answer, not even an error.
   * @throws VfioError ETIMEDOUT when the server accepts no more data; ENODEV
   */
  post(command: number, size: number): void {
    this.#start(command, size, HeaderFlags.COMMAND | HeaderFlags.NO_REPLY);
    this.#sendRequest(size, NO_FDS);
  }

  /**
   * Descriptors that came with the reply; the caller owns them. Those that are not taken are
   * closed.
   */
  takeReplyFds(): OwnedFd[] {
    const fds = this.#replyFds;
    this.#replyFds = null;
    return fds ?? [];
  }

  #start(command: number, payloadBytes: number, flags: number): number {
    if (this.#lost !== null) throw this.lostError();
    if (this.#waiting) throw new Error(`${this.name}: ${commandName(command)} while ${commandName(this.#command)} is under way`);
    if (this.#replyFds !== null) closeAll(this.takeReplyFds());
    const id = (this.#id + 1) & 0xffff;
    this.#id = id;
    this.#command = command;
    const { out } = this;
    out.setUint16(0, id, true);
    out.setUint16(2, command, true);
    out.setUint32(4, HEADER_BYTES + payloadBytes, true);
    out.setUint32(8, flags, true);
    out.setUint32(12, 0, true);
    // The client looks at the clock only when the first wait was not the last: most requests need
    // no more.
    this.#deadline = NO_DEADLINE;
    return id;
  }

  #sendRequest(size: number, fds: readonly OwnedFd[]): void {
    const main = this.#main;
    const { messages } = this;
    if (messages.on) this.#requested = messages.emit(true, false, this.outBytes, this.out, 0, HEADER_BYTES + size, fds.length);
    main.busy = true;
    this.#waiting = true;
    try {
      this.#send(main, this.outBytes, HEADER_BYTES + size, fds);
    } finally {
      main.busy = false;
      this.#waiting = false;
    }
    if (main.queued.length !== 0) this.#flush(main);
  }

  /** A buffer for an answer of `size` bytes: the same each time, unless that is being sent. */
  answerBuffer(channel: ClientChannel, size: number): Uint8Array<ArrayBuffer> {
    return channel.busy ? new Uint8Array(size) : channel.answerBuffer(size);
  }

  /**
   * Answers a command on the channel it came from. An answer in the middle of another message waits
   * for the end of that message.
   */
  answer(channel: ClientChannel, bytes: Uint8Array, size: number): void {
    if (this.#lost !== null) return;
    const { messages } = this;
    // One that waits is emitted before it is sent: in the order of the wire all the same.
    if (messages.on) messages.emit(true, channel === this.#twin, bytes, viewOf(bytes), 0, size, 0);
    this.#sendAnswer(channel, bytes, size);
  }

  #sendAnswer(channel: ClientChannel, bytes: Uint8Array, size: number): void {
    if (this.#lost !== null) return;
    if (channel.busy) {
      channel.queue(bytes.length === size ? bytes : bytes.slice(0, size));
      return;
    }
    channel.busy = true;
    try {
      this.#send(channel, bytes, size, NO_FDS);
    } finally {
      channel.busy = false;
    }
    if (channel.queued.length !== 0) this.#flush(channel);
  }

  /** Sends an answer that took its time, from outside of any request. */
  answerLater(channel: ClientChannel, bytes: Uint8Array): void {
    this.#deadline = NO_DEADLINE;
    this.answer(channel, bytes, bytes.length);
  }

  #flush(channel: ClientChannel): void {
    for (let bytes = channel.unqueue(); bytes !== undefined; bytes = channel.unqueue()) this.#sendAnswer(channel, bytes, bytes.length);
  }

  #send(channel: ClientChannel, bytes: Uint8Array, size: number, fds: readonly OwnedFd[]): void {
    for (let at = 0; at < size; ) {
      let sent: number;
      try {
        sent = channel.stream.send(bytes, at, size, at === 0 ? fds : NO_FDS);
      } catch (cause) {
        // Nothing of the message has gone: a descriptor was closed, or there are too many.
        if (at === 0 && fds.length > 0 && cause instanceof VfioError && cause.code !== 'EPIPE' && cause.code !== 'ECONNRESET') throw cause;
        throw this.lose('the server is gone', 'ENODEV', cause);
      }
      if (sent === WOULD_BLOCK) this.#waitWritable(channel);
      else at += sent;
    }
  }

  /**
   * The server does not read. The server may be sending itself, and wait for this client to read.
   * The client takes that in and answers it, unless there is too much of it.
   */
  #waitWritable(channel: ClientChannel): void {
    const left = this.#left();
    if (left <= 0) throw this.#timedOut();
    if (channel.stream.wait('writable', Math.ceil(Math.min(left, BOTH_SEND_MS)))) return;
    for (const each of [this.#main, this.#twin]) {
      if (each === null || (each === this.#main && this.#holdsReply) || each.queueFull) continue;
      if (each.stream.wait('readable', 0)) this.#takeIn(each);
    }
  }

  // --- replies

  #await(id: number, command: number): number {
    const { reader } = this.#main;
    this.#waiting = true;
    try {
      for (let first = true; ; first = false) {
        while (reader.next()) {
          const flags = reader.view.getUint32(reader.start + 8, true);
          if ((flags & HeaderFlags.TYPE_MASK) !== HeaderFlags.COMMAND) return this.#accept(id, command, flags);
          this.#serve(this.#main, flags);
        }
        this.#receive(first);
      }
    } finally {
      this.#waiting = false;
    }
  }

  /**
   * The current message of the main channel is a reply: is it the one that was awaited? Commands
   * that came behind it are answered now, because no later call looks for them.
   */
  #accept(id: number, command: number, flags: number): number {
    const main = this.#main;
    const { view, bytes, start, size, broken, oversize } = main.reader;
    if (this.messages.on) this.#received(main, this.#requested);
    const gotId = view.getUint16(start, true);
    const gotCommand = view.getUint16(start + 2, true);
    if (broken || oversize) throw this.#outOfStep(`a reply of ${view.getUint32(start + 4, true)} bytes to ${commandName(command)}`);
    if ((flags & HeaderFlags.TYPE_MASK) !== HeaderFlags.REPLY || gotId !== id || gotCommand !== command) {
      throw this.#outOfStep(
        `message ${gotId} (${commandName(gotCommand)}) when message ${id} (${commandName(command)}) was to be answered`,
      );
    }
    const failed = (flags & HeaderFlags.ERROR) !== 0;
    this.#failed = failed;
    const errno = failed ? view.getUint32(start + 12, true) : 0;
    this.reply = view;
    this.replyBytes = bytes;
    this.replyAt = start + HEADER_BYTES;
    this.replySize = size - HEADER_BYTES;
    if (main.reader.hasFds) this.#replyFds = main.reader.takeFds();
    this.#holdsReply = true;
    try {
      this.#serveAll(main);
    } catch (error) {
      // The server has answered this request. `onLost` reports the end of the connection, and so
      // does the next call.
      if (!(error instanceof VfioError)) throw error;
    } finally {
      this.#holdsReply = false;
    }
    // An error without an errno, or with a number that is no errno, is EINVAL, as libvfio-user
    // reads it.
    return failed && (errno === 0 || errno > 4095) ? Errno.EINVAL : errno;
  }

  #outOfStep(what: string): VfioError {
    return this.lose(`the server sent ${what}`, 'EPROTO');
  }

  /** Ends the connection because the reply does not fit the request. @returns the error to throw */
  badReply(command: number, why: string): VfioError {
    return this.#outOfStep(`a bad reply to ${commandName(command)}: ${why}`);
  }

  /** Waits until something has come in, and takes it in. Answers commands on the twin. */
  #receive(first: boolean): void {
    const twin = this.#twin;
    const main = this.#main;
    const timeoutMs = first ? this.#timeoutMs : Math.ceil(this.#left());
    let ready = 0;
    if (twin !== null) ready = main.waitWith(twin, timeoutMs);
    else if (timeoutMs > 0 && main.stream.wait('readable', timeoutMs)) ready = 1;
    if (ready === 0) throw this.#timedOut();
    if ((ready & 2) !== 0) this.#takeIn(twin!);
    if ((ready & 1) !== 0) this.#fill(main);
  }

  /**
   * Milliseconds that the request still has. The time begins with the first wait that did not end
   * the request.
   */
  #left(): number {
    const now = performance.now();
    if (this.#deadline === NO_DEADLINE) this.#deadline = now + this.#timeoutMs;
    return this.#deadline - now;
  }

  #timedOut(): VfioError {
    return this.lose(`the server did not answer ${commandName(this.#command)} within ${this.#timeoutMs} ms`, 'ETIMEDOUT');
  }

  /** One receive. */
  #fill(channel: ClientChannel): void {
    let got: number;
    try {
      got = channel.reader.fill();
    } catch (cause) {
      throw this.lose('the connection broke', 'ENODEV', cause);
    }
    if (got === END_OF_STREAM) throw this.lose('the server closed the connection', 'ENODEV');
  }

  /** Receives once, and answers every command that is complete. */
  #takeIn(channel: ClientChannel): void {
    this.#fill(channel);
    this.#serveAll(channel);
  }

  #serveAll(channel: ClientChannel): void {
    const { reader } = channel;
    while (this.#lost === null && reader.next()) {
      const flags = reader.view.getUint32(reader.start + 8, true);
      if ((flags & HeaderFlags.TYPE_MASK) !== HeaderFlags.COMMAND) throw this.#outOfStep('a reply to nothing');
      this.#serve(channel, flags);
    }
  }

  #serve(channel: ClientChannel, flags: number): void {
    const { view, start, broken, oversize } = channel.reader;
    const command = view.getUint16(start + 2, true);
    if (broken || oversize) throw this.#outOfStep(`${commandName(command)} of ${view.getUint32(start + 4, true)} bytes`);
    const { messages } = this;
    if (!messages.on) this.onCommand(channel, command, flags);
    // Which request or doorbell led to it is the server's knowledge.
    else messages.source.during(this.#received(channel, 0), () => this.onCommand(channel, command, flags));
  }

  /** The current message of the channel as an event. @returns its `seq` */
  #received(channel: ClientChannel, cause: number): number {
    const { bytes, view, start, size, fdCount } = channel.reader;
    const { source } = this.messages;
    const before = source.cause;
    source.cause = cause;
    const seq = this.messages.emit(false, channel === this.#twin, bytes, view, start, size, fdCount);
    source.cause = before;
    return seq;
  }

  /** A command, or the end, from the event loop. */
  #readable(channel: ClientChannel): boolean {
    if (this.#lost !== null) return false;
    this.#deadline = NO_DEADLINE;
    try {
      this.#takeIn(channel);
    } catch (error) {
      // The connection is lost. `onLost` has reported it, and the next call reports it too.
      if (!(error instanceof VfioError)) throw error;
    }
    return this.#lost === null;
  }

  // --- the end

  /** Ends the connection because of a mistake of the server. @returns the error to throw */
  lose(reason: string, code: ErrnoName, cause?: unknown): VfioError {
    const error = new VfioError(code, `${this.name}: ${reason}`, cause === undefined ? {} : { cause });
    if (this.#lost === null) {
      this.#end(reason);
      this.onLost(reason);
    }
    return error;
  }

  #end(reason: string): void {
    this.#lost = reason;
    closeAll(this.takeReplyFds());
    this.#main[Symbol.dispose]();
    this.#twin?.[Symbol.dispose]();
  }

  /** Close. Idempotent. */
  [Symbol.dispose](): void {
    if (this.#lost === null) this.#end('the connection was closed');
  }
}
