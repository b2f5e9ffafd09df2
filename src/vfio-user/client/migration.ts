/**
 * Moves a device at the other end of a connection: the features whose data has another form in the
 * protocol, and messages where the kernel gives a descriptor. The client notes itself what the
 * server writes by messages, because a server need not count that as its own.
 */
import type { FeatureRequest, MigrationStream, PrecopyInfo } from '../../abi/device.ts';
import { DMA_LOGGING_MAX_RANGES, Feature, FeatureFlags, MigrationState } from '../../abi/vfio.ts';
import {
  DeviceFeature,
  FeatureDmaLoggingControl,
  FeatureDmaLoggingRange,
  FeatureDmaLoggingReport,
  FeatureMigState,
} from '../../abi/vfio-structs.ts';
import { HEADER_BYTES } from '../../abi/vfio-user.ts';
import { hex, U64_MAX } from '../../base/check.ts';
import { Errno, VfioError } from '../../base/errno.ts';
import {
  Command,
  decodePrecopyInfo,
  encodePrecopyInfo,
  MigData,
  UserDmaLoggingControl,
  UserDmaLoggingReport,
  viewOf,
} from '../messages.ts';
import { type ClientConnection, REQUEST_DATA_BYTES } from './connection.ts';
import type { MappedMemory } from './mapped-memory.ts';

const PAGE = 4096n;
const DATA_AT = HEADER_BYTES + DeviceFeature.structSize;

/** States of a stream. A change from one of the first set to another keeps the stream. */
const saving: ReadonlySet<number> = new Set([MigrationState.STOP_COPY, MigrationState.PRE_COPY, MigrationState.PRE_COPY_P2P]);
const precopying: ReadonlySet<number> = new Set([MigrationState.PRE_COPY, MigrationState.PRE_COPY_P2P]);

function streamOf(state: number): 'saving' | 'resuming' | null {
  return saving.has(state) ? 'saving' : state === MigrationState.RESUMING ? 'resuming' : null;
}

export class ClientMigration {
  readonly #connection: ClientConnection;
  readonly #memory: MappedMemory;
  readonly #maxBytes: number;
  #stream: ClientStream | null = null;
  /** DMA_LOGGING_START was answered, and STOP not yet. */
  #logging = false;

  /** @param maxBytes  of data in one message of the server */
  constructor(connection: ClientConnection, memory: MappedMemory, maxBytes: number) {
    this.#connection = connection;
    this.#memory = memory;
    this.#maxBytes = maxBytes;
  }

  /** Null for a request that goes to the server as it is. @throws VfioError as the engine */
  feature(request: FeatureRequest): number | null {
    const { feature, probe, get, set } = request;
    if (probe === true || (get === true) === (set === true)) return null;
    if (feature === Feature.MIG_DEVICE_STATE && set) return this.#setState(request);
    if (feature === Feature.DMA_LOGGING_START && set) return this.#startLogging(request);
    if (feature === Feature.DMA_LOGGING_STOP && set) return this.#stopLogging();
    if (feature === Feature.DMA_LOGGING_REPORT && get) return this.#report(request);
    return null;
  }

  /** The device was reset, or is gone: its stream may be over. */
  changed(): void {
    const stream = this.#stream;
    if (stream === null) return;
    const state = this.#connection.lost === null ? this.#state() : -1;
    if (state === stream.state) return;
    stream.end('the device was reset');
    this.#stream = null;
  }

