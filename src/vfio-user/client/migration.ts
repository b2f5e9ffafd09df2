/**
 * Moving a device at the other end of a connection (B.11): messages take the place of the kernel's
 * descriptor.
 */
import type { MigrationControl, MigrationStream, PrecopyInfo } from '../../abi/device.ts';
import { Feature, FeatureFlags, MigrationState } from '../../abi/vfio.ts';
import { FeatureMigDataSize, FeatureMigration, FeatureMigState } from '../../abi/vfio-structs.ts';
import { HEADER_BYTES } from '../../abi/vfio-user.ts';
import { checkBytes } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { stateNumber } from '../../device/migration-state.ts';
import { Command, MigData, migDataRead, precopyInfo, viewOf } from '../messages.ts';
import { type ClientConnection, REQUEST_DATA_BYTES } from './connection.ts';
import { type ClientFeatures, DATA_AT } from './features.ts';
import { nameIn } from './names.ts';

/** States of a stream. A change from one of the first set to another keeps the stream. */
const saving: ReadonlySet<number> = new Set([MigrationState.STOP_COPY, MigrationState.PRE_COPY, MigrationState.PRE_COPY_P2P]);
const precopying: ReadonlySet<number> = new Set([MigrationState.PRE_COPY, MigrationState.PRE_COPY_P2P]);

function streamOf(state: number): 'saving' | 'resuming' | null {
  return saving.has(state) ? 'saving' : state === MigrationState.RESUMING ? 'resuming' : null;
}

export class ClientMigration implements MigrationControl {
  readonly #features: ClientFeatures;
  readonly #connection: ClientConnection;
  readonly #maxBytes: number;
  /** The registers of the device may be other ones now. */
  readonly #moved: () => void;
  #stream: ClientStream | null = null;
  #precopyFlags = false;

  /** @param maxBytes  of data in one message of the server */
  constructor(features: ClientFeatures, maxBytes: number, moved: () => void) {
    this.#features = features;
    this.#connection = features.connection;
    this.#maxBytes = maxBytes;
    this.#moved = moved;
  }

  get flags(): number {
    const flags = FeatureMigration.flags.get(this.#features.get(Feature.MIGRATION, FeatureMigration.structSize), 0);
    return Number(flags & 0xffff_ffffn);
  }

  get stopCopyBytes(): bigint {
    return FeatureMigDataSize.stop_copy_length.get(this.#features.get(Feature.MIG_DATA_SIZE, FeatureMigDataSize.structSize), 0);
  }

  readPrecopyFlags(): void {
    this.#features.set(Feature.MIG_PRECOPY_INFO_V2);
    this.#precopyFlags = true;
    if (this.#stream !== null) this.#stream.readsFlags = true;
  }

  /** The device was reset, or is gone: its stream may be over. */
  changed(): void {
    const stream = this.#stream;
    if (stream === null) return;
    const state = this.#connection.lost === null ? this.state : -1;
    if (state === stream.state) return;
    stream.end('the device was reset');
    this.#stream = null;
  }

  get state(): number {
    FeatureMigState.encode(this.#connection.out, DATA_AT, { device_state: 0, data_fd: -1 });
    const errno = this.#features.send(Feature.MIG_DEVICE_STATE, FeatureFlags.GET, FeatureMigState.structSize);
    if (errno !== 0) throw this.#connection.failure(errno, 'MIG_DEVICE_STATE');
    return FeatureMigState.device_state.get(viewOf(this.#features.reply(FeatureMigState.device_state.end)), 0);
  }

  setState(wanted: number): MigrationStream | null {
    const before = this.state;
    const { source } = this.#connection.messages;
    if (!source.on) return this.#setState(before, wanted);
    const details = { from: nameIn(MigrationState, before), to: nameIn(MigrationState, wanted) };
    return source.attempt('migration', details, () => this.#setState(before, wanted));
  }

  #setState(before: number, state: number): MigrationStream | null {
    const wanted = stateNumber(state);
    const kind = streamOf(wanted);
    const keeps = kind !== null && kind === streamOf(before);
    FeatureMigState.encode(this.#connection.out, DATA_AT, { device_state: wanted, data_fd: -1 });
    const errno = this.#features.send(Feature.MIG_DEVICE_STATE, FeatureFlags.SET, FeatureMigState.structSize);
    if (errno !== 0) {
      const error = this.#connection.failure(errno, `going to migration state ${wanted}`);
      this.#left(this.state);
      throw error;
    }
    this.#left(wanted, keeps);
    this.#moved();
    if (kind === null || keeps) return null;
    this.#stream = new ClientStream(this.#connection, kind, wanted, this.#maxBytes);
    this.#stream.readsFlags = this.#precopyFlags;
    return this.#stream;
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

  /** The connection has ended. */
  end(reason: string): void {
    this.#stream?.end(reason);
    this.#stream = null;
  }
}

class ClientStream implements MigrationStream {
  readonly kind: 'saving' | 'resuming';
  /** The device's state, as far as the client knows. */
  state: number;
  /** The user has asked for the flags of `precopyInfo`. */
  readsFlags = false;
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
    checkBytes(into, 'the buffer for migration data');
    if (into.length === 0) return 0;
    const connection = this.#connection;
    const size = Math.min(into.length, this.#maxBytes - MigData.structSize);
    const data = connection.ask(migDataRead, { size }, 'MIG_DATA_READ');
    if (data.length > size)
      throw connection.badReply(Command.MIG_DATA_READ, `${data.length} bytes of data, at most ${size} were asked for`);
    if (data.length === 0 && precopying.has(this.state)) {
      throw new VfioError('ENOMSG', `${connection.name}: nothing is left to send while the device runs`);
    }
    into.set(data);
    return data.length;
  }

  write(from: Uint8Array): number {
    this.#check('resuming');
    checkBytes(from, 'the migration data');
    const connection = this.#connection;
    const most = Math.min(REQUEST_DATA_BYTES, this.#maxBytes);
    for (let at = 0; at < from.length; at += most) {
      const piece = from.subarray(at, at + most);
      // In place: `ask` would copy the data once more.
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
    if (!precopying.has(this.state))
      throw new VfioError('EINVAL', `${connection.name} is stopped: PRECOPY_INFO is for a device in PRE_COPY`);
    try {
      const { flags, ...info } = connection.ask(precopyInfo, undefined, 'MIG_GET_PRECOPY_INFO');
      return this.readsFlags ? { ...info, flags } : info;
    } catch (error) {
      if (!(error instanceof VfioError) || (error.code !== 'EINVAL' && error.code !== 'ENOSYS')) throw error;
      throw new VfioError('EOPNOTSUPP', `${connection.name}: its server does not report how much is left`, { cause: error });
    }
  }

  close(): void {
    this.#closed = true;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
