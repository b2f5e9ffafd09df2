/**
 * A device at the other end of a vfio-user connection, of our server or of any other. A program
 * uses it as any `Device`. A register access blocks this thread until the server has answered, so
 * the server must be in another process or thread.
 *
 * The protocol does not carry a device's name (the client names it after its socket), IOVA ranges,
 * and the devices that a bus reset would reset as well. 'request' and 'error' come as the
 * interrupts REQ and ERR, when the server has them; 'suspend', 'asleep' and 'resume' by a feature
 * of our servers. A BAR that the server does not share is mapped by messages if it is memory of
 * whole pages, whether or not the device itself would let it be mapped. The MSI-X table is hidden
 * in such a mapping, as in reads and writes.
 *
 * @see qemu/docs/interop/vfio-user.rst
 */
import {
  type Device,
  type DeviceEvent,
  type DeviceEventKind,
  type DeviceInfo,
  deviceEventKinds,
  type FeatureRequest,
  type HotResetDependent,
  type IrqInfo,
  type Region,
  type SetIrqs,
} from '../abi/device.ts';
import type { EventFlow, EventKind, EventOf, EventOptions, EventPort } from '../abi/event.ts';
import { parseVfToken } from '../abi/vf-token.ts';
import { Feature, IrqIndex, RegionIndex } from '../abi/vfio.ts';
import { CapabilityDefaults } from '../abi/vfio-user.ts';
import { checkIndex } from '../base/check.ts';
import { Cleanup } from '../base/cleanup.ts';
import { VfioError } from '../base/errno.ts';
import { INSPECT } from '../base/inspect.ts';
import { silentLogger } from '../base/log.ts';
import { seenOpen } from '../events/open-event.ts';
import type { EventSource } from '../events/source.ts';
import { type EventStream, streamOf } from '../events/stream.ts';
import type { ByteStream } from '../sys/byte-stream.ts';
import { UnixSocket } from '../sys/unix-socket.ts';
import { ClientConnection, REQUEST_DATA_BYTES } from './client/connection.ts';
import { ClientDmaLogging } from './client/dma-logging.ts';
import { ClientDmaSpace } from './client/dma-space.ts';
import { ClientEvents } from './client/events.ts';
import { ClientFeatures } from './client/features.ts';
import { ClientInterrupts } from './client/interrupts.ts';
import { ClientLowPower } from './client/low-power.ts';
import { MappedMemory } from './client/mapped-memory.ts';
import type { ClientMapping, RegionOwner } from './client/mapping.ts';
import { MemoryGate } from './client/memory-gate.ts';
import { ClientMigration } from './client/migration.ts';
import type { AdoptedMemory, VfioUserOptions } from './client/options.ts';
import { ClientPlatform } from './client/platform.ts';
import { ClientRegion } from './client/region.ts';
import { describeRegion } from './client/region-description.ts';
import { ClientRegionIo } from './client/region-io.ts';
import type { RegionMemory } from './client/region-memory.ts';
import { ClientServing } from './client/serving.ts';
import { type Agreed, agreeOnVersion, askDeviceInfo, checkNotOurselves, takeOver } from './client/start.ts';
import { MessageEvents } from './message-events.ts';
import { Command } from './messages.ts';

export type { AdoptedMemory, VfioUserOptions } from './client/options.ts';

export class VfioUserDevice implements Device, RegionOwner {
  /**
   * The mappings that came with an adopted device, in order of addresses. They stay until they are
   * unmapped.
   */
  readonly adopted: readonly AdoptedMemory[];
  readonly gate: MemoryGate;
  readonly #info: DeviceInfo;
  readonly #connection: ClientConnection;
  readonly #agreed: Agreed;
  readonly #memory: MappedMemory;
  readonly #dma: ClientDmaSpace;
  readonly #interrupts: ClientInterrupts;
  readonly #features: ClientFeatures;
  readonly #migration: ClientMigration;
  readonly #dmaLogging: ClientDmaLogging;
  readonly #lowPower: ClientLowPower;
  readonly #platform: ClientPlatform;
  readonly #posted: boolean;
  readonly #stream: EventStream;
  readonly #source: EventSource;
  /** The device's stream, or its part of one that was given: ends with the device. */
  readonly #ownEvents: Disposable;
  readonly #ios: (ClientRegionIo | undefined)[] = [];
  readonly #regions: (ClientRegion | undefined)[] = [];
  readonly #regionMemories: RegionMemory[] = [];
  readonly #mappings = new Set<ClientMapping>();
  readonly #events: ClientEvents;
  /** `close` was called; mappings may still hold the connection. */
  closed = false;
  #released = false;

