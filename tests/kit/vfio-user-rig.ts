/**
 * A server over a scripted device, and a client that sends single messages: for tests of the wire.
 */
import { HEADER_BYTES, Header, HeaderFlags } from '../../src/abi/vfio-user.ts';
import { errnoName } from '../../src/base/errno.ts';
import type { DeviceFile } from '../../src/engine/device/device-file.ts';
import type { EventStream } from '../../src/events/stream.ts';
import type { PciDeclaration } from '../../src/pci/declaration.ts';
import type { ByteStream } from '../../src/sys/byte-stream.ts';
import { MemfdMemory } from '../../src/sys/memfd.ts';
import type { OwnedFd } from '../../src/sys/owned-fd.ts';
import { closeAll, FrameReader } from '../../src/vfio-user/frames.ts';
import { type Capabilities, Command, encodeMessage, encodeVersion, viewOf } from '../../src/vfio-user/messages.ts';
import { VfioUserServer, type VfioUserServerOptions } from '../../src/vfio-user/server.ts';
import type { Session } from '../../src/vfio-user/session.ts';
import { DeviceRig, type DeviceRigOptions } from './device-rig.ts';
import { MemoryStream, type MemoryStreamOptions } from './memory-stream.ts';

export interface Message {
  readonly id: number;
  readonly command: number;
  readonly flags: number;
  /** The errno's name, null for a success. */
  readonly error: string | null;
  readonly payload: Uint8Array;
  readonly fds: OwnedFd[];
}

export class RawClient implements Disposable {
  readonly stream: ByteStream;
  readonly #reader: FrameReader;
  /** Messages that came and that no test took yet. */
  readonly inbox: Message[] = [];
  /** The server closed the connection. */
  ended = false;
  #id = 0x7ff0;

  constructor(stream: ByteStream) {
    this.stream = stream;
    this.#reader = new FrameReader(stream, { maxMessageBytes: 2 ** 26 });
  }

  /** @returns the id that was used */
  send(
    command: number,
    payload: Uint8Array = new Uint8Array(0),
    options: { fds?: readonly OwnedFd[]; flags?: number; id?: number } = {},
  ): number {
    const id = options.id ?? ++this.#id & 0xffff;
    this.raw(encodeMessage(id, command as Command, payload, options.flags ?? 0), options.fds);
    return id;
  }

  raw(bytes: Uint8Array, fds?: readonly OwnedFd[]): void {
    for (let at = 0; at < bytes.length; ) {
      const taken = this.stream.send(bytes, at, bytes.length, at === 0 ? fds : undefined);
      if (taken < 0) throw new Error('the stream is full');
      at += taken;
    }
  }

  /** Read the messages that came. */
  receive(): void {
    for (;;) {
      const got = this.#reader.fill();
      if (got === 0) this.ended = true;
      if (got <= 0) return;
      while (this.#reader.next()) this.inbox.push(this.#message());
    }
  }

  #message(): Message {
    const { view, start, size, bytes } = this.#reader;
    const { id, command, flags, error } = Header.decode(view, start);
    return {
      id,
      command,
      flags,
      error: (flags & HeaderFlags.ERROR) === 0 ? null : (errnoName(error) ?? String(error)),
      payload: bytes.slice(start + HEADER_BYTES, start + size),
      fds: this.#reader.takeFds(),
    };
  }

  /** The next message, once it is there. The test's own limit is the only bound. */
  async next(): Promise<Message> {
    for (let turns = 0; ; turns++) {
      const message = this.inbox.shift();
      if (message !== undefined) return message;
      if (this.ended) throw new Error('the server closed the connection');
      await turn(turns);
      this.receive();
    }
  }

  /** Send a command and give its reply. */
  async request(
    command: number,
    payload?: Uint8Array,
    options: { fds?: readonly OwnedFd[]; flags?: number; id?: number } = {},
  ): Promise<Message> {
    const id = this.send(command, payload, options);
    const reply = await this.next();
    if (reply.id !== id || reply.command !== command || (reply.flags & 0xf) !== HeaderFlags.REPLY) {
      throw new Error(
        `message ${reply.id} (command ${reply.command}, flags ${reply.flags}) is not the reply to ${id} (command ${command})`,
      );
    }
    return reply;
  }