  /** @returns 0, or the errno; what is sent is in the connection's buffer from DATA_AT on */
  #send(feature: number, op: number, data: number, room = data): number {
    const { out } = this.#connection;
    DeviceFeature.encode(out, HEADER_BYTES, { argsz: DeviceFeature.structSize + room, flags: feature | op });
    return this.#connection.request(Command.DEVICE_FEATURE, DeviceFeature.structSize + data);
  }

  /**
   * Checks whether the device has the feature, before anything is said about the data.
   * @throws VfioError ENOTTY
   */
  #probe(feature: number, op: number): void {
    const errno = this.#send(feature, op | FeatureFlags.PROBE, 0);
    if (errno !== 0) throw this.#connection.failure(errno, `feature ${feature}`);
  }

  /** Bytes of the reply's data. @throws VfioError EPROTO when there are less than `least` */
  #reply(least: number): Uint8Array {
    this.#connection.checkStructure(Command.DEVICE_FEATURE, DeviceFeature.structSize + least);
    const { replyBytes, replyAt, replySize } = this.#connection;
    return replyBytes.subarray(replyAt + DeviceFeature.structSize, replyAt + replySize);
  }

  /** @throws VfioError ENOTTY a device that cannot be moved */
  #state(): number {
    FeatureMigState.encode(this.#connection.out, DATA_AT, { device_state: 0, data_fd: -1 });
    const errno = this.#send(Feature.MIG_DEVICE_STATE, FeatureFlags.GET, FeatureMigState.structSize);
    if (errno !== 0) throw this.#connection.failure(errno, 'MIG_DEVICE_STATE');
    return FeatureMigState.device_state.get(viewOf(this.#reply(FeatureMigState.device_state.end)), 0);
  }

  #setState({ data, onDataStream }: FeatureRequest): number {
    const { name } = this.#connection;
    const before = this.#state();
    if (data.length < FeatureMigState.structSize) throw new VfioError('EINVAL', `${name}: MIG_DEVICE_STATE: ${data.length} bytes of data`);
    const wanted = FeatureMigState.device_state.get(viewOf(data), 0);
    const kind = streamOf(wanted);
    const keeps = kind !== null && kind === streamOf(before);
    if (kind !== null && !keeps && onDataStream === undefined) {
      throw new VfioError('EINVAL', `${name}: this state makes a stream of data, and the request has no onDataStream to take it`);
    }
    FeatureMigState.data_fd.set(viewOf(data), 0, -1);
    FeatureMigState.encode(this.#connection.out, DATA_AT, { device_state: wanted, data_fd: -1 });
    const errno = this.#send(Feature.MIG_DEVICE_STATE, FeatureFlags.SET, FeatureMigState.structSize);
    if (errno !== 0) {
      const error = this.#connection.failure(errno, `going to migration state ${wanted}`);
      this.#left(this.#state());
      throw error;
    }
    this.#left(wanted, keeps);
    if (kind !== null && !keeps) {
      this.#stream = new ClientStream(this.#connection, kind, wanted, this.#maxBytes);
      onDataStream!(this.#stream);
    }
    return 0;
  }

  #left(state: number, keeps = true): void {
    const stream = this.#stream;
    if (stream === null) return;
    if (keeps && streamOf(state) === stream.kind) {
      stream.state = state;
      return;
    }
    stream.end(`the device went to migration state ${state}`);
    this.#stream = null;
  }

  // --- DMA logging

  #startLogging({ data, ranges = new Uint8Array(0) }: FeatureRequest): number {
    const { name, out, outBytes } = this.#connection;
    if (data.length < FeatureDmaLoggingControl.structSize) {
      this.#probe(Feature.DMA_LOGGING_START, FeatureFlags.SET);
      throw new VfioError('EINVAL', `${name}: DMA_LOGGING_START: ${data.length} bytes of data`);
    }
    const { page_size, num_ranges } = FeatureDmaLoggingControl.decode(viewOf(data));
    if (num_ranges === 0) {
      // On the wire that means every write; here it means what the ioctl has it mean.
      this.#probe(Feature.DMA_LOGGING_START, FeatureFlags.SET);
      throw new VfioError('EINVAL', `${name}: DMA_LOGGING_START without ranges`);
    }
    const bytes = num_ranges * FeatureDmaLoggingRange.structSize;
    // Too many ranges are not sent, so that the server answers that they are too many.
    const sent = num_ranges > DMA_LOGGING_MAX_RANGES ? 0 : Math.min(bytes, ranges.length);
    UserDmaLoggingControl.encode(out, DATA_AT, { page_size, num_ranges, reserved: 0 });
    outBytes.set(ranges.subarray(0, sent), DATA_AT + UserDmaLoggingControl.structSize);
    const errno = this.#send(Feature.DMA_LOGGING_START, FeatureFlags.SET, UserDmaLoggingControl.structSize + sent);
    if (errno !== 0) {
      const error = this.#connection.failure(errno, 'DMA_LOGGING_START');
      if (error.code === 'EINVAL' && num_ranges <= DMA_LOGGING_MAX_RANGES && sent < bytes) {
        throw new VfioError('EFAULT', `${name}: DMA_LOGGING_START: ${num_ranges} ranges take ${bytes} bytes, ${ranges.length} are there`);
      }
      throw error;
    }
    const used = UserDmaLoggingControl.page_size.get(viewOf(this.#reply(UserDmaLoggingControl.page_size.end)), 0);
    FeatureDmaLoggingControl.page_size.set(viewOf(data), 0, used);
    this.#memory.logWrites(true);
    this.#logging = true;
    return 0;
  }

  #stopLogging(): number {
    const errno = this.#send(Feature.DMA_LOGGING_STOP, FeatureFlags.SET, 0);
    if (errno !== 0) throw this.#connection.failure(errno, 'DMA_LOGGING_STOP');
    this.#memory.logWrites(false);
    this.#logging = false;
    return 0;
  }

  #report(request: FeatureRequest): number {
    const { name } = this.#connection;
    const { data } = request;
    if (data.length < FeatureDmaLoggingReport.structSize) {
      this.#probe(Feature.DMA_LOGGING_REPORT, FeatureFlags.GET);
      throw new VfioError('EINVAL', `${name}: DMA_LOGGING_REPORT: ${data.length} bytes of data`);
    }
    const { iova, length, page_size: pageSize } = FeatureDmaLoggingReport.decode(viewOf(data));
    const isPage = pageSize >= PAGE && (pageSize & (pageSize - 1n)) === 0n;
    const known = isPage && iova + length <= U64_MAX && length > 0n && ((iova | length) & (PAGE - 1n)) === 0n;
    if (!known) {
      // The server's answer says what is wrong with it.
      this.#ask(iova, length, pageSize, new Uint8Array(0));
      throw new VfioError('EINVAL', `${name}: DMA_LOGGING_REPORT of ${hex(iova)}+${hex(length)} in pages of ${pageSize} bytes`);
    }
    const pages = (length + pageSize - 1n) / pageSize;
    const { bitmap } = request;
    const needed = Number((pages + 63n) / 64n) * 8;
    if (bitmap === undefined || bitmap.length < needed) {
      this.#ask(iova, PAGE, PAGE, null);
      if (!this.#logging) throw new VfioError('EINVAL', `${name}: its DMA is not logged`, { fix: 'DMA_LOGGING_START first.' });
      throw new VfioError('EFAULT', `${name}: DMA_LOGGING_REPORT takes a bitmap of ${needed} bytes; ${bitmap?.length ?? 0} are there`);
    }
    const first = Number(iova / PAGE);
    const last = Number((iova + length) / PAGE) - 1;
    const most = Math.max(8, (this.#maxBytes - UserDmaLoggingReport.structSize) & ~7);
    try {
      for (let at = 0; at < needed; at += most) {
        const from = BigInt(at) * 8n * pageSize;
        const piece = bitmap.subarray(at, Math.min(at + most, needed));
        const bytes = BigInt(piece.length) * 8n * pageSize;
        this.#ask(iova + from, from + bytes > length ? length - from : bytes, pageSize, piece);
      }
    } catch (error) {
      if (!(error instanceof VfioError) || error.code !== 'EOPNOTSUPP') throw error;
      this.#askByMapping(first, last);
    }
    this.#memory.takeWrites(first, last, Number(pageSize / PAGE), bitmap);
    return FeatureDmaLoggingReport.structSize;
  }

  /**
   * libvfio-user answers for a mapping as it was made, and for no other range. Pages of its answer
   * that were not asked for are noted here until they are. libvfio-user has no bitmap for memory
   * that it reaches by messages; its writes there are noted here anyway.
   */
  #askByMapping(first: number, last: number): void {
    const before = this.#memory.at(first);
    for (let at = before ?? this.#memory.next(first); at !== null && at.first <= last; at = this.#memory.next(at.last + 1)) {
      const pages = at.last + 1 - at.first;
      const bits = new Uint8Array(Math.ceil(pages / 64) * 8);
      try {
        this.#ask(BigInt(at.first) * PAGE, BigInt(pages) * PAGE, PAGE, bits);
      } catch (error) {
        if (!(error instanceof VfioError) || error.code !== 'EINVAL') throw error;
      }
      for (let page = 0; page < pages; page++) {
        if ((bits[page >>> 3]! & (1 << (page & 7))) !== 0) this.#memory.markWritten(at.first + page, at.first + page);
      }
    }
  }

  /**
   * One message.
   * @param into bits are set there; null: asks only whether the request is allowed.
   * @throws VfioError the error that the server answers
   */
  #ask(iova: bigint, length: bigint, page_size: bigint, into: Uint8Array | null): void {
    const fixed = UserDmaLoggingReport.structSize;
    UserDmaLoggingReport.encode(this.#connection.out, DATA_AT, { iova, length, page_size });
    const op = into === null ? FeatureFlags.GET | FeatureFlags.PROBE : FeatureFlags.GET;
    // Room for at least a word: the server refuses an impossible range for what it is.
    const errno = this.#send(Feature.DMA_LOGGING_REPORT, op, fixed, fixed + Math.max(8, into?.length ?? 8));
    if (errno !== 0) throw this.#connection.failure(errno, `DMA_LOGGING_REPORT of ${hex(iova)}+${hex(length)}`);
    if (into === null || into.length === 0) return;
    const bits = this.#reply(fixed).subarray(fixed);
    for (let i = 0; i < Math.min(bits.length, into.length); i++) into[i]! |= bits[i]!;
  }

  /** The connection has ended. */
  end(reason: string): void {
    this.#stream?.end(reason);
    this.#stream = null;
    this.#memory.logWrites(false);
  }
}

class ClientStream implements MigrationStream {
  readonly kind: 'saving' | 'resuming';
  /** The device's state, as far as the client knows. */
  state: number;
  readonly #connection: ClientConnection;
  readonly #maxBytes: number;
  #over: string | null = null;
  #closed = false;

  constructor(connection: ClientConnection, kind: 'saving' | 'resuming', state: number, maxBytes: number) {
    this.#connection = connection;
    this.kind = kind;
    this.state = state;
    this.#maxBytes = maxBytes;
  }

  end(reason: string): void {
    this.#over ??= reason;
  }

  #check(kind: 'saving' | 'resuming'): void {
    const { name } = this.#connection;
    if (this.#closed) throw new VfioError('EBADF', `${name}: this stream is closed`);
    if (this.#over !== null) throw new VfioError('ENODEV', `${name}: this stream is over: ${this.#over}`);
    if (this.kind !== kind) throw new VfioError('EINVAL', `${name}: this data is ${this.kind === 'saving' ? 'read' : 'written'}`);
  }

  read(into: Uint8Array): number {
    this.#check('saving');
    if (into.length === 0) return 0;
    const connection = this.#connection;
    const size = Math.min(into.length, this.#maxBytes - MigData.structSize);
    MigData.encode(connection.out, HEADER_BYTES, { argsz: MigData.structSize + size, size });
    const errno = connection.request(Command.MIG_DATA_READ, MigData.structSize);
    if (errno !== 0) throw connection.failure(errno, 'MIG_DATA_READ');
    connection.checkStructure(Command.MIG_DATA_READ, MigData.structSize);
    const { replyBytes, replyAt, replySize } = connection;
    const got = MigData.size.get(viewOf(replyBytes), replyAt);
    // libvfio-user's replies have as many bytes as were asked for, however many of them are data.
    if (got > size || replySize < MigData.structSize + got)
      throw connection.badReply(Command.MIG_DATA_READ, `${got} bytes of data in ${replySize}`);
    if (got === 0 && precopying.has(this.state)) {
      throw new VfioError('ENOMSG', `${connection.name}: nothing is left to send while the device runs`);
    }
    const start = replyAt + MigData.structSize;
    into.set(replyBytes.subarray(start, start + got));
    return got;
  }

  write(from: Uint8Array): number {
    this.#check('resuming');
    const connection = this.#connection;
    const most = Math.min(REQUEST_DATA_BYTES, this.#maxBytes);
    for (let at = 0; at < from.length; at += most) {
      const piece = from.subarray(at, at + most);
      MigData.encode(connection.out, HEADER_BYTES, { argsz: MigData.structSize + piece.length, size: piece.length });
      connection.outBytes.set(piece, HEADER_BYTES + MigData.structSize);
      const errno = connection.request(Command.MIG_DATA_WRITE, MigData.structSize + piece.length);
      if (errno !== 0) throw connection.failure(errno, 'MIG_DATA_WRITE');
    }
    return from.length;
  }

  /** @throws VfioError EOPNOTSUPP: most servers do not have the message */
  precopyInfo(): PrecopyInfo {
    this.#check('saving');
    const connection = this.#connection;
    if (!precopying.has(this.state)) throw new VfioError('EINVAL', `${connection.name} stands still: there is no PRECOPY_INFO`);
    const payload = encodePrecopyInfo();
    connection.outBytes.set(payload, HEADER_BYTES);
    const errno = connection.request(Command.MIG_GET_PRECOPY_INFO, payload.length);
    if (errno === Errno.EINVAL || errno === Errno.ENOSYS) {
      throw new VfioError('EOPNOTSUPP', `${connection.name}: its server does not report how much is left`);
    }
    if (errno !== 0) throw connection.failure(errno, 'MIG_GET_PRECOPY_INFO');
    connection.checkStructure(Command.MIG_GET_PRECOPY_INFO, payload.length);
    return decodePrecopyInfo(connection.replyBytes.subarray(connection.replyAt, connection.replyAt + connection.replySize));
  }

  close(): void {
    this.#closed = true;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
