/**
 * A port of an 82576, physical or virtual: its rings, the frames of people above them, and its
 * life. The two kinds of port add their registers.
 *
 * Longer than 400 lines because it is one state machine, whose every method asks for the state.
 */
import { Status } from '../../abi/82576.ts';
import type { RegisterAccess } from '../../abi/device.ts';
import { checkIndex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { INSPECT } from '../../base/inspect.ts';
import { KeepAlive } from '../../base/keep-alive.ts';
import type { DriverDevice } from '../kit/driver-device.ts';
import type { WaitOptions } from '../kit/interrupts.ts';
import { Doorbell } from './doorbell.ts';
import { type Link, type PortListener, PortListeners, type PortState } from './events.ts';
import { type Frame, takeFrame } from './frames.ts';
import { macText } from './mac-address.ts';
import type { PortSettings } from './options.ts';
import { PortWaits } from './port-waits.ts';
import type { QueuePlace } from './queue-place.ts';
import { ReceiveQueue } from './receive-queue.ts';
import { type SendOptions, SendQueue } from './send-queue.ts';
import { type SignalKind, type SignalPort, Signals } from './signals.ts';
import type { PortStatistics } from './statistics.ts';
import { TransmitQueue } from './transmit-queue.ts';

/** The value of a register that nothing answers. */
export const ALL_ONES = 0xffff_ffff;
/** The driver looks at link, counters and rings this often, whatever interrupts say. */
const TICK_MS = 1000;
/** How long a queue may take to be enabled. */
const QUEUE_MS = 1000;
export const DOWN: Link = { up: false, speed: 0, fullDuplex: false };

/** How long `frames` goes on. */
export interface FramesOptions {
  /** Ends the loop. Default: it goes on until the port is closed. */
  readonly signal?: AbortSignal;
}

/**
 * A port of the card: send and receive frames, as promises or by rings. `startPort` makes one.
 */
export abstract class Port implements SignalPort, AsyncDisposable, Disposable {
  /** The device that the driver stands on. */
  readonly dev: DriverDevice;
  /** Receive queues. The objects stay the same over resets. */
  readonly receiveQueues: readonly ReceiveQueue[];
  /** Transmit queues. */
  readonly transmitQueues: readonly TransmitQueue[];
  protected readonly registers: RegisterAccess;
  protected readonly settings: PortSettings;
  protected readonly listeners = new PortListeners();
  protected readonly doorbell: Doorbell;
  protected signals!: Signals;
  protected address: Uint8Array = new Uint8Array(6);
  readonly #senders: readonly SendQueue[];
  readonly #readers: PortWaits;
  readonly #linkWaits: PortWaits;
  readonly #flushers: PortWaits;
  readonly #alive = new KeepAlive();
  readonly #listening: Disposable;
  #state: PortState = 'starting';
  #reason: VfioError | null = null;
  #link: Link = DOWN;
  #recovering: Promise<void> | null = null;
  #tick: Disposable | null = null;
  /** Frames completed at the last look, by queue, and since when that has not changed. */
  readonly #progress: { completed: number; sinceNs: number }[];

  /** A port whose queues are not open yet. */
  protected constructor(dev: DriverDevice, settings: PortSettings, places: readonly QueuePlace[]) {
    this.dev = dev;
    this.settings = settings;
    this.registers = dev.bar(0);
    this.doorbell = new Doorbell(this.registers, (error) => this.lost(error));
    const { receiveEntries, transmitEntries } = settings;
    this.receiveQueues = places.map(({ rx }) => new ReceiveQueue(dev, this.registers, rx, receiveEntries, this.doorbell));
    this.transmitQueues = places.map(({ tx }) => new TransmitQueue(dev, this.registers, tx, transmitEntries, this.doorbell));
    this.#senders = this.transmitQueues.map((queue) => new SendQueue(queue, dev.name));
    this.#readers = new PortWaits(dev, 'no frame came', 'ETIMEDOUT');
    this.#linkWaits = new PortWaits(dev, 'the link is not up', 'ENETDOWN');
    this.#flushers = new PortWaits(dev, 'a frame was not sent', 'ETIMEDOUT');
    this.#progress = places.map(() => ({ completed: 0, sinceNs: 0 }));
    this.#listening = dev.on(
      (event) => {
        if (event.kind === 'gone') this.gone(event.reason);
        else if (event.kind === 'asleep') this.doorbell.hold();
        else this.#awake();
      },
      ['asleep', 'resume', 'gone'],
    );
  }

  /** The line that `console.log` prints of it. */
  [INSPECT](): string {
    const { up, speed, fullDuplex } = this.#link;
    const link = up ? `${speed} Mbit/s ${fullDuplex ? 'full' : 'half'} duplex` : 'no link';
    return `Port ${this.dev.name}: ${this.#state}, ${this.mac}, ${link}, ${this.receiveQueues.length} queues`;
  }

  /** The state of the port. */
  get state(): PortState {
    return this.#state;
  }

  /** `52:54:00:12:34:56`. */
  get mac(): string {
    return macText(this.address);
  }

  /** Bytes of payload that a frame has at most, without headers. */
  get mtu(): number {
    return this.settings.mtu;
  }

  /** The link, as of the last look. */
  get link(): Link {
    return this.#link;
  }

  /** How the driver notices frames. */
  get interrupts(): SignalKind {
    return this.signals.kind;
  }

  /** Interrupt vectors in use. */
  get vectors(): number {
    return this.signals.vectors;
  }

  /** Tail registers written since the start. */
  get doorbellWrites(): number {
    return this.doorbell.written;
  }

  /** Listen to events: link, resets, virtual functions. */
  on(listener: PortListener): Disposable {
    return this.listeners.on(listener);
  }

  /** Receive queue `index` as a ring. @throws VfioError EINVAL */
  receiveQueue(index = 0): ReceiveQueue {
    return this.receiveQueues[checkIndex(index, this.receiveQueues.length - 1, 'queue')]!;
  }

  /** Transmit queue `index` as a ring. @throws VfioError EINVAL */
  transmitQueue(index = 0): TransmitQueue {
    return this.transmitQueues[checkIndex(index, this.transmitQueues.length - 1, 'queue')]!;
  }

  /**
   * Send a frame, from the destination's address on: the card pads it and adds its check sequence.
   * Resolves when the frame lies in the ring; while the ring is full, it waits. `flush` waits until
   * frames are sent.
   *
   * @throws VfioError EINVAL, EMSGSIZE for frames of no such length; ENODEV when the port is gone
   */
  async send(bytes: Uint8Array, options: SendOptions = {}): Promise<void> {
    if (this.#state !== 'live') await this.ready();
    const queue = checkIndex(options.queue ?? 0, this.#senders.length - 1, 'queue');
    const sender = this.#senders[queue]!;
    const sent = sender.send(bytes, options);
    if (!sender.waiting) return sent;
    this.signals.schedule(this.signals.vectorOf(queue));
    this.#alive.hold();
    try {
      await sent;
    } finally {
      this.#alive.release();
    }
  }

  /**
   * Wait until the card has taken all frames that were sent.
   * @throws VfioError ETIMEDOUT; ENODEV when the port is gone; EIO when a reset loses frames
   */
  async flush(options: WaitOptions = {}): Promise<void> {
    await this.ready();
    await Promise.resolve();
    for (const queue of this.transmitQueues) queue.ring();
    if (this.#idle()) return;
    await this.#flushers.wait(options, () => this.#scheduleAll());
  }

  /** Wait until the link is up. @throws VfioError ENETDOWN after the time; ENODEV */
  async linkUp(options: WaitOptions = {}): Promise<Link> {
    await this.ready();
    this.lookAtLink();
    if (!this.#link.up) await this.#linkWaits.wait(options, () => {});
    return this.#link;
  }

  /**
   * Frames as they come, of all queues. While they are not taken, they stay in the rings, and the
   * card drops or misses more. Several readers share the frames.
   *
   * The loop ends when the port is closed, and when `signal` is aborted.
   * @throws VfioError ENODEV when the device is gone; EIO when it does not come back from a reset
   */
  async *frames({ signal }: FramesOptions = {}): AsyncGenerator<Frame, void, undefined> {
    let turn = 0;
    while (this.#state !== 'closed' && signal?.aborted !== true) {
      if (this.#state !== 'live') await this.ready();
      const found = this.#takeFrom(turn);
      if (found === null) {
        await this.#readers.wait({}, () => this.#scheduleAll(), signal);
        continue;
      }
      turn = found.queue + 1;
      yield found;
    }
  }

  /** Counters since the start. */
  abstract statistics(): PortStatistics;

  /**
   * Use another address.
   * @throws VfioError EINVAL; EPERM when the physical function refuses; ENODEV
   */
  abstract setMac(mac: string): Promise<void>;

  /**
   * Receive for one more address.
   * @throws VfioError as `setMac`; ENOSPC when all 24 of the card are taken
   */
  abstract addMac(mac: string): Promise<void>;

  /** Ends `addMac`. @returns false when the address was not there */
  abstract removeMac(mac: string): Promise<boolean>;

  /**
   * Receive what is sent to a group. Each `joinGroup` wants a `leaveGroup`.
   * @throws VfioError as `setMac`
   */
  abstract joinGroup(mac: string): Promise<void>;

  /** Ends one `joinGroup`. @returns false when the group was not joined */
  abstract leaveGroup(mac: string): Promise<boolean>;

  /**
   * Receive all frames of the wire: of all stations (`all`), or of all groups (`groups`).
   *
   * @param modes default: both off
   * @throws VfioError EPERM for a virtual function that is not trusted; ENODEV
   */
  abstract setPromiscuous(modes?: { readonly all?: boolean; readonly groups?: boolean }): Promise<void>;

  /**
   * Receive tagged frames of these VLANs alone.
   *
   * @param vlans null: of all. A physical function that serves virtual ones, and a virtual
   *   function, receive tagged frames of VLANs that they name.
   * @throws VfioError EINVAL; ENOSPC when the card has no room for more VLANs; EPERM; ENODEV
   */
  abstract setVlans(vlans: readonly number[] | null): Promise<void>;

  /**
   * Reset the port and start it again: frames in its rings are lost.
   * @throws VfioError when it does not come back
   */
  async reset(): Promise<void> {
    await this.recover('it was asked for');
    await this.ready();
  }

  /** Wait until the port works. @throws VfioError ENODEV, EIO */
  async ready(): Promise<void> {
    if (this.dev.asleep) await this.dev.awake();
    while (this.#state === 'resetting') await this.#recovering;
    if (this.#state !== 'live') throw this.#reason ?? new VfioError('EBUSY', `${this.dev.name} is ${this.#state}`);
  }

  /** Send what is in the rings, for up to a second, stop the port and close the device. */
  async close(): Promise<void> {
    if (this.#state === 'live' && this.#link.up) await this.flush({ timeoutMs: 1000 }).catch(() => {});
    this[Symbol.dispose]();
  }

  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** End at once: frames in the rings are lost. Idempotent. */
  [Symbol.dispose](): void {
    if (this.#state === 'closed') return;
    const reachable = this.#state !== 'gone' && !this.dev.asleep;
    this.#state = 'closed';
    this.#reason = new VfioError('ENODEV', `the driver of ${this.dev.name} was closed`);
    this.#listening[Symbol.dispose]();
    this.#tick?.[Symbol.dispose]();
    try {
      if (reachable) this.halt();
    } catch (error) {
      if (!(error instanceof VfioError)) throw error;
    }
    this.signals?.[Symbol.dispose]();
    this.#failAll(this.#reason);
    // Bus mastering ends here, and after it the buffers are unmapped.
    this.dev.close();
    this.#alive[Symbol.dispose]();
  }

  // The rest is for the two kinds of port, and for `Signals`.

  /** Takes the card from any state to a working one. @throws VfioError */
  protected abstract initialise(): Promise<void>;
  /** Stops DMA and interrupts at once. */
  protected abstract halt(): void;
  /** STATUS of the port. */
  protected abstract readStatus(): number;
  /** Whether the card still has the values that `initialise` gave it. */
  protected abstract intact(): boolean;
  /** Once a second: counters, and the work of the kind of port. */
  protected abstract tick(): void;
  /** Work of the last vector: link, mailbox. */
  protected abstract serveOther(): void;
  abstract arm(kind: SignalKind, vector: number): void;
  abstract acknowledge(): void;

  get vectorsWanted(): number {
    return this.receiveQueues.length + 1;
  }

  serve(vector: number): void {
    if (this.#state !== 'live') return;
    const { signals } = this;
    for (let queue = 0; queue < this.#senders.length; queue++) {
      if (vector >= 0 && signals.vectorOf(queue) !== vector) continue;
      this.transmitQueues[queue]!.reclaim();
      this.#senders[queue]!.serve();
      if (this.#readers.any && this.receiveQueues[queue]!.poll() > 0) this.#readers.end();
    }
    if (this.#flushers.any && this.#idle()) this.#flushers.end();
    if (vector < 0 || vector === signals.other) this.serveOther();
  }

  awaited(vector: number): boolean {
    if (this.#state !== 'live') return false;
    if (vector === this.signals.other && this.signals.kind !== 'poll') return true;
    return this.#readers.any || this.#flushers.any || this.#senders.some((sender) => sender.waiting);
  }

  /** `initialise` for the first time. */
  protected async begin(): Promise<void> {
    this.dev.busMaster = true;
    this.signals = Signals.enable(this.dev, this.settings.interrupts, this);
    await this.initialise();
    if (this.#state !== 'starting') throw this.#reason ?? new VfioError('ENODEV', `${this.dev.name} is ${this.#state}`);
    this.#live();
  }

  /** Starts both rings of each pair, and waits until the card has enabled them (4.5.9, 4.5.10). */
  protected async startQueues(dropEnable: boolean): Promise<void> {
    for (const queue of this.receiveQueues) queue.start(dropEnable);
    for (const queue of this.transmitQueues) queue.start();
    const queues = [...this.receiveQueues, ...this.transmitQueues];
    if (queues.every((queue) => queue.ready)) return;
    try {
      await this.dev.until(() => queues.every((queue) => queue.ready), { timeoutMs: QUEUE_MS });
    } catch (error) {
      if (!(error instanceof VfioError) || error.code !== 'ETIMEDOUT') throw error;
      throw new VfioError('EIO', `${this.dev.name} does not enable its queues within ${QUEUE_MS} ms`, { cause: error });
    }
  }

  /** Gives the receive queues their buffers. */
  protected openQueues(): void {
    for (const queue of this.receiveQueues) queue.open();
  }

  /** Looks at STATUS, and reports a change. */
  protected lookAtLink(usable = true): void {
    const status = this.readStatus();
    if (status === ALL_ONES) {
      this.lost(new VfioError('EIO', `${this.dev.name} does not answer: STATUS reads as all ones`));
      return;
    }
    const link = usable ? decodeLink(status) : DOWN;
    const old = this.#link;
    if (link.up === old.up && link.speed === old.speed && link.fullDuplex === old.fullDuplex) return;
    this.#link = link;
    if (link.up) this.#linkWaits.end();
    this.listeners.emit({ kind: 'link', link });
  }

  /** A register did not answer. */
  protected lost(error: unknown): void {
    if (!(error instanceof VfioError)) throw error;
    if (error.code === 'ENODEV') this.gone(error.message);
    else void this.recover(error.message);
  }

  /** Reset, and start again. Never rejects: see `state` and the events. */
  protected recover(reason: string): Promise<void> {
    if (this.#state === 'live' || this.#state === 'failed') {
      this.#state = 'resetting';
      this.#recovering = this.#recover(reason);
    }
    return this.#recovering ?? Promise.resolve();
  }

  /** The device is gone. Idempotent. */
  protected gone(reason: string): void {
    if (this.#state === 'gone' || this.#state === 'closed') return;
    this.#state = 'gone';
    this.#reason = new VfioError('ENODEV', `${this.dev.name} is gone: ${reason}`);
    this.#stopQueues();
    this.#failAll(this.#reason);
    this.listeners.emit({ kind: 'gone', reason });
  }

  /** A line in the device's log. */
  protected note(level: 'info' | 'warn' | 'error', text: string): void {
    this.dev.device.eventPort.emit('note', { level, about: '82576 driver', text });
  }

  #live(): void {
    this.#state = 'live';
    this.#reason = null;
    this.lookAtLink();
    for (const progress of this.#progress) progress.sinceNs = this.dev.clock.nowNs();
    this.#scheduleAll();
    this.#nextTick();
  }

  #nextTick(): void {
    this.#tick?.[Symbol.dispose]();
    this.#tick = this.dev.clock.after(TICK_MS, () => {
      if (this.#state !== 'live') return;
      this.#nextTick();
      try {
        this.#look();
      } catch (error) {
        this.lost(error);
      }
    });
  }

  #look(): void {
    this.lookAtLink();
    if (this.#state !== 'live') return;
    if (!this.intact()) {
      void this.recover('the card has lost its values: it was reset by others');
      return;
    }
    this.tick();
    this.serve(-1);
    this.#lookForStuck();
  }

  /** A frame that the card does not take although its link is up. */
  #lookForStuck(): void {
    const now = this.dev.clock.nowNs();
    this.transmitQueues.forEach((queue, i) => {
      const progress = this.#progress[i]!;
      queue.reclaim();
      if (queue.inFlight === 0 || queue.completed !== progress.completed || !this.#link.up) {
        progress.completed = queue.completed;
        progress.sinceNs = now;
      } else if (now - progress.sinceNs >= this.settings.timeoutMs * 1e6) {
        void this.recover(`queue ${i} has not sent a frame within ${this.settings.timeoutMs} ms`);
      }
    });
  }

  /** A reset by others has cleared COMMAND, and the enable bit of the interrupts. */
  protected regain(): void {
    this.dev.busMaster = true;
    this.signals[Symbol.dispose]();
    this.signals = Signals.enable(this.dev, this.settings.interrupts, this);
  }

  async #recover(reason: string): Promise<void> {
    if (this.dev.asleep) await this.dev.awake();
    this.note('warn', `${this.dev.name} is reset: ${reason}`);
    this.listeners.emit({ kind: 'reset', reason });
    this.#stopQueues();
    this.#flushers.end(new VfioError('EIO', `${this.dev.name}: frames were lost by a reset: ${reason}`));
    this.doorbell.release(true);
    try {
      this.regain();
      await this.initialise();
      if (this.#state !== 'resetting') return;
      this.#live();
      this.listeners.emit({ kind: 'recovered' });
    } catch (cause) {
      this.#failed(cause);
    }
  }

  #failed(cause: unknown): void {
    if (this.#state !== 'resetting') return;
    if (cause instanceof VfioError && cause.code === 'ENODEV') {
      this.gone(cause.message);
      return;
    }
    const why = cause instanceof Error ? cause.message : String(cause);
    this.#state = 'failed';
    this.#reason = new VfioError('EIO', `${this.dev.name} did not come back after a reset: ${why}`, { cause, fix: 'Try port.reset().' });
    this.#failAll(this.#reason);
    this.note('error', this.#reason.message);
    this.listeners.emit({ kind: 'failed', error: this.#reason });
  }

  #awake(): void {
    try {
      this.doorbell.release();
      this.#scheduleAll();
    } catch (error) {
      this.lost(error);
    }
  }

  #stopQueues(): void {
    for (const queue of this.receiveQueues) queue.stop();
    for (const queue of this.transmitQueues) queue.stop();
  }

  #idle(): boolean {
    let idle = true;
    for (const queue of this.transmitQueues) {
      queue.reclaim();
      idle &&= queue.inFlight === 0;
    }
    return idle && !this.#senders.some((sender) => sender.waiting);
  }

  #takeFrom(turn: number): Frame | null {
    const { receiveQueues } = this;
    for (let i = 0; i < receiveQueues.length; i++) {
      const number = (turn + i) % receiveQueues.length;
      const queue = receiveQueues[number]!;
      while (queue.poll() > 0) {
        const frame = queue.lengthOf(0) === 0 ? null : takeFrame(queue, 0, number);
        queue.release(1);
        if (frame !== null) return frame;
      }
    }
    return null;
  }

  #scheduleAll(): void {
    for (let vector = 0; vector < this.signals.vectors; vector++) this.signals.schedule(vector);
  }

  #failAll(error: VfioError): void {
    for (const sender of this.#senders) sender.fail(error);
    this.#linkWaits.end(error);
    this.#flushers.end(error);
    this.#readers.end();
  }
}

function decodeLink(status: number): Link {
  if ((status & Status.LU) === 0) return DOWN;
  const speed = status & Status.SPEED;
  return {
    up: true,
    speed: speed === 0 ? 10 : speed === Status.SPEED_100 ? 100 : 1000,
    fullDuplex: (status & Status.FD) !== 0,
  };
}
