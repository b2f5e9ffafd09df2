/**
 * Migration of one device (B.11): its state, the stream of the state, and the steps to other
 * states. states.ts has the way between states, and a device's activity in each; this file carries
 * out the difference between two states.
 *
 * @see include/uapi/linux/vfio.h, enum vfio_device_mig_state
 */
import type { MigrationStream } from '../../abi/device.ts';
import { MigrationFlags, MigrationState } from '../../abi/vfio.ts';
import { VfioError } from '../../base/errno.ts';
import type { EventSource } from '../../events/source.ts';
import { refusalOf } from '../../events/source.ts';
import { ResumingStream } from './resuming-stream.ts';
import { SavingStream, stopCopyEstimate } from './saving-stream.ts';
import { type StateRow, states, wayTo } from './states.ts';
import type { MigrationTarget } from './target.ts';

export class DeviceMigration {
  /** `MigrationFlags` */
  readonly flags: number;
  readonly #target: MigrationTarget;
  /** Reports the model's bugs that have no errno. */
  readonly #onBug: (what: string, error: unknown) => void;
  readonly #events: EventSource;
  #state: MigrationState = MigrationState.RUNNING;
  #saving: SavingStream | null = null;
  #resuming: ResumingStream | null = null;
  /** Until the last close: MIG_GET_PRECOPY_INFO has flags (MIG_PRECOPY_INFOv2). */
  #precopyFlags = false;
  /** The states that the model heard last. */
  #runs = true;
  #quiet = false;

  /** @param events of the device */
  constructor(target: MigrationTarget, onBug: (what: string, error: unknown) => void, events: EventSource) {
    this.#events = events;
    this.#target = target;
    this.#onBug = onBug;
    const { bulk, p2p } = target.model;
    this.flags =
      MigrationFlags.STOP_COPY | (bulk === undefined ? 0 : MigrationFlags.PRE_COPY) | (p2p === undefined ? 0 : MigrationFlags.P2P);
  }

  get state(): MigrationState {
    return this.#state;
  }

  /** MIG_PRECOPY_INFOv2: from now on the answers of MIG_GET_PRECOPY_INFO have flags. */
  readPrecopyFlags(): void {
    this.#precopyFlags = true;
    this.#saving?.reportFlags();
  }

  /**
   * DMA issued before the stop is still in flight. The caller that stops the device gets its answer
   * when that DMA has arrived.
   */
  get draining(): boolean {
    return !this.#runs && this.#target.draining;
  }

  /**
   * Go to the state of this number, through the states between. When a step fails, the device keeps
   * the state that it has reached, or is in ERROR.
   *
   * @param onStream takes the stream of a new session
   * @throws VfioError EINVAL a state that does not exist, or that the device does not have, no way
   * there, or bad data; EINVAL without `onStream` where there is a stream; EIO the model failed
   */
  setState(to: number): MigrationStream | null {
    const { name } = this.#target;
    const way = wayTo(this.flags, this.#state, to);
    if (way === null) {
      const wanted = states[to]?.name ?? `state ${to}`;
      const refused = new VfioError('EINVAL', `${name}: there is no way from ${this.#row.name} to ${wanted}`, {
        ...(this.#state === MigrationState.ERROR ? { fix: 'Reset the device: it runs afresh then.' } : {}),
      });
      this.#emit(this.#row.name, wanted, refused);
      throw refused;
    }
    let made: MigrationStream | null = null;
    for (const next of way) made = this.#step(states[next]!, next);
    return made;
  }

  #emit(from: string, to: string, error?: unknown): void {
    if (this.#events.on) this.#events.emit('migration', { from, to, ...(error === undefined ? {} : refusalOf(error)) });
  }

  get #row(): StateRow {
    return states[this.#state]!;
  }

  /** One arc. @returns the stream of the new state; null for none */
  #step(to: StateRow, state: MigrationState): MigrationStream | null {
    const from = this.#row;
    try {
      this.#setRuns(to.runs && this.#runs, to.quiet || this.#quiet);
      const stream = this.#setStream(from, to);
      this.#setRuns(to.runs, to.quiet);
      this.#state = state;
      this.#emit(from.name, to.name);
      return stream;
    } catch (error) {
      const what = `${from.name} to ${to.name}`;
      const failure =
        error instanceof VfioError
          ? error
          : new VfioError('EIO', `${this.#target.name}: the model failed on its way from ${what}`, { cause: error });
      this.#fail(what, failure);
      if (failure !== error) this.#onBug(`going from ${what}`, error);
      throw failure;
    }
  }

  /** Stop first, start last; no DMA in between. */
  #setRuns(runs: boolean, quiet: boolean): void {
    const { model } = this.#target;
    if (quiet && !this.#quiet) {
      model.p2p?.enter();
      this.#quiet = true;
    }
    if (!runs && this.#runs) {
      model.stop();
      this.#runs = false;
      this.#target.hold();
      this.#saving?.stopped();
    }
    if (runs && !this.#runs) {
      this.#runs = true;
      this.#target.release();
      model.start();
    }
    if (!quiet && this.#quiet) {
      this.#quiet = false;
      model.p2p?.leave();
    }
  }

