/**
 * A proxy between a vfio-user client and its server. The proxy passes every message on as it came,
 * bytes and descriptors, and emits it. It puts a twin socket of its own in the place of one that
 * the server gives the client, so that the messages on the twin socket are seen too.
 */
import type { MessageEvent } from '../../abi/event.ts';
import { HEADER_BYTES, Header, HeaderFlags } from '../../abi/vfio-user.ts';
import { Cleanup } from '../../base/cleanup.ts';
import type { EventSource } from '../../events/source.ts';
import type { ByteStream } from '../../sys/byte-stream.ts';
import type { OwnedFd } from '../../sys/owned-fd.ts';
import { UnixSocket } from '../../sys/unix-socket.ts';
import { FrameWriter } from '../../vfio-user/frame-writer.ts';
import { closeAll, FrameReader } from '../../vfio-user/frames.ts';
import { MessageEvents } from '../../vfio-user/message-events.ts';
import { Command, decodeVersion } from '../../vfio-user/messages.ts';

/**
 * Longer messages end the connection: no peer allows them, and the proxy would keep them in whole.
 */
const MESSAGE_MAX = 2 ** 27;
/** While so much waits for a slow reader, the proxy takes nothing more from the other side. */
const QUEUE_BYTES = 8 * 2 ** 20;

export interface ProxyOptions {
  /** Where the messages are emitted: each reply with its command as the cause. */
  readonly events: EventSource;
  /** Called after each. */
  readonly onMessage?: () => void;
  /** Called once, with the reason, when the connection is over. */
  readonly onEnd?: (reason: string) => void;
}

export class MessageProxy implements Disposable {
  readonly #options: ProxyOptions;
  readonly #cleanup = new Cleanup();
  readonly #messages: MessageEvents;
  /** `seq` of commands that wait for their reply, by id and socket. */
  readonly #commands = new Map<number, number>();
  #ended = false;

  /** Takes both over. */
  constructor(client: UnixSocket, server: UnixSocket, options: ProxyOptions) {
    this.#options = options;
    this.#messages = new MessageEvents(options.events);
    this.#join(client, server, false);
  }

  /** Ends the connection on both sides. Idempotent. */
  [Symbol.dispose](): void {
    this.#end('the proxy ended it');
  }

  #join(client: UnixSocket, server: UnixSocket, twin: boolean): void {
    this.#cleanup.use(client);
    this.#cleanup.use(server);
    this.#way(client, server, 'to server', twin);
    this.#way(server, client, 'to client', twin);
  }

  /** One way: what `from` says goes to `to`. */
  #way(from: ByteStream, to: ByteStream, direction: MessageEvent['direction'], twin: boolean): void {
    const reader = this.#cleanup.use(new FrameReader(from, { maxMessageBytes: MESSAGE_MAX }));
    let listening: Disposable | null = null;
    let over: string | null = null;
    const fail = (error: unknown) => this.#end(error instanceof Error ? error.message : String(error));
    const listen = () => {
      listening = from.listen(() => {
        try {
          return pump();
        } catch (error) {
          fail(error);
          return false;
        }
      });
    };
    const writer = this.#cleanup.use(
      new FrameWriter(to, {
        onError: fail,
        onDrained: () => {
          if (over !== null) this.#end(over);
          else if (listening === null) listen();
        },
      }),
    );
    const pump = (): boolean => {
      const got = reader.fill();
      if (got === 0) {
        listening = null;
        over = direction === 'to server' ? 'the client left' : 'the server left';
        if (writer.queued === 0) this.#end(over);
        return false;
      }
      if (got < 0) return true;
      while (reader.next()) {
        if (reader.oversize) throw new Error(`a message of more than ${MESSAGE_MAX} bytes`);
        this.#pass(reader, writer, direction, twin);
      }
      writer.flush();
      if (writer.queued < QUEUE_BYTES) return true;
      listening?.[Symbol.dispose]();
      listening = null;
      return false;
    };
    this.#cleanup.defer(() => listening?.[Symbol.dispose]());
    listen();
  }

  #pass(reader: FrameReader, writer: FrameWriter, direction: MessageEvent['direction'], twin: boolean): void {
    const bytes = reader.bytes.subarray(reader.start, reader.start + reader.size);
    const fds = reader.takeFds();
    try {
      if (this.#messages.on) this.#emit(reader, fds, direction, twin);
      this.#options.onMessage?.();
      if (direction === 'to client' && fds.length > 0) this.#joinTwin(reader, bytes, fds);
    } catch (error) {
      // No other code has them: a failure must not cost a descriptor for each message.
      closeAll(fds);
      throw error;
    }
    const at = writer.begin(bytes.length);
    writer.bytes.set(bytes, at);
    writer.commit(bytes.length, fds);
  }

  #emit({ bytes, view, start, size }: FrameReader, fds: readonly OwnedFd[], direction: MessageEvent['direction'], twin: boolean): void {
    const { source } = this.#messages;
    const toServer = direction === 'to server';
    const flags = Header.flags.get(view, start);
    const isReply = (flags & HeaderFlags.TYPE_MASK) === HeaderFlags.REPLY;
    // The command went the other way.
    const key = Header.id.get(view, start) * 4 + (twin ? 2 : 0) + (toServer === isReply ? 1 : 0);
    source.cause = isReply ? (this.#commands.get(key) ?? 0) : 0;
    const names = fds.length === 0 ? undefined : fds.map((fd) => fd.describe()).join(', ');
    const seq = this.#messages.emit(toServer, twin, bytes, view, start, size, fds.length, names);
    source.cause = 0;
    if (isReply) this.#commands.delete(key);
    else if ((flags & HeaderFlags.NO_REPLY) === 0) this.#commands.set(key, seq);
  }

  /**
   * When `bytes` is the VERSION reply that brings a twin socket: keeps it, and puts one in its
   * place that leads through the proxy.
   */
  #joinTwin(reader: FrameReader, bytes: Uint8Array, fds: OwnedFd[]): void {
    const { start, view } = reader;
    if (Header.command.get(view, start) !== Command.VERSION || (Header.flags.get(view, start) & HeaderFlags.ERROR) !== 0) return;
    let index: number | undefined;
    try {
      index = decodeVersion(bytes.subarray(HEADER_BYTES)).capabilities.twinSocket?.fdIndex;
    } catch {
      // The client finds the fault itself.
      return;
    }
    if (index === undefined || index >= fds.length) return;
    const server = UnixSocket.fromFd(fds[index]!);
    const [ours, theirs] = UnixSocket.pair();
    fds[index] = theirs.release();
    this.#join(ours, server, true);
  }

  #end(reason: string): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#cleanup[Symbol.dispose]();
    this.#options.onEnd?.(reason);
  }
}
