/**
 * Sinks and sources as the engine keeps them. They are the caller's, and their contract forbids
 * that they throw. A sink that throws all the same, or is async and rejects, must not stop a close
 * half-way, or keep other sinks from their interrupts. `get` may fail (EBADF), and throws then.
 */
import type { InterruptSink, InterruptSource } from '../../abi/device.ts';
import { callForeign, type Failed, settle, textOf } from '../../base/foreign.ts';
import { type EventSource, Step } from '../../events/source.ts';

export class GuardedSink implements InterruptSink {
  readonly #sink: InterruptSink;
  readonly #events: EventSource;
  readonly #failed: Failed;

  constructor(sink: InterruptSink, bdf: string, events: EventSource) {
    this.#sink = sink;
    this.#events = events;
    this.#failed = reporter(bdf, events);
  }

  /** Called for each interrupt: it makes no closure. */
  signal(): void {
    try {
      const result: unknown = this.#sink.signal();
      if (result !== undefined) settle(SIGNALLED, result, this.#failed);
    } catch (error) {
      this.#failed(SIGNALLED, error);
    }
  }

  /** As `signal`, in answer to an interrupt. @param irq of `Irq` */
  deliver(irq: number, vector: number): void {
    const events = this.#events;
    if (!events.on) {
      this.signal();
      return;
    }
    const before = events.cause;
    events.cause = events.interrupt(Step.delivered, irq, vector);
    this.signal();
    events.cause = before;
  }

  get(): this {
    settle('an interrupt sink failed when a reference was taken', this.#sink.get(), this.#failed);
    return this;
  }

  put(): void {
    callForeign('an interrupt sink failed when it was put', () => this.#sink.put(), this.#failed);
  }
}

/** `source.listen`, with a registration whose disposal cannot fail. */
export function listenGuarded(source: InterruptSource, listener: () => void, bdf: string, events: EventSource): Disposable {
  const listening = source.listen(listener);
  return {
    [Symbol.dispose]: () => {
      callForeign('an interrupt source failed when it was left', () => listening[Symbol.dispose](), reporter(bdf, events));
    },
  };
}

const SIGNALLED = 'an interrupt sink failed when it was signalled';

function reporter(bdf: string, events: EventSource): Failed {
  return (what, error) => events.note('error', what, `${bdf}: ${what}: ${textOf(error)}`);
}
