/**
 * Everything between a present controller and a working one: queues and their interrupts, enable,
 * recovery, shutdown. One session lasts from start to close, over all resets; the queue objects
 * stay the same.
 */
import { VfioError } from '../../base/errno.ts';
import { KeepAlive, keepAlive } from '../../base/keep-alive.ts';
import type { Logger, LogLevel } from '../../base/log.ts';
import type { DriverDevice } from '../kit/driver-device.ts';
import type { WaitEvents } from '../kit/wait-events.ts';
import { AdminCommands } from './admin.ts';
import { BouncePool } from './bounce-pool.ts';
import type { CommandPort } from './command-port.ts';
import { CompletionSignals, type SignalKind } from './completion-signals.ts';
import { Controller } from './controller.ts';
import { type ControllerInfo, decodeController } from './controller-info.ts';
import type { EventListeners, SessionState } from './events.ts';
import type { IoQueue } from './io-queue.ts';
import { IoQueues, type QueueHome } from './io-queues.ts';
import { QueueMemory, type QueueOptions } from './queue-memory.ts';
import type { QueuePair } from './queue-pair.ts';
import { Rescue, type RescuedController } from './rescue.ts';
import { ResetLimit } from './reset-limit.ts';
import { Watchdog } from './watchdog.ts';

export interface SessionOptions extends QueueOptions {
  readonly interrupts: SignalKind | undefined;
  readonly timeoutMs: number;
  /** Null: the driver's lines are notes of the device. */
  readonly log: Logger | null;
}

export class Session implements CommandPort, QueueHome, RescuedController {
  readonly dev: DriverDevice;
  readonly deviceName: string;
  readonly controller: Controller;
  readonly pool: BouncePool;
  readonly adminQueue: QueuePair;
  readonly admin: AdminCommands;
  readonly options: SessionOptions;
  readonly watchdog: Watchdog;
  readonly ioQueues: IoQueues;
  readonly listeners: EventListeners;
  readonly signals: CompletionSignals;
  info!: ControllerInfo;
  /** Bytes that one command moves: MDTS, and what a queue's lists describe. */
  maxTransfer = 0;
  /** Changes with every reset. */
  life = 0;
  /** Runs after each enable, before other code may use the controller. */
  onEnabled: () => Promise<void> = async () => {};
  #state: SessionState = 'starting';
  /** The reason why the controller is not live. */
  #reason: VfioError | null = null;
  #recovering: Promise<void> | null = null;
  #closing: Promise<void> | null = null;
  readonly #resets = new ResetLimit();
  readonly #memory: QueueMemory;
  readonly #alive = new KeepAlive();
  readonly #rescue: Rescue;
  readonly #listening: Disposable;

