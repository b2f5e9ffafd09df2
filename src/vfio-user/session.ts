/**
 * One client of a server: its stream, its capabilities, and the device it uses. Commands are done
 * strictly in order, each by one call of the device and at most one reply. An errno answers a
 * mistake where it can, and the stream goes on. Other mistakes end the session: a stream that
 * broke, a client that is silent in the middle of a message or does not take its replies, a first
 * message that is not VERSION.
 */
import type { Device } from '../abi/device.ts';
import { HEADER_BYTES, HeaderFlags } from '../abi/vfio-user.ts';
import { type Clock, PausableClock } from '../base/clock.ts';
import { VfioError } from '../base/errno.ts';
import { textOf } from '../base/foreign.ts';
import type { EventSource } from '../events/source.ts';
import type { ByteStream, PeerCredentials } from '../sys/byte-stream.ts';
import type { OwnedFd } from '../sys/owned-fd.ts';
import { UnixSocket } from '../sys/unix-socket.ts';
import { closeAll } from './frames.ts';
import type { ServerLimits } from './limits.ts';
import { MessageEvents } from './message-events.ts';
import { Command, commandName, decodeVersion, encodeVersion, type VersionMessage } from './messages.ts';
import { Attachment } from './server/attachment.ts';
import { ServerChannel } from './server/channel.ts';
import { Commands, checkWhole, unexpectedFds } from './server/commands.ts';
import { canMigrate } from './server/migration-messages.ts';
import { handOver, isMoved, type MovedDevice } from './server/moved-device.ts';
import { checkMajor, negotiate } from './server/negotiation.ts';
import { Replies } from './server/replies.ts';
import { SocketEvents } from './server/socket-events.ts';
import { Watchdog } from './server/watchdog.ts';

/** More bytes of replies than any limit: nothing is read while they wait. */
const FOR_EVER = 2 ** 50;

const NOW = Promise.resolve();

export interface SessionOptions {
  /** The device's name, for messages. */
  readonly name: string;
  readonly stream: ByteStream;
  readonly peer: PeerCredentials | null;
  readonly open: (peer: PeerCredentials | null, vfToken: Uint8Array | null, adopt: boolean) => Device | MovedDevice;
  readonly limits: ServerLimits;
  readonly clock: Clock;
  /** Where the session's notes go, and its messages. */
  readonly events: EventSource;
  readonly wire: EventSource;
  readonly keepAlive: boolean;
  readonly onEnd: (session: Session) => void;
}

export class Session implements Disposable {
  readonly peer: PeerCredentials | null;
  /** The reason of its end. Never rejects. */
  readonly ended: Promise<string>;
  readonly #options: SessionOptions;
  /** The clock stands still while the machine sleeps: no request is late then. */
  readonly #clock: PausableClock;
  #asleep: Disposable | null = null;
  readonly #messages: MessageEvents;
  readonly #channel: ServerChannel;
  readonly #replies: Replies;
  readonly #watchdog: Watchdog;
  /** The second socket, on which the server commands and the client replies. */
  #twin: ServerChannel | null = null;
  #attachment: Attachment | null = null;
  #commands: Commands | null = null;
  #version: VersionMessage | null = null;
  #closed: string | null = null;
  #resolveEnded: (reason: string) => void = () => {};
  #pumping = false;
  #startedNs = 0;
  /** Messages that came, for tests and displays. */
  commands = 0;

