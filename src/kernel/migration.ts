/**
 * Moving a device of Linux's VFIO (B.11). The kernel gives a descriptor for the data; a change of
 * the device's state ends it.
 *
 * @see linux/drivers/vfio/vfio_main.c, vfio_ioctl_device_feature_mig_device_state();
 * include/uapi/linux/vfio.h, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE
 */
import type { MigrationControl, MigrationStream, PrecopyInfo } from '../abi/device.ts';
import { Feature, FeatureFlags, MigrationState } from '../abi/vfio.ts';
import { FeatureMigDataSize, FeatureMigration, FeatureMigState, PrecopyInfo as PrecopyInfoBytes } from '../abi/vfio-structs.ts';
import { checkBytes } from '../base/check.ts';
import { viewOf } from '../base/data-view.ts';
import { Errno, VfioError } from '../base/errno.ts';
import { stateNumber } from '../device/migration-state.ts';
import { KernelFile } from '../sys/kernel-file.ts';
import { OwnedFd } from '../sys/owned-fd.ts';
import { callFailure, callKernel, DeviceCall, type KernelCall } from './calls.ts';
import type { KernelPort } from './device-port.ts';
import type { KernelFeatures } from './features.ts';

const { GET, SET } = FeatureFlags;

const stateNames = new Map<number, string>(Object.entries(MigrationState).map(([name, state]) => [state, name]));

function stateName(state: number): string {
  return stateNames.get(state) ?? `state ${state}`;
}

type StreamKind = 'saving' | 'resuming';

/** The kind of the data that a state has; a change between states of one kind keeps the data. */
const kinds: ReadonlyMap<number, StreamKind> = new Map([
  [MigrationState.STOP_COPY, 'saving'],
  [MigrationState.PRE_COPY, 'saving'],
  [MigrationState.PRE_COPY_P2P, 'saving'],
  [MigrationState.RESUMING, 'resuming'],
]);

export class KernelMigration implements MigrationControl, Disposable {
  readonly #features: KernelFeatures;
  readonly #port: KernelPort;
  /** The newest stream. */
  #stream: KernelStream | null = null;
  #precopyFlags = false;

  constructor(features: KernelFeatures) {
    this.#features = features;
    this.#port = features.port;
  }

  get flags(): number {
    const data = new Uint8Array(FeatureMigration.structSize);
    this.#features.ask(Feature.MIGRATION, GET, data);
    return Number(FeatureMigration.flags.get(viewOf(data), 0) & 0xffff_ffffn);
  }

  get stopCopyBytes(): bigint {
    const data = new Uint8Array(FeatureMigDataSize.structSize);
    this.#features.ask(Feature.MIG_DATA_SIZE, GET, data);
    return FeatureMigDataSize.stop_copy_length.get(viewOf(data), 0);
  }

  readPrecopyFlags(): void {
    this.#features.ask(Feature.MIG_PRECOPY_INFO_V2, SET);
    this.#precopyFlags = true;
    if (this.#stream !== null) this.#stream.readsFlags = true;
  }

  get state(): number {
    const data = new Uint8Array(FeatureMigState.structSize);
    this.#features.ask(Feature.MIG_DEVICE_STATE, GET, data);
    return FeatureMigState.device_state.get(viewOf(data), 0);
  }

  setState(wanted: number): MigrationStream | null {
    const { source } = this.#port;
    if (!source.on) return this.#setState(wanted);
    const details = { from: stateName(this.state), to: stateName(wanted) };
    return source.attempt('migration', details, () => this.#setState(wanted));
  }

  #setState(state: number): MigrationStream | null {
    const wanted = stateNumber(state);
    const data = new Uint8Array(FeatureMigState.structSize);
    const view = viewOf(data);
    FeatureMigState.encode(view, 0, { device_state: wanted, data_fd: -1 });
    try {
      this.#features.ask(Feature.MIG_DEVICE_STATE, SET, data);
    } catch (error) {
      // The device may be on the way, or in ERROR.
      this.#stream?.stateIs(this.#stateOr(wanted));
      throw error;
    }
    this.#stream?.stateIs(wanted);
    const number = FeatureMigState.data_fd.get(view, 0);
    const kind = kinds.get(wanted);
    if (number < 0 || kind === undefined) return null;
    const { name } = this.#port;
    const file = KernelFile.own(OwnedFd.own(number, `the migration data of ${name}`), `the migration data of ${name}`);
    this.#stream?.end();
    this.#stream = new KernelStream(this.#port, file, kind, wanted);
    this.#stream.readsFlags = this.#precopyFlags;
    return this.#stream;
  }

  #stateOr(state: number): number {
    try {
      return this.state;
    } catch (error) {
      if (!(error instanceof VfioError)) throw error;
      return state;
    }
  }

