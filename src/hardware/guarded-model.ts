/**
 * The model behind a function's registers, called so that no failure of the model reaches the
 * caller: each exception, rejection and value that is none is counted, and logged at a limited
 * rate. A register that a failing model cannot read is all ones.
 */
import type { Model, Width } from '../abi/device-host.ts';
import { VfioError } from '../base/errno.ts';
import { callForeign, type Failed, isThenable, settle, textOf } from '../base/foreign.ts';
import type { EventSource } from '../events/source.ts';

/** Answers before a model is attached and after it is gone: reads are all ones. */
const absent: Model = { read: () => 0xffff_ffff, write: () => {}, reset: () => {} };

const ALL_ONES_64 = 0xffff_ffff_ffff_ffffn;

/** How the source counts failures of the model. */
const FAILED = 'model failed';

export class GuardedModel {
  /** A function of its own, which reports the model's failures. */
  readonly failed: Failed = (what, error) => this.fail(what, error);
  readonly #bdf: string;
  /** The declaration's name, for messages. */
  readonly #name: string;
  readonly #events: EventSource;
  #model: Model = absent;

  constructor(bdf: string, name: string, events: EventSource) {
    this.#bdf = bdf;
    this.#name = name;
    this.#events = events;
  }

  /** Failures so far: each is a bug of the model. */
  get errors(): number {
    return this.#events.counted(FAILED);
  }

  /** Null before a model is attached, and after it is gone. */
  get model(): Model | null {
    return this.#model === absent ? null : this.#model;
  }

  /** @throws VfioError EINVAL for a value that is no model */
  attach(model: Model): void {
    const has = (method: 'read' | 'write' | 'reset') => typeof (model as Partial<Model> | null | undefined)?.[method] === 'function';
    if (!has('read') || !has('write') || !has('reset')) {
      throw new VfioError('EINVAL', `${this.#bdf}: create() of ${this.#name} gave back no model: read, write and reset are needed`, {
        ...(settle('create', model, this.failed) ? { fix: 'It is async; a model has to be there at once.' } : {}),
      });
    }
    this.#model = model;
  }

  /** The function is gone: nothing answers from here on. */
  dispose(): void {
    const model = this.#model;
    this.#model = absent;
    this.#call('dispose', () => model.dispose?.());
  }

  read(bar: number, offset: number, width: Width): number {
    try {
      const value = this.#model.read(bar, offset, width);
      if (typeof value === 'number') return width === 4 ? value >>> 0 : width === 2 ? value & 0xffff : value & 0xff;
      this.#noValue('read', value);
    } catch (error) {
      this.fail('read', error);
    }
    return width === 4 ? 0xffff_ffff : width === 2 ? 0xffff : 0xff;
  }

  write(bar: number, offset: number, width: Width, value: number): void {
    try {
      const result: unknown = this.#model.write(bar, offset, width, value);
      if (result !== undefined) settle('write', result, this.failed);
    } catch (error) {
      this.fail('write', error);
    }
  }

  /** The model reads 8 bytes in one access. */
  get reads64(): boolean {
    return this.#model.read64 !== undefined;
  }

  /** Only with `reads64`. */
  read64(bar: number, offset: number): bigint {
    try {
      const value = this.#model.read64!(bar, offset);
      if (typeof value === 'bigint') return BigInt.asUintN(64, value);
      this.#noValue('read64', value);
    } catch (error) {
      this.fail('read64', error);
    }
    return ALL_ONES_64;
  }

  /** The model writes 8 bytes in one access. */
  get writes64(): boolean {
    return this.#model.write64 !== undefined;
  }

  /** Only with `writes64`. */
  write64(bar: number, offset: number, value: bigint): void {
    try {
      const result: unknown = this.#model.write64!(bar, offset, value);
      if (result !== undefined) settle('write64', result, this.failed);
    } catch (error) {
      this.fail('write64', error);
    }
  }

  /** A register of the device's own in config space. */
  configRead(offset: number, width: Width): number {
    try {
      const value: unknown = this.#model.configRead?.(offset, width) ?? 0xffff_ffff;
      if (typeof value === 'number') return value;
      this.#noValue('configRead', value);
    } catch (error) {
      this.fail('configRead', error);
    }
    return 0xffff_ffff;
  }

  configWrite(offset: number, width: Width, value: number): void {
    this.#call('configWrite', () => this.#model.configWrite?.(offset, width, value));
  }

  reset(): void {
    this.#call('reset', () => this.#model.reset());
  }

  power(state: 'D0' | 'D3hot'): void {
    this.#call('power', () => this.#model.power?.(state));
  }

  configWritten(offset: number, width: number): void {
    this.#call('configWritten', () => this.#model.configWritten?.(offset, width));
  }

  /** Count and log a failure of the model in `what`. */
  fail(what: string, error: unknown): void {
    this.#events.count(FAILED);
    this.#events.note('error', `model ${what}`, `${this.#bdf}: the model ${this.#name} failed in ${what}: ${textOf(error)}`);
  }

  #call(what: string, call: () => unknown): void {
    callForeign(what, call, this.failed);
  }

  #noValue(what: string, value: unknown): void {
    settle(what, value, this.failed);
    this.fail(what, `${isThenable(value) ? 'a promise' : typeof value} instead of the register's value`);
  }
}
