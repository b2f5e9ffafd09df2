/**
 * One client of a server: its stream, what it negotiated, and the device it uses. Commands are done strictly in order, each by one call of the device
 * and at most one reply. What can be answered with an errno is, and the stream goes on; what cannot ends the session: a stream that broke, a
 * client that is silent in the middle of a message or does not take its replies, a first message that is not VERSION.
 */
import type { Device } from '../abi/device.ts';
import { Command, commandName, HEADER_BYTES, HeaderFlags } from '../abi/vfio-user.ts';
import type { Clock } from '../base/clock.ts';
import { Errno, errnoOf, VfioError } from '../base/errno.ts';
import type { RateLimitedLogger } from '../base/log.ts';
import { type ByteStream, END_OF_STREAM, type PeerCredentials } from '../sys/byte-stream.ts';
import type { OwnedFd } from '../sys/owned-fd.ts';
import { UnixSocket } from '../sys/unix-socket.ts';
import { type Answer, DeviceMessages } from './device-messages.ts';
import { DmaCommands } from './dma-commands.ts';
import { mayBeQemu } from './dma-layout.ts';
import { DmaMappings } from './dma-mappings.ts';
import { FrameWriter } from './frame-writer.ts';
import { closeAll, FrameReader } from './frames.ts';
import { IrqMessages } from './irq-messages.ts';
import { OVERHEAD_BYTES, type ServerLimits } from './limits.ts';
import { putHeader } from './messages.ts';
import { RegionMessages } from './region-messages.ts';
import { checkMajor, decodeVersion, encodeVersion, negotiate, type VersionMessage } from './version.ts';
import { Watchdog } from './watchdog.ts';

/** While a batch of commands is done, replies go out when there are so many bytes of them. */
const FLUSH_BYTES = 256 * 1024;
const EMPTY = new Uint8Array(0);

export interface SessionOptions {
  /** For messages: whose device it is. */
  readonly name: string;
  readonly stream: ByteStream;
  readonly peer: PeerCredentials | null;
  readonly open: (peer: PeerCredentials | null) => Device;
  readonly limits: ServerLimits;
  readonly clock: Clock;
  readonly log: RateLimitedLogger;
  readonly keepAlive: boolean;
  readonly onEnd: (session: Session) => void;
}

/** All that exists from VERSION on. */
interface Attached {
  readonly device: Device;
  readonly regions: RegionMessages;
  readonly mappings: DmaMappings;
  readonly irqs: IrqMessages;
  readonly messages: DeviceMessages;
  readonly dma: DmaCommands;
  readonly twin: Twin | null;
  readonly events: Disposable;
}

/** The second socket, on which the server commands and the client replies. */
interface Twin {
  readonly stream: UnixSocket;
  readonly reader: FrameReader;
  readonly writer: FrameWriter;
}

export class Session implements Disposable {
  readonly peer: PeerCredentials | null;
  /** Why it ended. Never rejects. */
  readonly ended: Promise<string>;
  readonly #options: SessionOptions;
  readonly #reader: FrameReader;
  readonly #writer: FrameWriter;
  readonly #watchdog: Watchdog;
  #attached: Attached | null = null;
  #version: VersionMessage | null = null;
  #listening: Disposable | null = null;
  #twinListening: Disposable | null = null;
  #closed: string | null = null;
  #resolveEnded: (reason: string) => void = () => {};
  /** Bytes of replies that wait for the device (`Device.heldAnswer`). */
  #heldBytes = 0;
  #pumping = false;
  #startedNs = 0;
  #partialSinceNs = -1;
  #blockedSinceNs = -1;
  /** Commands done, replies to nothing included: for tests and for showing. */
  commands = 0;

  constructor(options: SessionOptions) {
    const { stream, limits, clock } = options;
    this.#options = options;
    this.peer = options.peer;
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
    this.#reader = new FrameReader(stream, { maxMessageBytes: limits.maxDataBytes + OVERHEAD_BYTES, maxFds: limits.maxMsgFds });
    this.#writer = this.#makeWriter(stream);
    const shortest = Math.min(limits.handshakeTimeoutMs, limits.messageTimeoutMs, limits.stallTimeoutMs, limits.dmaTimeoutMs);
    this.#watchdog = new Watchdog(clock, Math.max(1, Math.ceil(shortest / 4)), () => this.#look());
  }

  /** What was agreed on: null until VERSION was answered. */
  get version(): VersionMessage | null {
    return this.#version;
  }

  /** Null until VERSION was answered, and again once it has ended. */
  get device(): Device | null {
    return this.#attached?.device ?? null;
  }

