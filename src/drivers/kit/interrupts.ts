/**
 * Interrupts as a driver waits for them: `using irq = dev.msi.enable(1); await irq.next(0, {
 * timeoutMs: 1000 })`.
 */

import type { Device, InterruptSink } from '../../abi/device.ts';
import { IrqIndex } from '../../abi/vfio.ts';
import { checkIndex } from '../../base/check.ts';
import type { Clock } from '../../base/clock.ts';
import { Emitter } from '../../base/emitter.ts';
import { VfioError } from '../../base/errno.ts';
import { surface } from '../../base/foreign.ts';
import { INSPECT } from '../../base/inspect.ts';
import { keepAlive } from '../../base/keep-alive.ts';
import type { WaitEvents } from './wait-events.ts';

/** How long a driver waits for an interrupt. */
export interface WaitOptions {
  /** Fail with ETIMEDOUT after this time, at most 24 days. Default: no timeout. */
  readonly timeoutMs?: number;
}

/** @throws VfioError EINVAL for a time that no timer can wait */
export function checkTimeout(timeoutMs: number): number {
  if (timeoutMs >= 0 && timeoutMs < 2 ** 31) return timeoutMs;
  throw new VfioError('EINVAL', `timeoutMs is ${String(timeoutMs)}; it must be from 0 to 2147483647`);
}

/** How waits for a vector are reported. */
interface VectorWaits {
  readonly events: WaitEvents;
  /** `MSI-X vector 1` */
  readonly what: string;
}

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: VfioError) => void;
}

/**
 * An interrupt sink in this process. It counts signals and wakes waiting callers. Each `next` takes
 * one signal.
 */
export class InterruptWaiter implements InterruptSink {
  #references = 1;
  #pending = 0;
  #total = 0;
  #failure: VfioError | null = null;
  readonly #waiters: Waiter[] = [];
  /** A sink never throws, so a failure of a listener surfaces as an uncaught error. */
  readonly #signals = new Emitter<void>((_event, error) => surface(error));
  readonly #clock: Clock;
  readonly #waits: VectorWaits | null;
  /** The event of the newest signal; 0: none is known. */
  #cause = 0;

  /** @param waits where the waits of `next` are reported. Default: nowhere */
  constructor(clock: Clock, waits: VectorWaits | null = null) {
    this.#clock = clock;
    this.#waits = waits;
  }

