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

/** How long a driver waits for an interrupt. */
export interface WaitOptions {
  /** Give up with ETIMEDOUT after this long, at most 24 days; wait for ever unless told. */
  readonly timeoutMs?: number;
}

/** @throws VfioError EINVAL for what no timer can wait */
export function checkTimeout(timeoutMs: number): number {
  if (timeoutMs >= 0 && timeoutMs < 2 ** 31) return timeoutMs;
  throw new VfioError('EINVAL', `timeoutMs is ${String(timeoutMs)}; it must be from 0 to 2147483647`);
}

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: VfioError) => void;
}

/**
 * An interrupt sink in this process: counts signals, and wakes whoever waits. Each `next` takes one
 * signal.
 */
export class InterruptWaiter implements InterruptSink {
  #references = 1;
  #pending = 0;
  #total = 0;
  #failure: VfioError | null = null;
  readonly #waiters: Waiter[] = [];
  /** A sink never throws: a listener that fails surfaces as an uncaught error. */
  readonly #signals = new Emitter<void>((_event, error) => surface(error));
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  signal(): void {
    if (this.#references === 0) return;
    this.#total++;
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

  /** Holders, the creator included. */
  get references(): number {
    return this.#references;
  }

  /** Signals not yet taken by `next`. */
  get pending(): number {
    return this.#pending;
  }

  /** Signals since it was made. */
  get total(): number {
    return this.#total;
  }

  /** Forget the signals not yet taken; gives their number. */
  drain(): number {
    const drained = this.#pending;
    this.#pending = 0;
    return drained;
  }

  /**
   * Called at every signal, besides what `next` sees: for drivers that do not want to wait for a
   * promise.
   */
  listen(listener: () => void): Disposable {
    return this.#signals.on(listener);
  }

  /**
   * Take one signal, now or when it comes.
   * @param describe makes the error of a timeout
   * @throws VfioError ETIMEDOUT; what `fail` was given
   */
  next(options: WaitOptions, describe: () => VfioError): Promise<void> {
    if (this.#pending > 0) {
      this.#pending--;
      return Promise.resolve();
    }
    if (this.#failure !== null) return Promise.reject(this.#failure);
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
          resolve();
        },
        reject: (error) => {
          done();
          reject(error);
        },
      };
      this.#waiters.push(waiter);
      if (options.timeoutMs === undefined) return;
      timer = this.#clock.after(options.timeoutMs, () => {
        // It may have come while this thread did something else: timers go first, descriptors are
        // looked at within a turn of the event loop.
        timer = this.#clock.after(0, () => {
          this.#waiters.splice(this.#waiters.indexOf(waiter), 1);
          waiter.reject(describe());
        });
      });
    });
  }

  /** No signal will come any more: everybody who waits, now or later, gets `error`. */
  fail(error: VfioError): void {
    this.#failure = error;
    for (const waiter of this.#waiters.splice(0)) waiter.reject(error);
  }
}

const kinds = { intx: IrqIndex.INTX, msi: IrqIndex.MSI, msix: IrqIndex.MSIX } as const;
const titles = { intx: 'INTx', msi: 'MSI', msix: 'MSI-X' } as const;
export type IrqKind = keyof typeof kinds;

/** What enabling needs of the device's surroundings. */
export interface IrqContext {
  readonly device: Device;
  readonly clock: Clock;
  /** Why no message may have arrived, for the error of a timeout. */
  hint(kind: IrqKind): string | undefined;
  /**
   * @throws VfioError EBUSY while interrupts of this kind are enabled: the device has one set of
   *   each
   */
  checkFree(kind: IrqKind, name: string): void;
  /** Called when it is disabled. */
  released(interrupts: Interrupts): void;
}

/** Enabled interrupts of one kind. Disposing disables them. */
export class Interrupts implements Disposable {
  readonly kind: IrqKind;
  readonly #context: IrqContext;
  readonly #waiters: readonly InterruptWaiter[];
  /** The device's, which it does not tell any more once it is gone. */
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
    const { device, clock } = context;
    const { name } = device.info;
    const has = device.irq(kinds[kind]).count;
    const vectors = `${has} ${titles[kind]} vector${has === 1 ? '' : 's'}`;
    if (!Number.isSafeInteger(count) || count < 1 || count > has) {
      throw new VfioError(
        Number.isSafeInteger(count) && count > has ? 'ENOSPC' : 'EINVAL',
        has === 0 ? `${name} has no ${titles[kind]}` : `${name} has ${vectors}; ${String(count)} cannot be enabled`,
        has === 0 ? {} : { fix: has === 1 ? 'Enable 1.' : `Enable from 1 to ${has}.` },
      );
    }
    context.checkFree(kind, name);
    const waiters = Array.from({ length: count }, () => new InterruptWaiter(clock));
    const available = device.setIrqs({ index: kinds[kind], start: 0, count, action: 'trigger', data: 'sinks', sinks: waiters });
    if (available > 0) {
      throw new VfioError('ENOSPC', `${name}: the host can give ${available} of ${count} ${titles[kind]} vectors`, {
        fix: 'Enable fewer.',
      });
    }
    return new Interrupts(kind, context, waiters, name);
  }

  get count(): number {
    return this.#waiters.length;
  }

  [INSPECT](): string {
    return `Interrupts of ${this.#name}: ${this.count} ${this.title}${this.#enabled ? '' : ', disabled'}`;
  }

  /** As people write the kind: `MSI-X`. */
  get title(): string {
    return titles[this.kind];
  }

  /**
   * Wait for the next interrupt on `vector`; one that came before and was not waited for counts.
   *
   * @throws VfioError EINVAL for a vector that is not enabled; ETIMEDOUT after `timeoutMs`; ENODEV
   *   when they are disabled, or the device goes, meanwhile
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

  /** Interrupts on `vector` not yet waited for. */
  pending(vector = 0): number {
    return this.#at(vector).pending;
  }

  /** Forget those not yet waited for; gives their number. */
  drain(vector = 0): number {
    return this.#at(vector).drain();
  }

  /**
   * INTx masks itself at every interrupt. Unmask it once the device is acknowledged; while it still
   * asserts the line, it interrupts again.
   */
  unmask(): void {
    this.#set('unmask');
  }

  mask(): void {
    this.#set('mask');
  }

  /** No more interrupts will come: whoever waits gets `error`. */
  fail(error: VfioError): void {
    for (const waiter of this.#waiters) waiter.fail(error);
  }

  [Symbol.dispose](): void {
    if (!this.#enabled) return;
    this.#enabled = false;
    const { device } = this.#context;
    try {
      device.setIrqs({ index: kinds[this.kind], start: 0, count: 0, action: 'trigger', data: 'none' });
    } catch (error) {
      // Gone, or disabled by other means: nothing is left to disable.
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