  /**
   * The errno of the reply to a command, null for a success. Descriptors of the reply are closed.
   */
  async errnoOf(command: number, payload?: Uint8Array, options: { fds?: readonly OwnedFd[]; flags?: number } = {}): Promise<string | null> {
    const { error, payload: rest, fds } = await this.request(command, payload, options);
    closeAll(fds);
    if (error !== null && rest.length > 0) throw new Error('an error reply with a payload');
    return error;
  }

  /** No message comes until all work has ended. */
  async silence(): Promise<void> {
    await settle();
    this.receive();
    if (this.inbox.length > 0) throw new Error(`command ${this.inbox[0]!.command} came`);
  }

  /** Answer a command of the server. */
  reply({ id, command }: Message, payload: Uint8Array = new Uint8Array(0), flags: number = HeaderFlags.REPLY, error = 0): void {
    this.raw(encodeMessage(id, command as Command, payload, flags, error));
  }

  /** VERSION as the tests of libvfio-user send it, unless `capabilities` differ. */
  async hello(capabilities: Partial<Capabilities> = { maxMsgFds: 8 }, minor = 1): Promise<Message> {
    const reply = await this.request(Command.VERSION, encodeVersion(0, minor, capabilities));
    if (reply.error !== null) throw new Error(`VERSION: ${reply.error}`);
    return reply;
  }

  [Symbol.dispose](): void {
    for (const { fds } of this.inbox.splice(0)) closeAll(fds);
    this.#reader[Symbol.dispose]();
    this.stream[Symbol.dispose]();
  }
}

/** Let microtasks run, and now and then the event loop. */
async function turn(count: number): Promise<void> {
  if (count % 20 === 19) await new Promise((resolve) => setImmediate(resolve));
  else await Promise.resolve();
}

/** Until all work has ended. */
export async function settle(turns = 60): Promise<void> {
  for (let i = 0; i < turns; i++) await turn(i);
}

export interface ServerRigOptions extends DeviceRigOptions {
  readonly declaration?: PciDeclaration;
  readonly stream?: MemoryStreamOptions;
  readonly server?: Partial<VfioUserServerOptions>;
  /** The server emits to the machine's stream, too. Default: false. */
  readonly oneStream?: boolean;
}

export class ServerRig implements Disposable {
  readonly rig: DeviceRig;
  readonly server: VfioUserServer;
  readonly opened: DeviceFile[] = [];
  readonly logged: string[] = [];
  readonly #stream: MemoryStreamOptions;

  constructor(options: ServerRigOptions = {}) {
    this.rig = new DeviceRig(options.declaration, options);
    this.#stream = options.stream ?? {};
    this.server = new VfioUserServer({
      name: 'rig',
      clock: this.rig.clock,
      log: { log: (level, message) => void this.logged.push(`${level}: ${message}`) },
      open: () => {
        const file = this.rig.open();
        this.opened.push(file);
        return file;
      },
      ...(options.oneStream === true ? { events: this.events, device: this.rig.bdf } : {}),
      ...options.server,
    });
  }

  /** The machine's stream. */
  get events(): EventStream {
    return this.rig.machine.context.stream;
  }

  /** A connection. */
  connect(): { readonly client: RawClient; readonly session: Session } {
    const [ours, theirs] = MemoryStream.pair(this.#stream);
    return { client: new RawClient(theirs), session: this.server.serve(ours) };
  }

  /** A connection that has sent VERSION, with memory decoding and bus mastering on. */
  async attach(capabilities?: Partial<Capabilities>): Promise<{ readonly client: RawClient; readonly session: Session }> {
    const made = this.connect();
    await made.client.hello(capabilities);
    this.opened.at(-1)!.region(7).write16(4, 6);
    return made;
  }

  [Symbol.dispose](): void {
    this.server[Symbol.dispose]();
  }
}

/** Memory of a client: real, so that its descriptor can be sent. */
export function clientMemory(size: number): MemfdMemory {
  return MemfdMemory.allocate(size) as MemfdMemory;
}

export { Command, viewOf };