  /** DMA mappings of this client. */
  get mappings(): number {
    return this.#attached?.mappings.size ?? 0;
  }

  get closed(): boolean {
    return this.#closed !== null;
  }

  /** Begin to serve. */
  start(): void {
    if (this.#closed !== null) return;
    this.#startedNs = this.#options.clock.nowNs();
    this.#watchdog.wake();
    this.#listen();
  }

  /**
   * End it: the client's mappings, interrupts and descriptors are let go, the device is closed (and so reset), the stream is closed. What waits for a
   * DMA fails. Idempotent.
   */
  close(reason = 'closed by the server'): void {
    if (this.#closed !== null) return;
    this.#closed = reason;
    const { stream, log, name, onEnd } = this.#options;
    this.#listening?.[Symbol.dispose]();
    this.#twinListening?.[Symbol.dispose]();
    this.#watchdog[Symbol.dispose]();
    const attached = this.#attached;
    this.#attached = null;
    if (attached !== null) this.#detach(attached, reason);
    for (const each of [this.#writer, this.#reader, stream]) this.#quietly('closing the stream', () => each[Symbol.dispose]());
    log.log('info', `${name} session`, `${name}: the client${this.#who()} is gone: ${reason}`);
    this.#resolveEnded(reason);
    onEnd(this);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Interrupts first, so that nothing is signalled any more; the device last, when nothing of the client can be reached through it. */
  #detach(attached: Attached, reason: string): void {
    const { device, dma, mappings, irqs, messages, twin, events } = attached;
    this.#quietly('ending DMA', () => dma.fail(new VfioError('ENODEV', `the client is gone: ${reason}`)));
    for (const each of [events, messages, irqs, mappings]) this.#quietly('letting go of the client', () => each[Symbol.dispose]());
    this.#quietly('closing the device', () => device[Symbol.dispose]());
    if (twin === null) return;
    for (const each of [twin.writer, twin.reader, twin.stream]) this.#quietly('closing the twin socket', () => each[Symbol.dispose]());
  }

  /** Whatever fails on the way out, the rest is let go too. */
  #quietly(what: string, act: () => void): void {
    try {
      act();
    } catch (error) {
      this.#bug(what, error);
    }
  }

  #who(): string {
    return this.peer === null ? '' : ` (pid ${this.peer.pid}, uid ${this.peer.uid})`;
  }

  #makeWriter(stream: ByteStream): FrameWriter {
    return new FrameWriter(stream, { onDrained: () => this.#drained(), onError: (error) => this.#broken(error) });
  }

  // --- the stream

  #listen(): void {
    this.#listening = this.#options.stream.listen(() => this.#readable(), { keepAlive: this.#options.keepAlive });
  }

  #readable(): boolean {
    const reader = this.#reader;
    try {
      const got = reader.fill();
      if (got === END_OF_STREAM) {
        this.close('it closed the connection');
        return false;
      }
      if (got > 0) this.#work();
    } catch (error) {
      this.#broken(error);
    }
    return this.#closed === null && this.#listening !== null;
  }

  /** Do what has arrived, as far as the client takes its replies. */
  #work(): void {
    const reader = this.#reader;
    const writer = this.#writer;
    while (this.#closed === null && !this.#mustWait() && reader.next()) {
      this.#command();
      if (writer.queued > FLUSH_BYTES) this.#flush(writer);
    }
    if (this.#closed !== null) return;
    if (writer.queued > 0) this.#flush(writer);
    if (reader.partial) {
      if (this.#partialSinceNs < 0) {
        this.#partialSinceNs = this.#options.clock.nowNs();
        this.#watchdog.wake();
      }
    } else this.#partialSinceNs = -1;
    if (this.#mustWait() && this.#listening !== null) {
      this.#listening[Symbol.dispose]();
      this.#listening = null;
    }
  }

  #mustWait(): boolean {
    return this.#writer.queued + this.#heldBytes > this.#options.limits.maxQueuedBytes;
  }

  #flush(writer: FrameWriter): void {
    if (writer.flush()) return;
    if (this.#blockedSinceNs < 0) this.#blockedSinceNs = this.#options.clock.nowNs();
    this.#watchdog.wake();
  }