  signal(): void {
    if (this.#references === 0) return;
    this.#total++;
    if (this.#waits?.events.on === true) this.#cause = this.#waits.events.cause;
    const waiter = this.#waiters.shift();
    if (waiter === undefined) this.#pending++;
    else waiter.resolve();
    this.#signals.emit();
  }

  get(): this {
    this.#references++;
    return this;
  }

  put(): void {
    if (this.#references === 0) throw new Error('put of an interrupt sink that has no references');
    this.#references--;
  }

  /** Number of holders, the creator included. */
  get references(): number {
    return this.#references;
  }

  /** Number of signals that `next` has not taken yet. */
  get pending(): number {
    return this.#pending;
  }

  /** Number of signals since the sink was made. */
  get total(): number {
    return this.#total;
  }

  /** Forget the signals that are not taken yet. @returns their number */
  drain(): number {
    const drained = this.#pending;
    this.#pending = 0;
    return drained;
  }

  /**
   * Call `listener` at every signal, for drivers that do not wait for a promise. `next` sees the
   * signal too.
   */
  listen(listener: () => void): Disposable {
    return this.#signals.on(listener);
  }

  /**
   * Take one signal, or wait for it.
   * @param describe makes the error of a timeout
   * @throws VfioError ETIMEDOUT; the error that `fail` was given
   */
  next(options: WaitOptions, describe: () => VfioError): Promise<void> {
    const waits = this.#waits;
    const sinceNs = waits === null ? -1 : waits.events.begin();
    if (this.#pending > 0) {
      this.#pending--;
      waits?.events.ended(waits.what, 'done', sinceNs, this.#cause);
      return Promise.resolve();
    }
    if (this.#failure !== null) {
      waits?.events.failed(waits.what, this.#failure, sinceNs);
      return Promise.reject(this.#failure);
    }
    return new Promise((resolve, reject) => {
      const alive = keepAlive();
      let timer: Disposable | null = null;
      const done = () => {
        alive[Symbol.dispose]();
        timer?.[Symbol.dispose]();
      };
      const waiter: Waiter = {
        resolve: () => {
          done();
          waits?.events.ended(waits.what, 'done', sinceNs);
          resolve();
        },
        reject: (error) => {
          done();
          waits?.events.failed(waits.what, error, sinceNs);
          reject(error);
        },
      };
      this.#waiters.push(waiter);
      if (options.timeoutMs === undefined) return;
      timer = this.#clock.after(options.timeoutMs, () => {
        // The interrupt may have come while this thread was busy. The event loop runs timers first
        // and looks at descriptors within a turn.
        timer = this.#clock.after(0, () => {
          this.#waiters.splice(this.#waiters.indexOf(waiter), 1);
          waiter.reject(describe());
        });
      });
    });
  }

  /** No signal will come any more. Present and later waits fail with `error`. */
  fail(error: VfioError): void {
    this.#failure = error;
    for (const waiter of this.#waiters.splice(0)) waiter.reject(error);
  }
}

const kinds = { intx: IrqIndex.INTX, msi: IrqIndex.MSI, msix: IrqIndex.MSIX } as const;
const titles = { intx: 'INTx', msi: 'MSI', msix: 'MSI-X' } as const;
export type IrqKind = keyof typeof kinds;

/** `MSI-X vector 1`, `INTx`. */
function vectorWords(kind: IrqKind, vector: number): string {
  return kind === 'intx' ? titles.intx : `${titles[kind]} vector ${vector}`;
}

/** The way out for a driver that asks for a kind of interrupt that the device lacks. */
function otherKinds(device: Device): { fix?: string } {
  const has = (Object.keys(kinds) as IrqKind[]).filter((kind) => device.irq(kinds[kind]).count > 0);
  return has.length === 0 ? {} : { fix: `It has ${has.map((kind) => `${titles[kind]}: dev.${kind}.enable(…)`).join('; ')}.` };
}

/** The surroundings of the device that enabling needs. */
export interface IrqContext {
  readonly device: Device;
  readonly clock: Clock;
  readonly waits: WaitEvents;
  /** A reason why no message may have arrived, for the error of a timeout. */
  hint(kind: IrqKind): string | undefined;
  /**
   * @throws VfioError EBUSY while interrupts of this kind are enabled: the device has one set of
   *   each
   */
  checkFree(kind: IrqKind, name: string): void;
  /** Called when the interrupts are disabled. */
  released(interrupts: Interrupts): void;
}

/** Enabled interrupts of one kind. Dispose disables them. */
export class Interrupts implements Disposable {
  readonly kind: IrqKind;
  readonly #context: IrqContext;
  readonly #waiters: readonly InterruptWaiter[];
  /** The device's address, kept because a device that is gone does not report it any more. */
  readonly #name: string;
  #enabled = true;

  private constructor(kind: IrqKind, context: IrqContext, waiters: readonly InterruptWaiter[], name: string) {
    this.kind = kind;
    this.#context = context;
    this.#waiters = waiters;
    this.#name = name;
  }

  /**
   * @throws VfioError EBUSY while interrupts of this kind are enabled; ENOSPC when the device has,
   *   or the host can give, fewer vectors; EINVAL while another kind is enabled
   */
  static enable(kind: IrqKind, count: number, context: IrqContext): Interrupts {
    const { device, clock, waits } = context;
    const { name } = device.info;
    const has = device.irq(kinds[kind]).count;
    const vectors = `${has} ${titles[kind]} vector${has === 1 ? '' : 's'}`;
    if (!Number.isSafeInteger(count) || count < 1 || count > has) {
      throw new VfioError(
        Number.isSafeInteger(count) && count > has ? 'ENOSPC' : 'EINVAL',
        has === 0 ? `${name} has no ${titles[kind]}` : `${name} has ${vectors}; ${String(count)} cannot be enabled`,
        has === 0 ? otherKinds(device) : { fix: has === 1 ? 'Enable 1.' : `Enable from 1 to ${has}.` },
      );
    }
    context.checkFree(kind, name);
    const waiters = Array.from(
      { length: count },
      (_, vector) => new InterruptWaiter(clock, { events: waits, what: vectorWords(kind, vector) }),
    );
    const available = device.setIrqs({ index: kinds[kind], start: 0, count, action: 'trigger', data: 'sinks', sinks: waiters });
    if (available > 0) {
      throw new VfioError('ENOSPC', `${name}: the host can give ${available} of ${count} ${titles[kind]} vectors`, {
        fix: 'Enable fewer.',
      });
    }
    return new Interrupts(kind, context, waiters, name);
  }

  /** Vectors that are enabled. */
  get count(): number {
    return this.#waiters.length;
  }

  /** The line that `console.log` prints of it. */
  [INSPECT](): string {
    return `Interrupts of ${this.#name}: ${this.count} ${this.title}${this.#enabled ? '' : ', disabled'}`;
  }

  /** The kind in its usual spelling: `MSI-X`. */
  get title(): string {
    return titles[this.kind];
  }

  /**
   * Wait for the next interrupt on `vector`. An earlier one that no wait has taken counts.
   *
   * @throws VfioError EINVAL for a vector that is not enabled; ETIMEDOUT after `timeoutMs`; ENODEV
   * when meanwhile the interrupts are disabled or the device goes
   */
  next(vector = 0, options: WaitOptions = {}): Promise<void> {
    if (options.timeoutMs !== undefined) checkTimeout(options.timeoutMs);
    return this.#at(vector).next(options, () => {
      const fix = this.#context.hint(this.kind);
      const message = `${this.#name}: no ${titles[this.kind]} interrupt${this.#label(vector)} within ${options.timeoutMs} ms`;
      return new VfioError('ETIMEDOUT', message, fix === undefined ? {} : { fix });
    });
  }

  /** Run `listener` at every interrupt on `vector`, at once. */
  listen(vector: number, listener: () => void): Disposable {
    return this.#at(vector).listen(listener);
  }

  /** Number of interrupts on `vector` that no wait has taken yet. */
  pending(vector = 0): number {
    return this.#at(vector).pending;
  }

  /** Forget the interrupts that no wait has taken yet. @returns their number */
  drain(vector = 0): number {
    return this.#at(vector).drain();
  }

  /**
   * INTx masks itself at every interrupt. Unmask it after the driver has acknowledged the device. A
   * device that still asserts the line interrupts again.
   */
  unmask(): void {
    this.#set('unmask');
  }

  /**
   * Masks INTx: no interrupt comes until `unmask`. Messages cannot be masked this way.
   *
   * @throws VfioError ENOTTY for MSI and MSI-X
   */
  mask(): void {
    this.#set('mask');
  }

  /** No more interrupts will come. Waits fail with `error`. */
  fail(error: VfioError): void {
    for (const waiter of this.#waiters) waiter.fail(error);
  }

  /** Disables the interrupts. Waits fail with ENODEV. Idempotent. */
  [Symbol.dispose](): void {
    if (!this.#enabled) return;
    this.#enabled = false;
    const { device } = this.#context;
    try {
      device.setIrqs({ index: kinds[this.kind], start: 0, count: 0, action: 'trigger', data: 'none' });
    } catch (error) {
      // The device is gone, or other means disabled the interrupts: nothing is left to disable.
      if (!(error instanceof VfioError)) throw error;
    }
    this.fail(new VfioError('ENODEV', `${this.#name}: ${titles[this.kind]} was disabled`));
    for (const waiter of this.#waiters) waiter.put();
    this.#context.released(this);
  }

  #set(action: 'mask' | 'unmask'): void {
    this.#context.device.setIrqs({ index: kinds[this.kind], start: 0, count: 1, action, data: 'none' });
  }

  #at(vector: number): InterruptWaiter {
    checkIndex(vector, this.#waiters.length - 1, `${titles[this.kind]} vector`);
    return this.#waiters[vector]!;
  }

  #label(vector: number): string {
    return this.kind === 'intx' ? '' : ` on vector ${vector}`;
  }
}
