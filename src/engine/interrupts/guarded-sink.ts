/**
 * Sinks and sources as the engine keeps them. They are the caller's, and their contract says that they do not throw; one that does all the same
 * must not stop a close half-way, or keep other sinks from their interrupts. Taking a reference may fail (EBADF), and says so.
 */
import type { InterruptSink, InterruptSource } from '../../abi/device.ts';
import type { RateLimitedLogger } from '../../base/log.ts';

export class GuardedSink implements InterruptSink {
  readonly #sink: InterruptSink;
  readonly #bdf: string;
  readonly #log: RateLimitedLogger;

  constructor(sink: InterruptSink, bdf: string, log: RateLimitedLogger) {
    this.#sink = sink;
    this.#bdf = bdf;
    this.#log = log;
  }

  signal(): void {
    try {
      this.#sink.signal();
    } catch (error) {
      tell(this.#log, this.#bdf, 'an interrupt sink threw when it was signalled', error);
    }
  }

  get(): this {
    this.#sink.get();
    return this;
  }

  put(): void {
    try {
      this.#sink.put();
    } catch (error) {
      tell(this.#log, this.#bdf, 'an interrupt sink threw when it was let go', error);
    }
  }
}

/** `source.listen`, with a registration whose end cannot fail. */
export function listenGuarded(source: InterruptSource, listener: () => void, bdf: string, log: RateLimitedLogger): Disposable {
  const listening = source.listen(listener);
  return {
    [Symbol.dispose]: () => {
      try {
        listening[Symbol.dispose]();
      } catch (error) {
        tell(log, bdf, 'an interrupt source threw when it was let go', error);
      }
    },
  };
}

function tell(log: RateLimitedLogger, bdf: string, what: string, error: unknown): void {
  log.log('error', `${bdf} ${what}`, `${bdf}: ${what}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
}