  /** Everything that waited has gone. */
  #drained(): void {
    this.#blockedSinceNs = -1;
    this.#pump();
    this.#goOn();
  }

  /** Read again, beginning with what had arrived when reading stopped. */
  #goOn(): void {
    if (this.#closed !== null || this.#listening !== null || this.#mustWait()) return;
    try {
      this.#work();
    } catch (error) {
      this.#broken(error);
    }
    if (this.#closed === null && this.#listening === null && !this.#mustWait()) this.#listen();
  }

  /** The stream failed: the peer is gone, or what it sent cannot be continued. */
  #broken(error: unknown): void {
    if (error instanceof VfioError) this.close(error.message);
    else {
      this.#bug('serving', error);
      this.close('an error of the server');
    }
  }

  // --- commands

  /** The current message of the reader. */
  #command(): void {
    const reader = this.#reader;
    const { view, start } = reader;
    const command = view.getUint16(start + 2, true);
    const flags = view.getUint32(start + 8, true);
    this.commands++;
    const attached = this.#attached;
    try {
      if (attached === null) this.#handshake(command, flags);
      else if ((flags & HeaderFlags.TYPE_MASK) === HeaderFlags.REPLY) this.#reply(attached, flags);
      else {
        this.#checkWhole(flags);
        if (command === Command.REGION_READ || command === Command.REGION_WRITE || command === Command.REGION_WRITE_MULTI) {
          this.#region(attached, command, flags);
        } else this.#control(attached, command, flags);
      }
    } catch (error) {
      this.#failed(view.getUint16(start, true), command, flags, error);
      if (this.#attached === null) this.#end(error);
    }
  }

  #checkWhole(flags: number): void {
    const reader = this.#reader;
    if (reader.oversize || reader.broken) {
      const size = reader.view.getUint32(reader.start + 4, true);
      throw new VfioError(
        'EINVAL',
        `a message of ${size} bytes; from ${HEADER_BYTES} to ${this.#options.limits.maxDataBytes + OVERHEAD_BYTES}`,
      );
    }
    if ((flags & HeaderFlags.TYPE_MASK) !== HeaderFlags.COMMAND) throw new VfioError('EINVAL', `a message of type ${flags & 15}`);
  }

  #region(attached: Attached, command: number, flags: number): void {
    const { regions, device } = attached;
    const reader = this.#reader;
    const writer = this.#writer;
    if (reader.hasFds) throw unexpectedFds(command);
    let size: number;
    if (command === Command.REGION_READ) size = regions.read(reader, writer);
    else if (command === Command.REGION_WRITE) size = regions.write(reader, writer);
    else size = regions.writeMulti(reader, writer);
    const held = device.heldAnswer?.() ?? null;
    if ((flags & HeaderFlags.NO_REPLY) !== 0) return;
    if (held === null) writer.commit(size);
    else this.#hold(held, writer, size);
  }

  /** The device wants the reply that `begin` has room for to wait: keep it, and go on. */
  #hold(held: Promise<void>, writer: FrameWriter, size: number): void {
    const at = writer.begin(size);
    const reply = writer.bytes.slice(at, at + size);
    this.#heldBytes += size;
    void held.then(() => {
      this.#heldBytes -= size;
      if (this.#closed !== null) return;
      writer.bytes.set(reply, writer.begin(size));
      writer.commit(size);
      this.#send(writer);
      this.#goOn();
    });
  }

  /** Flush from outside a batch. */
  #send(writer: FrameWriter): void {
    try {
      this.#flush(writer);
    } catch (error) {
      this.#broken(error);
    }
  }

  #control(attached: Attached, command: number, flags: number): void {
    const reader = this.#reader;
    if (reader.tooManyFds) throw new VfioError('EINVAL', `${commandName(command)}: too many descriptors`);
    const takesFds = command === Command.DMA_MAP || command === Command.DEVICE_SET_IRQS || command === Command.DEVICE_FEATURE;
    if (!takesFds && reader.hasFds) throw unexpectedFds(command);
    const { start, size } = reader;
    const payload = reader.bytes.subarray(start + HEADER_BYTES, start + size);
    const fds = reader.takeFds();
    let answer: Answer;
    try {
      answer = this.#answer(attached, command, payload, fds);
    } finally {
      closeAll(fds);
    }
    if ((flags & HeaderFlags.NO_REPLY) !== 0) closeAll(answer.fds ?? []);
    else this.#put(reader.view.getUint16(start, true), command, answer.payload, answer.fds);
  }

  /** One call of the device each. @throws VfioError the errno to answer; EINVAL for a command that does not exist, or is not a client's */
  #answer({ device, mappings, irqs, messages }: Attached, command: number, payload: Uint8Array, fds: readonly OwnedFd[]): Answer {
    switch (command) {
      case Command.DMA_MAP:
        mappings.map(payload, fds);
        return { payload: EMPTY };
      case Command.DMA_UNMAP:
        return { payload: mappings.unmap(payload) };
      case Command.DEVICE_GET_INFO:
        return messages.info(payload);
      case Command.DEVICE_GET_REGION_INFO:
        return messages.regionInfo(payload);
      case Command.DEVICE_GET_REGION_IO_FDS:
        return messages.ioFds(payload);
      case Command.DEVICE_GET_IRQ_INFO:
        return { payload: irqs.info(payload) };
      case Command.DEVICE_SET_IRQS:
        irqs.set(payload, fds);
        return { payload: EMPTY };
      case Command.DEVICE_RESET:
        device.reset();
        return { payload: EMPTY };
      case Command.DIRTY_PAGES:
        return { payload: mappings.dirtyPages(payload) };
      case Command.DEVICE_FEATURE:
        return messages.feature(payload, fds);
      case Command.MIG_DATA_READ:
        return messages.migDataRead(payload);
      case Command.MIG_DATA_WRITE:
        return messages.migDataWrite(payload);
      case Command.VERSION:
        throw new VfioError('EINVAL', 'VERSION comes once');
      default:
        throw new VfioError('EINVAL', `${commandName(command)} is not one for a server`);
    }
  }

  /** A reply of the client on the main socket: to a DMA of ours, or to nothing. */
  #reply(attached: Attached, flags: number): void {
    const { dma, twin } = attached;
    const reader = this.#reader;
    if (twin === null && !reader.oversize && !reader.broken && dma.reply(reader)) {
      this.#pumpSoon();
      return;
    }
    // Answering an error with an error could go on for ever.
    if ((flags & HeaderFlags.ERROR) !== 0) return;
    throw new VfioError('EINVAL', 'a reply to nothing that was asked');
  }

  /** @param fds  the writer's from here on */
  #put(id: number, command: number, payload: Uint8Array, fds?: readonly OwnedFd[]): void {
    const writer = this.#writer;
    const size = HEADER_BYTES + payload.length;
    const at = writer.begin(size);
    putHeader(writer.view, at, id, command, size, HeaderFlags.REPLY);
    writer.bytes.set(payload, at + HEADER_BYTES);
    writer.commit(size, fds);
  }

  /** Answer with the errno: a header alone. With NO_REPLY not even that. */
  #failed(id: number, command: number, flags: number, error: unknown): void {
    if (!(error instanceof VfioError)) this.#bug(commandName(command), error);
    if (this.#closed !== null || (flags & HeaderFlags.NO_REPLY) !== 0) return;
    const writer = this.#writer;
    const at = writer.begin(HEADER_BYTES);
    putHeader(writer.view, at, id, command, HEADER_BYTES, HeaderFlags.REPLY | HeaderFlags.ERROR, Errno[errnoOf(error)]);
    writer.commit(HEADER_BYTES);
  }

  #bug(what: string, error: unknown): void {
    const { log, name } = this.#options;
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    log.log('error', `${name} ${what}`, `${name}: ${what}: ${text}`);
  }

  // --- VERSION

  /** The first message. @throws VfioError what is wrong with it: answered, and the connection ends */
  #handshake(command: number, flags: number): void {
    const reader = this.#reader;
    this.#checkWhole(flags);
    if (command !== Command.VERSION) throw new VfioError('EINVAL', `${commandName(command)} before VERSION`);
    if (reader.hasFds) throw unexpectedFds(command);
    const { start, size } = reader;
    const client = decodeVersion(reader.bytes.subarray(start + HEADER_BYTES, start + size));
    checkMajor(client);
    const device = this.#options.open(this.peer);
    let theirs: UnixSocket | null = null;
    try {
      const { pageSizes, available } = device.dma;
      const agreed = negotiate(client, { ...this.#ours, maxDmaMaps: available, pgsizes: pageSizes });
      let twin: Twin | null = null;
      if (agreed.capabilities.twinSocket !== null) [twin, theirs] = this.#makeTwin();
      this.#attach(device, client, agreed, twin);
      const { major, minor, capabilities } = agreed;
      const fds = theirs === null ? undefined : [theirs.release()];
      if ((flags & HeaderFlags.NO_REPLY) !== 0) closeAll(fds ?? []);
      else this.#put(reader.view.getUint16(start, true), command, encodeVersion(major, minor, capabilities), fds);
    } catch (error) {
      theirs?.[Symbol.dispose]();
      if (this.#attached === null) this.#quietly('closing the device', () => device[Symbol.dispose]());
      throw error;
    }
  }

  get #ours() {
    const { limits, stream } = this.#options;
    return {
      maxMsgFds: stream.carriesFds ? limits.maxMsgFds : 0,
      maxDataXferSize: limits.maxDataBytes,
      migration: null,
      twinSocket: stream.carriesFds,
    };
  }

  #makeTwin(): [Twin, UnixSocket] {
    const [stream, theirs] = UnixSocket.pair();
    const maxMessageBytes = this.#options.limits.maxDataBytes + OVERHEAD_BYTES;
    return [{ stream, reader: new FrameReader(stream, { maxMessageBytes, maxFds: 0 }), writer: this.#makeWriter(stream) }, theirs];
  }

  #attach(device: Device, client: VersionMessage, agreed: VersionMessage, twin: Twin | null): void {
    const { limits, clock, stream } = this.#options;
    const regions = new RegionMessages(device, limits.maxDataBytes);
    const dma = new DmaCommands({
      writer: twin?.writer ?? this.#writer,
      clock,
      maxDataBytes: Math.min(client.capabilities.maxDataXferSize, limits.maxDataBytes),
      askLayout: mayBeQemu(client),
      onQueued: () => this.#pumpSoon(),
    });
    this.#attached = {
      device,
      regions,
      dma,
      twin,
      mappings: new DmaMappings(device, dma, { ...limits, maxReplyBytes: limits.maxDataBytes }),
      irqs: new IrqMessages(device),
      messages: new DeviceMessages({
        device,
        region: (index) => regions.region(index),
        maxFds: stream.carriesFds ? Math.min(client.capabilities.maxMsgFds, limits.maxMsgFds) : 0,
        maxReplyBytes: limits.maxDataBytes,
      }),
      events: device.on((event) => {
        if (event.kind === 'suspend') event.acknowledge();
        else if (event.kind === 'gone') queueMicrotask(() => this.close(event.reason));
      }),
    };
    this.#version = agreed;
    if (twin !== null) this.#twinListening = twin.stream.listen(() => this.#twinReadable(twin));
  }

  /** The first message was refused: nothing can be done with this client. */
  #end(error: unknown): void {
    this.#send(this.#writer);
    this.close(error instanceof VfioError ? error.message : 'an error of the server');
  }

  // --- DMA by message

  #twinReadable({ reader }: Twin): boolean {
    try {
      const got = reader.fill();
      if (got === END_OF_STREAM) {
        this.close('it closed the twin socket');
        return false;
      }
      while (this.#attached !== null && reader.next()) {
        const flags = reader.view.getUint32(reader.start + 8, true);
        const sound = !reader.oversize && !reader.broken && (flags & HeaderFlags.TYPE_MASK) === HeaderFlags.REPLY;
        // There is nobody to answer here: commands come on the main socket, and a reply to nothing has none.
        if (!sound || !this.#attached.dma.reply(reader)) throw new VfioError('EPROTO', 'the twin socket carries what is no reply');
      }
      this.#pumpSoon();
    } catch (error) {
      this.#broken(error);
    }
    return this.#closed === null;
  }

  /** When whoever runs now is done: what they do may make more, and nothing may be put into a writer in the middle of a message. */
  #pumpSoon(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    queueMicrotask(() => {
      this.#pumping = false;
      this.#pump();
    });
  }

  #pump(): void {
    const attached = this.#attached;
    if (attached === null) return;
    attached.dma.pump();
    if (attached.dma.underWay > 0) this.#watchdog.wake();
    const writer = attached.twin?.writer ?? this.#writer;
    if (writer.queued > 0 && !writer.blocked) this.#send(writer);
  }

  // --- time

  /** Whether somebody waits still. */
  #look(): boolean {
    const { clock, limits } = this.#options;
    const now = clock.nowNs();
    const over = (sinceNs: number, ms: number): boolean => sinceNs >= 0 && now - sinceNs >= ms * 1e6;
    const attached = this.#attached;
    if (attached === null && over(this.#startedNs, limits.handshakeTimeoutMs)) this.close('it did not negotiate a version in time');
    else if (over(this.#partialSinceNs, limits.messageTimeoutMs)) this.close('it stopped in the middle of a message');
    else if (over(this.#blockedSinceNs, limits.stallTimeoutMs)) this.close('it does not take its replies');
    else if (attached !== null && !attached.dma.expire(now - limits.dmaTimeoutMs * 1e6)) this.close('it does not answer DMA');
    if (this.#closed !== null) return false;
    const waiting = this.#partialSinceNs >= 0 || this.#blockedSinceNs >= 0;
    return attached === null || waiting || attached.dma.underWay > 0;
  }
}

function unexpectedFds(command: number): VfioError {
  return new VfioError('EINVAL', `${commandName(command)} brings descriptors, which it does not take`);
}