  #setStream(from: StateRow, to: StateRow): MigrationStream | null {
    if (from.stream === to.stream) return null;
    const left = `the device went from ${from.name} to ${to.name}`;
    if (from.stream === 'saving') this.#endSaving(left);
    if (from.stream === 'resuming') this.#arrive(left);
    if (to.stream === 'saving') {
      this.#saving = new SavingStream(this.#target, to.runs, this.#onBug);
      if (this.#precopyFlags) this.#saving.reportFlags();
      return this.#saving;
    }
    if (to.stream === 'resuming') {
      this.#resuming = new ResumingStream(this.#target, (error) => this.#fail('taking its data', error));
      return this.#resuming;
    }
    return null;
  }

  /** All data is there: the device takes the state that was sent. */
  #arrive(left: string): void {
    const target = this.#target;
    const stream = this.#resuming!;
    const { config, interrupts, model, modelVersion } = stream.finish();
    const before = target.saveConfig();
    target.resetModel();
    try {
      target.loadConfig(config);
      target.model.load(model, modelVersion);
    } catch (error) {
      target.resetModel();
      target.loadConfig(before);
      throw error;
    }
    target.loadInterrupts(interrupts);
    // The loaded model does not know that it is to be quiet.
    if (this.#quiet) target.model.p2p?.enter();
    this.#resuming = null;
    stream.end(left);
  }

  #endSaving(reason: string): void {
    this.#saving?.end(reason);
    this.#saving = null;
  }

  /** Go to ERROR: the device stands still, and its actions have no effect. */
  #fail(what: string, error: unknown): void {
    this.#emit(this.#row.name, states[MigrationState.ERROR]!.name, error);
    this.#state = MigrationState.ERROR;
    const reason = `${what} failed`;
    this.#guard('ending its stream', () => this.#endSaving(reason));
    this.#resuming?.end(reason);
    this.#resuming = null;
    if (this.#runs) {
      this.#runs = false;
      this.#guard('stopping', () => this.#target.model.stop());
    }
    this.#target.hold();
  }

  /**
   * VFIO_DEVICE_FEATURE_MIG_DATA_SIZE: an estimate of the bytes that the device sends while it
   * stands still.
   *
   * @throws VfioError EIO the model failed
   */
  get stopCopyBytes(): number {
    try {
      return this.#saving?.remainingBytes ?? stopCopyEstimate(this.#target);
    } catch (error) {
      if (error instanceof VfioError) throw error;
      this.#onBug('telling its size', error);
      throw new VfioError('EIO', `${this.#target.name}: the model failed to give the size of its data`, { cause: error });
    }
  }

  /** The function has been reset: it runs, and an open session is over. */
  deviceReset(): void {
    this.#guard('ending its stream', () => this.#endSaving('the device was reset'));
    this.#resuming?.end('the device was reset');
    this.#resuming = null;
    this.#guard('starting', () => this.#setRuns(true, false));
    if (this.#state === MigrationState.RUNNING) return;
    const from = this.#row.name;
    this.#state = MigrationState.RUNNING;
    this.#emit(from, this.#row.name);
  }

  /**
   * The last user is gone, and there may be no reset: a device with half of its data must not run
   * on.
   */
  close(): void {
    const broken = this.#state === MigrationState.ERROR || this.#state === MigrationState.RESUMING;
    if (broken) this.#guard('resetting', () => this.#target.resetModel());
    this.deviceReset();
  }

  #guard(what: string, act: () => void): void {
    try {
      act();
    } catch (error) {
      this.#onBug(what, error);
    }
  }
}