  /** The device was reset: it runs, and its data is over. */
  wasReset(): void {
    this.#stream?.stateIs(MigrationState.RUNNING);
  }

  /** The device is closed: so is its data. */
  [Symbol.dispose](): void {
    this.#stream?.stateIs(-1);
    this.#stream?.close();
    this.#stream = null;
  }
}

const reading: KernelCall = {
  name: 'read of migration data',
  request: 0,
  remedies: { ENOMSG: 'Nothing is left to send while the device runs: ask again later, or go to STOP_COPY.' },
};
const writing: KernelCall = {
  name: 'write of migration data',
  request: 0,
  remedies: { EINVAL: 'The data is not of such a device, or was changed on its way; reset the device.' },
};

class KernelStream implements MigrationStream {
  readonly #port: KernelPort;
  readonly #file: KernelFile;
  readonly #kind: StreamKind;
  /** The device's state, as far as this process knows. */
  #state: number;
  #over = false;
  #closed = false;
  /** The user has asked for the flags of `precopyInfo`. */
  readsFlags = false;

  constructor(port: KernelPort, file: KernelFile, kind: StreamKind, state: number) {
    this.#port = port;
    this.#file = file;
    this.#kind = kind;
    this.#state = state;
    file.setNonBlocking();
  }

  /** The device is in this state now. A stream that is over stays so. */
  stateIs(state: number): void {
    this.#state = state;
    if (kinds.get(state) !== this.#kind) this.end();
  }

  /** The data has ended, and the kernel needs no file for it any more. */
  end(): void {
    this.#over = true;
    this.#file[Symbol.dispose]();
  }

  #check(kind: StreamKind): void {
    const { name } = this.#port;
    if (this.#closed) throw new VfioError('EBADF', `${name}: this stream is closed`);
    if (this.#over) throw new VfioError('ENODEV', `${name}: this stream is over: the device went to ${stateName(this.#state)}`);
    if (this.#kind !== kind) throw new VfioError('EINVAL', `${name}: this data is ${this.#kind === 'saving' ? 'read' : 'written'}`);
  }

  read(into: Uint8Array): number {
    this.#check('saving');
    checkBytes(into, 'the buffer for migration data');
    if (into.length === 0) return 0;
    const got = this.#file.read(into);
    if (got < 0) throw callFailure(got, reading, this.#port.name);
    // Some drivers, as Linux's sample mtty, answer 0 where others answer ENOMSG.
    if (got === 0 && this.#state !== MigrationState.STOP_COPY) throw callFailure(-Errno.ENOMSG, reading, this.#port.name);
    return got;
  }

  write(from: Uint8Array): number {
    this.#check('resuming');
    checkBytes(from, 'the migration data');
    for (let at = 0; at < from.length; ) {
      const done = this.#file.write(from.subarray(at));
      if (done < 0) throw callFailure(done, writing, this.#port.name);
      if (done === 0) throw new VfioError('EIO', `${this.#port.name}: the kernel takes no more migration data`);
      at += done;
    }
    return from.length;
  }

  /** @see include/uapi/linux/vfio.h, VFIO_MIG_GET_PRECOPY_INFO */
  precopyInfo(): PrecopyInfo {
    this.#check('saving');
    const bytes = new Uint8Array(PrecopyInfoBytes.structSize);
    const view = viewOf(bytes);
    PrecopyInfoBytes.encode(view, 0, { argsz: bytes.length });
    callKernel(this.#file, DeviceCall.MIG_GET_PRECOPY_INFO, bytes, this.#port.name);
    const { initial_bytes, dirty_bytes, flags } = PrecopyInfoBytes.decode(view);
    const info = { initialBytes: Number(initial_bytes), dirtyBytes: Number(dirty_bytes) };
    return this.readsFlags ? { ...info, flags } : info;
  }

  close(): void {
    this.#closed = true;
    this.#file[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