  private constructor(
    connection: ClientConnection,
    memory: MappedMemory,
    agreed: Agreed,
    info: DeviceInfo,
    adopted: readonly AdoptedMemory[],
    stream: EventStream,
    options: VfioUserOptions,
  ) {
    this.adopted = adopted;
    this.#info = info;
    this.#connection = connection;
    this.#memory = memory;
    this.#agreed = agreed;
    this.#posted = options.postedWrites ?? false;
    this.#stream = stream;
    this.#source = connection.messages.source;
    this.#ownEvents = options.events === undefined ? stream : this.#source;
    connection.messages.isMemory = (index, offset) => this.#regions[index]?.isMemory(offset) === true;
    this.#dma = new ClientDmaSpace(
      connection,
      memory,
      { pageSizes: agreed.pgsizes, maxMaps: agreed.maxDmaMaps, maxBytes: Math.min(agreed.maxDataXferSize, connection.maxDataBytes) },
      () => this.checkOpen(),
    );
    const maxBytes = Math.min(agreed.maxDataXferSize, connection.maxDataBytes);
    this.#features = new ClientFeatures(connection);
    this.#migration = new ClientMigration(this.#features, maxBytes, () => this.gate.changed());
    this.#dmaLogging = new ClientDmaLogging(this.#features, memory, maxBytes);
    this.#interrupts = new ClientInterrupts(connection, info.numIrqs, agreed.maxMsgFds, (index) =>
      this.#events.emit({ kind: index === IrqIndex.ERR ? 'error' : 'request' }),
    );
    this.gate = new MemoryGate(this.#io(RegionIndex.CONFIG));
    this.#lowPower = new ClientLowPower(this.#features, this.gate);
    this.#platform = new ClientPlatform(this.#io(RegionIndex.CONFIG), this.gate, {
      barSize: (index) => this.#barSize(index),
      unmask: (index, vectors) => this.#interrupts.unmask(index, vectors),
    });
    this.#events = new ClientEvents({
      name: info.name,
      events: this.#source,
      connection,
      setInterrupts: (indexes) => this.#interrupts.setEvents(indexes),
      setFeature: (feature, data, eventFds) => this.#features.set(feature, data, eventFds),
    });
    this.#interrupts.onEnabled = (index, vectors) => this.#platform.messages(index, vectors);
    connection.onLost = (reason) => this.#lost(reason);
  }

  /**
   * Connects to a server and agrees with it on the capabilities of both.
   *
   * @param target the path of its socket, or a stream to it, which the client takes over
   * @throws VfioError ENOENT, ECONNREFUSED, EACCES when no server listens at the path; EBUSY or,
   *   from servers that let a client wait, ETIMEDOUT when it serves a different client; EDEADLK
   *   when this thread is the server; EACCES when it wants a VF token; EPROTO when it is no
   *   vfio-user server, or speaks another version; ENODEV when it closes the connection
   */
  static connect(target: string | ByteStream, options: VfioUserOptions = {}): VfioUserDevice {
    const vfToken = options.token === undefined ? null : parseVfToken(options.token);
    if (options.token !== undefined && vfToken === null) throw new VfioError('EINVAL', 'the VF token given is not a UUID');
    const name = options.name ?? (typeof target === 'string' ? `unix:${target}` : 'vfio-user');
    const events = streamOf(options.events, { log: options.log ?? silentLogger });
    const source = events.source(name);
    try {
      return seenOpen(source, process.pid, () => VfioUserDevice.#connect(target, name, vfToken, events, source, options));
    } catch (error) {
      (options.events === undefined ? events : source)[Symbol.dispose]();
      throw error;
    }
  }

  static #connect(
    target: string | ByteStream,
    name: string,
    vfToken: Uint8Array | null,
    events: EventStream,
    source: EventSource,
    options: VfioUserOptions,
  ): VfioUserDevice {
    if (typeof target === 'string') checkNotOurselves(target);
    using undo = new Cleanup();
    const stream = undo.use(typeof target === 'string' ? UnixSocket.connect(target) : target);
    if (stream.spins !== undefined) stream.spins = options.spin ?? true;
    const messages = new MessageEvents(source);
    const maxDataBytes = CapabilityDefaults.MAX_DATA_XFER_SIZE;
    const connection = undo.use(new ClientConnection(stream, { name, timeoutMs: options.timeoutMs ?? 10_000, maxDataBytes, messages }));
    const memory = new MappedMemory();
    undo.defer(() => memory.clear());
    new ClientServing(connection, memory);
    const { twinSocket = true, adopt = false } = options;
    const { agreed, adopted } = agreeOnVersion(connection, { twinSocket, vfToken, adopt });
    const came = adopted === null ? [] : takeOver(connection, memory, adopted);
    const info: DeviceInfo = { name, ...askDeviceInfo(connection) };
    const device = new VfioUserDevice(connection, memory, agreed, info, came, events, options);
    connection.listen(options.keepAlive ?? false);
    undo.move();
    return device;
  }

  [INSPECT](): string {
    return `VfioUserDevice ${this.#info.name}${this.closed ? ', closed' : this.#connection.lost === null ? '' : `, lost: ${this.#connection.lost}`}`;
  }

  /** @throws VfioError ENODEV when the device is closed, or the server is gone */
  checkOpen(): void {
    if (this.closed) throw new VfioError('ENODEV', `${this.#info.name} is closed`);
    if (this.#connection.lost !== null) throw this.#connection.lostError();
  }

  get info(): DeviceInfo {
    this.checkOpen();
    return this.#info;
  }

  region(index: number): Region {
    this.checkOpen();
    checkIndex(index, this.#info.numRegions - 1, `${this.#info.name}: region index`);
    let region = this.#regions[index];
    if (region === undefined) {
      const { info, memory } = describeRegion(this.#connection, this.#io(RegionIndex.CONFIG), index);
      if (memory !== null) this.#regionMemories.push(memory);
      region = new ClientRegion(this, this.#io(index), info, memory);
      this.#regions[index] = region;
    }
    return region;
  }

  /** 0 for a BAR that the server does not have, or describes in a way that cannot be right. */
  #barSize(index: number): number {
    try {
      return this.region(index).info.size;
    } catch (error) {
      if (!(error instanceof VfioError) || this.#connection.lost !== null) throw error;
      return 0;
    }
  }

  #io(index: number): ClientRegionIo {
    let io = this.#ios[index];
    if (io === undefined) {
      const readBytes = Math.min(this.#agreed.maxDataXferSize, this.#connection.maxDataBytes);
      const writeBytes = Math.min(this.#agreed.maxDataXferSize, REQUEST_DATA_BYTES);
      io = new ClientRegionIo(this.#connection, index, { readBytes, writeBytes, posted: this.#posted });
      this.#ios[index] = io;
    }
    return io;
  }

  irq(index: number): IrqInfo {
    this.checkOpen();
    return this.#interrupts.info(index);
  }

  setIrqs(request: SetIrqs): number {
    this.checkOpen();
    return this.#interrupts.set(request);
  }

  reset(): void {
    if (this.#source.on) this.#source.attempt('reset', { by: 'VFIO_DEVICE_RESET' }, () => this.#reset());
    else this.#reset();
  }

  #reset(): void {
    this.checkOpen();
    const errno = this.#connection.request(Command.DEVICE_RESET, 0);
    this.gate.changed();
    if (errno !== 0) throw this.#connection.failure(errno, 'DEVICE_RESET');
    this.#migration.changed();
    this.#platform.wasReset();
  }

  /** @throws VfioError ENODEV always: the protocol has no such question, and no reset of a bus */
  hotResetInfo(): readonly HotResetDependent[] {
    this.checkOpen();
    throw new VfioError('ENODEV', `${this.#info.name}: vfio-user knows no reset of a bus`, { fix: 'Use reset().' });
  }

  feature(request: FeatureRequest): number {
    this.checkOpen();
    return this.#features.raw(request);
  }

  get migration(): ClientMigration {
    this.checkOpen();
    return this.#migration;
  }

  get dmaLogging(): ClientDmaLogging {
    this.checkOpen();
    return this.#dmaLogging;
  }

  get lowPower(): ClientLowPower {
    this.checkOpen();
    return this.#lowPower;
  }

  setVfToken(token: Uint8Array): void {
    this.checkOpen();
    this.#features.set(Feature.PCI_VF_TOKEN, token);
  }

  get dma(): ClientDmaSpace {
    this.checkOpen();
    return this.#dma;
  }

  awake(): Promise<void> | null {
    return this.#events.awake();
  }

  on(listener: (event: DeviceEvent) => void, kinds: readonly DeviceEventKind[] = deviceEventKinds): Disposable {
    this.checkOpen();
    return this.#events.on(listener, kinds);
  }

  events<K extends EventKind = EventKind>(options: EventOptions<K> = {}): EventFlow<EventOf<K | 'dropped'>> {
    return this.#stream.read({ devices: [this.#info.name], ...options });
  }

  get eventPort(): EventPort {
    return this.#source;
  }

  #lost(reason: string): void {
    this.#source.note('warn', 'connection', `${this.#info.name}: ${reason}`);
    this.#release();
    // Later, because the current call may be the one that found out.
    queueMicrotask(() => {
      this.#events.emit({ kind: 'gone', reason });
      this.#events.close();
    });
  }

  held(mapping: ClientMapping): void {
    this.#mappings.add(mapping);
  }

  dropped(mapping: ClientMapping): void {
    this.#mappings.delete(mapping);
    if (this.closed && this.#mappings.size === 0) this.#release();
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.#events.close();
    if (this.#mappings.size === 0) this.#release();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * The end of the connection: the server closes the device, and the memory that the client lent is
   * free. Idempotent.
   */
  #release(): void {
    if (this.#released) return;
    this.#released = true;
    const { lost } = this.#connection;
    this.#connection[Symbol.dispose]();
    this.#migration.end('the connection has ended');
    this.#dmaLogging.end();
    this.#interrupts[Symbol.dispose]();
    this.#events[Symbol.dispose]();
    this.#lowPower[Symbol.dispose]();
    this.#memory.clear();
    for (const memory of this.#regionMemories.splice(0)) memory[Symbol.dispose]();
    if (this.#source.on) {
      this.#source.emit('open', { step: 'closed', pid: process.pid, ...(lost === null ? {} : { errno: 'ENODEV', reason: lost }) });
    }
    this.#ownEvents[Symbol.dispose]();
  }
}