  /**
   * Touches read-only registers only.
   * @throws VfioError ENODEV, EIO when there is no controller; ENOSPC without the interrupts that
   * were asked for
   */
  constructor(dev: DriverDevice, options: SessionOptions, listeners: EventListeners) {
    this.dev = dev;
    this.deviceName = dev.name;
    this.options = options;
    this.listeners = listeners;
    this.controller = new Controller(dev);
    this.#memory = new QueueMemory(dev, this.controller.capabilities, options);
    this.watchdog = new Watchdog(dev.clock, options.timeoutMs, () => this.#rescue.look());
    this.#rescue = new Rescue(this);
    this.pool = new BouncePool(dev, this.controller.capabilities.pageSize);
    const queues = Math.min(options.queues, this.#memory.queuesMax);
    this.ioQueues = new IoQueues(this, this.#memory, queues);
    const { registers } = this.controller;
    this.signals = CompletionSignals.enable(dev, options.interrupts, queues, {
      mask() {
        registers.intms = 1;
      },
      unmask() {
        registers.intmc = 1;
      },
    });
    this.adminQueue = this.#memory.adminQueue(this);
    this.signals.attach(this.adminQueue);
    this.admin = new AdminCommands(this.adminQueue, this.pool, (ms) => this.watchdog.ticks(ms));
    this.#listening = dev.on(
      (event) => {
        if (event.kind === 'gone') this.gone(event.reason);
        else if (event.kind === 'asleep') this.#memory.doorbells.hold();
        else this.#awake();
      },
      ['asleep', 'resume', 'gone'],
    );
  }

  get state(): SessionState {
    return this.#state;
  }

  get waits(): WaitEvents {
    return this.dev.waits;
  }

  get tick(): number {
    return this.watchdog.tick;
  }

  get shadowDoorbells(): boolean {
    return this.#memory.doorbells.shadowed;
  }

  get doorbellWrites(): number {
    return this.#memory.doorbells.written;
  }

  ticks(ms?: number): number {
    return this.watchdog.ticks(ms);
  }

  log(level: LogLevel, message: string): void {
    const { log } = this.options;
    if (log !== null) log.log(level, message);
    else this.dev.device.eventPort.emit('note', { level, about: 'nvme driver', text: message });
  }

  /** Every I/O queue since the start. */
  get queues(): readonly IoQueue[] {
    return this.ioQueues.all;
  }

  /**
   * The queue for the next command; null while the controller is not live: `live` then waits, or
   * throws the reason.
   */
  pick(): IoQueue | null {
    return this.#state === 'live' ? this.ioQueues.pick() : null;
  }

  /**
   * Wait for a queue of a working controller.
   * @throws VfioError ENODEV when it is gone or closed; EIO when it did not come back, or has no
   * I/O queues
   */
  async live(): Promise<IoQueue> {
    await this.ready();
    const queue = this.pick();
    if (queue !== null) return queue;
    throw this.ioQueues.whyNone;
  }

  /** Doorbells ring now for the commands that were put while the machine slept. */
  #awake(): void {
    try {
      this.#memory.doorbells.release();
    } catch (error) {
      this.lost(error);
    }
  }

  /** Wait until the controller works. @throws VfioError as `live` */
  async ready(): Promise<void> {
    if (this.dev.asleep) await this.dev.awake();
    while (this.#state === 'resetting') await this.#recovering;
    if (this.#state !== 'live') throw this.#reason ?? new VfioError('EBUSY', `${this.deviceName} is ${this.#state}`);
  }

  /** Wait, and keep the process alive. */
  async pause(ms: number): Promise<void> {
    using _alive = keepAlive();
    await this.rest(ms);
  }

  /** Wait, without keeping the process alive. */
  rest(ms: number): Promise<void> {
    return new Promise((resolve) => this.dev.clock.after(ms, resolve));
  }

  /**
   * Enable for the first time.
   * @throws VfioError when it fails; the controller is disabled then, if possible
   */
  async start(): Promise<void> {
    this.dev.busMaster = true;
    try {
      await this.controller.disable();
      await this.#initialise();
      if (this.#state !== 'starting') throw this.#reason;
      this.#state = 'live';
    } catch (error) {
      await this.#quiesce().catch(() => {});
      throw error;
    }
  }

  busy(): void {
    this.#alive.hold();
    this.watchdog.wake();
  }

  idle(): void {
    this.#alive.release();
  }

  /** Whether a command is in flight or waits. */
  get active(): boolean {
    return this.#alive.holds > 0;
  }

  rung(): void {
    this.signals.rung();
  }

  fault(queue: QueuePair, what: string): void {
    this.log('error', `${this.deviceName}: ${what}`);
    if (this.#state === 'live') void this.recover(what);
    // The code that starts or stops the controller fails.
    else if (queue === this.adminQueue) queue.close(new VfioError('EIO', `${this.deviceName} misbehaves: ${what}`), true);
    else queue.pause();
  }

  lost(error: unknown): void {
    if (!(error instanceof VfioError)) throw error;
    if (error.code === 'ENODEV') this.gone(error.message);
    else void this.recover(error.message);
  }

  /**
   * Reset the controller and start it again. Commands in flight fail, and new ones wait. Never
   * rejects: see `state` and the events.
   */
  recover(reason: string, asked = false): Promise<void> {
    if (this.#state === 'live' || this.#state === 'failed') {
      this.#state = 'resetting';
      this.life++;
      for (const queue of this.#everyQueue()) queue.pause();
      this.#recovering = this.#recover(reason, asked);
    }
    return this.#recovering ?? Promise.resolve();
  }

  /** The device is gone. Idempotent. */
  gone(reason: string): void {
    if (this.#state === 'gone' || this.#state === 'closed') return;
    this.#state = 'gone';
    this.life++;
    this.#reason = new VfioError('ENODEV', `${this.deviceName} is gone: ${reason}`);
    for (const queue of this.#everyQueue()) queue.close(this.#reason, true);
    this.listeners.emit({ kind: 'gone', reason });
  }

  /**
   * Wait for commands in flight and shut the controller down, each within the timeout, and close
   * the device. Idempotent; never rejects for the device's fault.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    if (this.#state === 'closed') return;
    if (this.dev.asleep) await this.dev.awake();
    if (this.#state === 'resetting') await this.#recovering;
    const wasLive = this.#state === 'live';
    if (this.#state !== 'gone') this.#state = 'closing';
    this.#reason ??= new VfioError('ENODEV', `the driver of ${this.deviceName} was closed`);
    try {
      if (wasLive) await this.#shutDown();
    } catch (error) {
      if (!(error instanceof VfioError)) throw error;
      this.log('warn', `${this.deviceName} was not shut down cleanly: ${error.message}`);
    } finally {
      this.closeNow();
    }
  }

  /** Close without waiting. Idempotent. */
  closeNow(): void {
    if (this.#state === 'closed') return;
    const reachable = this.#state !== 'gone' && !this.dev.asleep;
    this.#state = 'closed';
    this.life++;
    const reason = new VfioError('ENODEV', `the driver of ${this.deviceName} was closed`);
    this.#reason = reason;
    this.#listening[Symbol.dispose]();
    this.watchdog[Symbol.dispose]();
    try {
      if (reachable) this.controller.stop();
    } catch (error) {
      if (!(error instanceof VfioError)) throw error;
    }
    this.signals[Symbol.dispose]();
    this.#memory[Symbol.dispose]();
    // Bus mastering ends here. Only after that may the caller use the buffers again.
    this.dev.close();
    for (const queue of this.#everyQueue()) queue.close(reason, true);
    this.#alive[Symbol.dispose]();
  }

  #everyQueue(): readonly QueuePair[] {
    return [this.adminQueue, ...this.queues];
  }

  /** Take the controller from disabled to working. */
  async #initialise(): Promise<void> {
    this.adminQueue.open();
    await this.controller.enable(this.#memory.adminAddresses);
    this.info = decodeController(await this.admin.identifyController(), this.controller.capabilities, this.deviceName);
    // The queues' lists are made once, so a limit that grew with new firmware is not used.
    const most = Math.min(this.info.mdtsBytes, this.#memory.transferMax);
    this.maxTransfer = this.maxTransfer === 0 ? most : Math.min(most, this.maxTransfer);
    this.admin.maxTransfer = Math.max(4096, this.maxTransfer);
    this.admin.logAttributes = this.info.identify.lpa;
    this.admin.optionalCommands = this.info.oncs;
    if (!this.controller.capabilities.adminOnly) await this.ioQueues.create(this.info.has.doorbellBuffers);
    await this.onEnabled();
  }

  async #recover(reason: string, asked: boolean): Promise<void> {
    if (this.dev.asleep) await this.dev.awake();
    this.log('warn', `${this.deviceName} is reset: ${reason}`);
    this.listeners.emit({ kind: 'reset', reason });
    const error = new VfioError('EIO', `${this.deviceName}: the command was in flight when the controller was reset: ${reason}`, {
      fix: 'Whether it was done is not known; the driver can be used again.',
    });
    let failure: unknown = null;
    try {
      await this.#quiesce();
    } catch (e) {
      failure = e;
    }
    const excess = asked ? this.#resets.forget() : this.#resets.count(this.dev.clock.nowNs());
    if (excess !== null) failure ??= new VfioError('EIO', `${excess}, the last because ${reason}`);
    if (this.#state !== 'resetting') return;
    for (const queue of this.#everyQueue()) queue.close(error, false);
    try {
      if (failure !== null) throw failure;
      this.dev.busMaster = true;
      await this.#initialise();
      if (this.#state !== 'resetting') return;
      this.#state = 'live';
      this.#reason = null;
      this.listeners.emit({ kind: 'recovered' });
    } catch (e) {
      await this.#failed(e);
    }
  }

  async #failed(cause: unknown): Promise<void> {
    await this.#quiesce().catch(() => {});
    if (this.#state !== 'resetting') return;
    const why = cause instanceof Error ? cause.message : String(cause);
    const error = new VfioError('EIO', `${this.deviceName} did not come back after a reset: ${why}`, { cause, fix: 'Try driver.reset().' });
    this.#state = 'failed';
    this.#reason = error;
    for (const queue of this.#everyQueue()) queue.close(error, true);
    this.log('error', error.message);
    this.listeners.emit({ kind: 'failed', error });
  }

  /**
   * Make the controller reach no memory: disable it, or cut it off.
   * @throws VfioError when it could only be cut off, or not even that
   */
  async #quiesce(): Promise<void> {
    try {
      await this.controller.disable();
    } catch (error) {
      this.dev.busMaster = false;
      throw error;
    } finally {
      this.#memory.dropShadows();
    }
  }

  async #shutDown(): Promise<void> {
    const { timeoutMs } = this.options;
    if (this.active) await this.dev.until(() => !this.active, { timeoutMs }).catch(() => {});
    if (this.#state !== 'closing') return;
    await this.ioQueues.delete();
    // RTD3E is how long it may take, in microseconds (5.15.2.2); the driver does not wait an hour
    // for a controller that asks for it.
    const within = Math.min(60_000, Math.max(timeoutMs, this.info.identify.rtd3e / 1000));
    if (!(await this.controller.shutdown(within))) this.log('warn', `${this.deviceName} did not shut down within ${within} ms`);
  }
}
