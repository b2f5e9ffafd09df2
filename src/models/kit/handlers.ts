/** The handlers of one device at work: how many there are, and how they fail. */
import { DmaFault } from '../../abi/device-host.ts';
import { isThenable, textOf } from '../../base/foreign.ts';
import type { Logger } from '../../base/log.ts';
import type { AsyncCauses } from './async-causes.ts';
import { DeviceReset, type Life } from './life.ts';

/**
 * Handlers that may wait at once, besides one per register: a register written in a loop must not
 * pile up work without end.
 */
export const PENDING_MAX = 1024;

export type Handler = (dev: object, written: never, before: never) => unknown;

export class Handlers {
  readonly #name: string;
  readonly #log: Logger;
  readonly #causes: AsyncCauses;
  /** Of the life of now. */
  #life: Life;
  #pending = 0;
  #pendingOf = new Map<string, number>();

  /** @param name of the device, for the log */
  constructor(name: string, log: Logger, causes: AsyncCauses, life: Life) {
    this.#name = name;
    this.#log = log;
    this.#causes = causes;
    this.#life = life;
  }

  /** Handlers that wait. */
  get atWork(): number {
    return this.#pending;
  }

  /** None of another life counts. */
  begin(life: Life): void {
    this.#life = life;
    this.#pending = 0;
    this.#pendingOf = new Map();
  }

  run(what: string, handler: Handler, dev: object, a: unknown, b: unknown): void {
    const life = this.#life;
    if (this.#pending >= PENDING_MAX && this.#pendingOf.has(what)) {
      this.#log.log('warn', `${this.#name}: ${this.#pending} handlers are still at work; one for ${what} was not started`);
      return;
    }
    try {
      const causes = this.#causes;
      const result = causes.on ? causes.run(handler, dev, a as never, b as never) : handler(dev, a as never, b as never);
      if (result === undefined || !isThenable(result)) return;
      this.#wait(what, result, life);
    } catch (error) {
      this.failed(what, error, life);
    }
  }

  #wait(what: string, result: PromiseLike<unknown>, life: Life): void {
    const { cause } = this.#causes;
    const failed = (error: unknown) => this.#causes.answer(cause, () => this.failed(what, error, life));
    // A handler that resets its device is of a life that has ended.
    if (this.#life !== life) {
      Promise.resolve(result).then(undefined, failed);
      return;
    }
    const pendingOf = this.#pendingOf;
    this.#pending++;
    pendingOf.set(what, (pendingOf.get(what) ?? 0) + 1);
    const done = () => {
      if (this.#life !== life) return;
      this.#pending--;
      const left = pendingOf.get(what)! - 1;
      if (left === 0) pendingOf.delete(what);
      else pendingOf.set(what, left);
    };
    Promise.resolve(result).then(done, (error: unknown) => {
      done();
      failed(error);
    });
  }

  /** A promise of `dev` that no handler awaited has rejected. */
  forgotten(what: string, error: unknown, life: Life): void {
    this.failed(`${what}, which no handler awaits,`, error, life);
  }

  /**
   * A handler threw. A DMA fault is the driver's doing; anything else is a bug of the model; after
   * a reset it is neither.
   */
  failed(what: string, error: unknown, life: Life = this.#life): void {
    if (error instanceof DeviceReset && life.ended) return;
    if (error instanceof DmaFault) this.#log.log('warn', `${this.#name}: ${what}: ${error.message}`);
    else this.#log.log('error', `${this.#name}: ${what} failed: ${textOf(error)}`);
  }
}