  constructor(options: SessionOptions) {
    const { limits, keepAlive } = options;
    const clock = new PausableClock(options.clock);
    this.#options = options;
    this.#clock = clock;
    this.peer = options.peer;
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
    this.#messages = new MessageEvents(options.wire);
    this.#channel = this.#makeChannel('connection', options.stream, keepAlive, () => this.#message());
    this.#replies = new Replies({
      channel: this.#channel,
      isClosed: () => this.#closed !== null,
      onBug: (what, error) => this.#bug(what, error),
      onLost: (error) => this.#lost(error),
      events: options.wire,
    });
    const shortest = Math.min(limits.handshakeTimeoutMs, limits.messageTimeoutMs, limits.stallTimeoutMs, limits.dmaTimeoutMs);
    this.#watchdog = new Watchdog(clock, Math.max(1, Math.ceil(shortest / 4)), () => this.#look());
  }

  /** The agreed version; null until VERSION was answered. */
  get version(): VersionMessage | null {
    return this.#version;
  }

  /** Whether the client has sent anything: also before it is served. */
  get hasSpoken(): boolean {
    return this.commands > 0 || this.#channel.stream.wait('readable', 0);
  }

  /** Null until VERSION was answered, and again once it has ended. */
  get device(): Device | null {
    return this.#attachment?.device ?? null;
  }

  /** DMA mappings of this client. */
  get mappings(): number {
    return this.#attachment?.mappings.size ?? 0;
  }

  get closed(): boolean {
    return this.#closed !== null;
  }

  /** Begins to serve. */
  start(): void {
    if (this.#closed !== null) return;
    this.#startedNs = this.#clock.nowNs();
    this.#watchdog.wake();
    this.#channel.start();
  }

  /**
   * Ends it: releases the client's mappings, interrupts and descriptors, closes the device, which
   * resets it, and closes the stream. DMA that waits fails. Idempotent.
   */
  close(reason = 'closed by the server'): void {
    if (this.#closed !== null) return;
    this.#closed = reason;
    const { events, name, onEnd } = this.#options;
    this.#watchdog[Symbol.dispose]();
    const attachment = this.#attachment;
    this.#attachment = null;
    attachment?.end(reason);
    for (const channel of [this.#twin, this.#channel]) this.#quietly('closing the stream', () => channel?.[Symbol.dispose]());
    const who = this.peer === null ? '' : ` (pid ${this.peer.pid}, uid ${this.peer.uid})`;
    events.note('info', `${name} session`, `${name}: the client${who} is gone: ${reason}`);
    this.#resolveEnded(reason);
    onEnd(this);
  }

  /**
   * Does nothing for the client until the result is disposed: its requests wait, and its end goes
   * unnoticed. For a device that is being moved away: a request that was not answered has not been
   * done.
   */
  pause(): Disposable {
    const channel = this.#channel;
    let paused = true;
    channel.hold(FOR_EVER);
    return {
      [Symbol.dispose]: () => {
        if (!paused) return;
        paused = false;
        if (this.#closed === null) channel.hold(-FOR_EVER);
      },
    };
  }

  #sleep(asleep: boolean, holds: boolean): void {
    this.#asleep?.[Symbol.dispose]();
    this.#asleep = asleep && holds ? this.pause() : null;
    if (asleep) this.#clock.pause();
    else this.#clock.goOn();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #quietly(what: string, act: () => void): void {
    try {
      act();
    } catch (error) {
      this.#bug(what, error);
    }
  }

  #bug(what: string, error: unknown): void {
    const { events, name } = this.#options;
    events.note('error', `${name} ${what}`, `${name}: ${what}: ${textOf(error)}`);
  }

  #makeChannel(what: 'connection' | 'twin socket', stream: ByteStream, keepAlive: boolean, onMessage: () => void): ServerChannel {
    const { limits } = this.#options;
    return new ServerChannel({
      what,
      stream,
      limits,
      clock: this.#clock,
      keepAlive,
      events: new SocketEvents(this.#messages, what === 'twin socket', (id) => this.#attachment?.dma.eventOf(id) ?? 0),
      onMessage,
      onDrained: () => this.#pump(),
      onWaiting: () => this.#watchdog.wake(),
      onLost: (error) => this.#lost(error),
    });
  }

  /** The stream failed: the peer is gone, or what it sent cannot be continued. */
  #lost(error: unknown): void {
    if (!(error instanceof VfioError)) this.#bug('serving', error);
    this.close(error instanceof VfioError ? error.message : 'an error of the server');
  }

  // --- commands

  /** The current message of the reader. */
  #message(): void {
    const { reader } = this.#channel;
    const { view, start } = reader;
    const command = view.getUint16(start + 2, true);
    const flags = view.getUint32(start + 8, true);
    this.commands++;
    const attachment = this.#attachment;
    try {
      if (attachment === null) this.#handshake(command, flags);
      else if ((flags & HeaderFlags.TYPE_MASK) === HeaderFlags.REPLY) this.#reply(attachment, flags);
      else {
        checkWhole(this.#channel.reader, flags);
        this.#commands!.carryOut(command, flags);
      }
    } catch (error) {
      this.#replies.fail(view.getUint16(start, true), command, flags, error);
      if (this.#attachment === null) this.#refused(error);
    }
  }

  /** A reply of the client on the main socket: to a DMA of this server, or to nothing. */
  #reply({ dma }: Attachment, flags: number): void {
    const { reader } = this.#channel;
    if (this.#twin === null && dma.reply(reader)) {
      if (dma.waiting) this.#pumpSoon();
      return;
    }
    // Answering an error with an error could go on for ever.
    if ((flags & HeaderFlags.ERROR) !== 0) return;
    throw new VfioError('EINVAL', 'a reply to a message that this side did not send');
  }

  // --- VERSION

  /** The first message. @throws VfioError the errno to answer; the connection ends */
  #handshake(command: number, flags: number): void {
    const { reader, stream } = this.#channel;
    const { limits } = this.#options;
    checkWhole(reader, flags);
    if (command !== Command.VERSION) throw new VfioError('EINVAL', `${commandName(command)} before VERSION`);
    if (reader.hasFds) throw unexpectedFds(command);
    const { start, size } = reader;
    const {
      vfToken = null,
      adopt = false,
      reasons = false,
      ...client
    } = decodeVersion(reader.bytes.subarray(start + HEADER_BYTES, start + size));
    // The token, if there was one, stays in memory no longer than it takes.
    reader.bytes.fill(0, start + HEADER_BYTES, start + size);
    this.#replies.reasonBytes = reasons ? client.capabilities.maxDataXferSize : 0;
    checkMajor(client);
    const opened = this.#open(vfToken, adopt);
    const moved = isMoved(opened) ? opened : null;
    const device = moved?.device ?? (opened as Device);
    let theirs: UnixSocket | null = null;
    const fds: OwnedFd[] = [];
    try {
      if (adopt && moved === null) throw new VfioError('ENXIO', `VERSION: no device was moved to ${this.#options.name}`);
      const { pageSizes, available } = device.dma;
      const agreed = negotiate(client, {
        maxMsgFds: stream.carriesFds ? limits.maxMsgFds : 0,
        maxDataXferSize: limits.maxDataBytes,
        maxDmaMaps: available + (moved?.mappings.length ?? 0),
        pgsizes: pageSizes,
        migration: canMigrate(device) ? { pgsize: 4096 } : null,
        twinSocket: stream.carriesFds,
      });
      const twin = agreed.capabilities.twinSocket !== null;
      const handed = moved === null ? null : handOver(moved, twin ? 1 : 0, stream.carriesFds ? client.capabilities.maxMsgFds : 0);
      fds.push(...(handed?.fds ?? []));
      if (twin) theirs = this.#makeTwin();
      this.#attachment = this.#attach(device, client);
      this.#commands = new Commands(this.#channel, this.#replies, this.#attachment, limits.maxDataBytes);
      if (moved !== null) this.#attachment.mappings.adopt(moved.mappings);
      this.#version = agreed;
      const { major, minor, capabilities } = agreed;
      if (theirs !== null) fds.unshift(theirs.release());
      const words = handed === null ? {} : { adopted: handed.capability };
      if ((flags & HeaderFlags.NO_REPLY) !== 0) closeAll(fds);
      else this.#replies.put(reader.view.getUint16(start, true), command, encodeVersion(major, minor, capabilities, null, words), fds);
      moved?.taken();
    } catch (error) {
      theirs?.[Symbol.dispose]();
      if (this.#attachment === null) {
        closeAll(fds);
        this.#quietly('closing the device', () => (moved === null ? device[Symbol.dispose]() : moved.giveBack()));
      }
      throw error;
    }
  }

  #open(vfToken: Uint8Array | null, adopt: boolean): Device | MovedDevice {
    try {
      return this.#options.open(this.peer, vfToken, adopt);
    } finally {
      vfToken?.fill(0);
    }
  }

  /** The first message was refused: nothing can be done with this client. */
  #refused(error: unknown): void {
    this.#channel.send();
    this.close(error instanceof VfioError ? error.message : 'an error of the server');
  }

  #makeTwin(): UnixSocket {
    const [ours, theirs] = UnixSocket.pair();
    this.#twin = this.#makeChannel('twin socket', ours, false, () => this.#twinMessage());
    this.#twin.start();
    return theirs;
  }

  #attach(device: Device, client: VersionMessage): Attachment {
    const { limits } = this.#options;
    const { writer, events } = this.#twin ?? this.#channel;
    const attachment = new Attachment({
      device,
      client,
      limits,
      clock: this.#clock,
      writer,
      events,
      carriesFds: this.#channel.stream.carriesFds,
      onQueued: () => this.#pumpSoon(),
      onSleep: (asleep, holds) => this.#sleep(asleep, holds),
      onGone: (reason) => queueMicrotask(() => this.close(reason)),
      onBug: (what, error) => this.#bug(what, error),
    });
    this.#messages.isMemory = (index) => attachment.regions.region(index)?.plain === true;
    return attachment;
  }

  // --- DMA by message

  /**
   * There is no command here to answer: commands come on the main socket, and a reply to nothing
   * has no answer.
   */
  #twinMessage(): void {
    const { reader } = this.#twin!;
    const flags = reader.view.getUint32(reader.start + 8, true);
    const sound = !reader.oversize && !reader.broken && (flags & HeaderFlags.TYPE_MASK) === HeaderFlags.REPLY;
    if (!sound || this.#attachment?.dma.reply(reader) !== true) throw new VfioError('EPROTO', 'the twin socket carries what is no reply');
    if (this.#attachment.dma.waiting) this.#pumpSoon();
  }

  /**
   * Later, at the end of the current step: the step may make more, and nothing may be put into a
   * writer in the middle of a message.
   */
  #pumpSoon(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    NOW.then(this.#pump); // queueMicrotask() makes an object for each call
  }

  readonly #pump = (): void => {
    this.#pumping = false;
    const attachment = this.#attachment;
    if (attachment === null) return;
    attachment.dma.pump();
    if (attachment.dma.underWay > 0) this.#watchdog.wake();
    (this.#twin ?? this.#channel).send();
  };

  // --- time

  /** Whether anything still waits for the client. */
  #look(): boolean {
    const { limits } = this.#options;
    const now = this.#clock.nowNs();
    const attachment = this.#attachment;
    const late = attachment === null && now - this.#startedNs >= limits.handshakeTimeoutMs * 1e6;
    let reason = late ? 'it did not negotiate a version in time' : this.#channel.overdue(now);
    reason ??= this.#twin?.overdue(now) ?? null;
    if (attachment !== null) {
      if (!attachment.dma.expire(now - limits.dmaTimeoutMs * 1e6)) reason ??= 'it does not answer DMA';
      // A transfer that waited for room in the window may go now.
      this.#pumpSoon();
    }
    if (reason !== null) this.close(reason);
    if (this.#closed !== null) return false;
    return attachment === null || attachment.dma.underWay > 0 || this.#channel.waiting || this.#twin?.waiting === true;
  }
}
