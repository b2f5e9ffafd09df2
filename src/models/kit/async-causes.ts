/**
 * The cause of events over `await`: an async handler that goes on later acts for the access that
 * started it. `AsyncLocalStorage` remembers the access, while there is a reader of events only:
 * under Node 20 it makes every promise of the process slower.
 */
import { AsyncLocalStorage, AsyncResource } from 'node:async_hooks';
import type { EventPort } from '../../abi/event.ts';

interface Cause {
  /** The port of the device whose handler it is. */
  readonly events: EventPort;
  readonly seq: number;
}

/** One for all devices: the promises of the process pay for each. */
const storage = new AsyncLocalStorage<Cause>();
/** Devices whose handlers have run with it. The last one switches it off. */
let users = 0;

/** `call`, as it has to be called later in place of the handler that calls this now. */
export function forLater(call: () => unknown): () => unknown {
  return users === 0 ? call : AsyncResource.bind(call);
}

export class AsyncCauses implements Disposable {
  readonly #events: EventPort;
  readonly #watching: Disposable;
  #used = false;

  constructor(events: EventPort) {
    this.#events = events;
    this.#watching = events.watch(() => {
      if (!events.on) this.#release();
    });
  }

  /** Whether handlers are to be called by `run`. */
  get on(): boolean {
    return this.#events.on;
  }

  /** The event that is being answered now; 0: none is known. */
  get cause(): number {
    return this.#events.cause;
  }

  /** Does `effect` in answer to event `cause`. */
  answer(cause: number, effect: () => void): void {
    this.#events.during(cause, effect);
  }

  /** Calls a handler. The event that is being answered now is the cause of its later doings. */
  run<A extends readonly unknown[]>(handler: (...args: A) => unknown, ...args: A): unknown {
    if (!this.#used) {
      this.#used = true;
      users++;
    }
    return storage.run({ events: this.#events, seq: this.#events.cause }, handler, ...args);
  }

  /** A handler of this device goes on after an `await`: its effects need `within` now. */
  get lost(): boolean {
    const events = this.#events;
    return this.#used && events.on && events.cause === 0 && storage.getStore()?.events === events;
  }

  /** Does `effect` in answer to the access that started the handler; only while `lost`. */
  within<R>(effect: () => R): R {
    const events = this.#events;
    events.cause = storage.getStore()!.seq;
    try {
      return effect();
    } finally {
      events.cause = 0;
    }
  }

  /** `effect`, with the right cause whenever it is called. */
  bind<A extends readonly unknown[], R>(effect: (...args: A) => R): (...args: A) => R {
    return (...args) => (this.lost ? this.within(() => effect(...args)) : effect(...args));
  }

  /** The device is gone. */
  [Symbol.dispose](): void {
    this.#watching[Symbol.dispose]();
    this.#release();
  }

  #release(): void {
    if (!this.#used) return;
    this.#used = false;
    if (--users === 0) storage.disable();
  }
}
