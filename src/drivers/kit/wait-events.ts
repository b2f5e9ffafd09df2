/**
 * A driver's waits as events: for an interrupt, a condition, the end of a command. Without a reader
 * of events a wait looks at one flag.
 */
import type { EventOf, EventPort, EventShape } from '../../abi/event.ts';
import type { Clock } from '../../base/clock.ts';
import { VfioError } from '../../base/errno.ts';

type Outcome = EventOf<'wait'>['outcome'];

const outcomes: Readonly<Record<string, Outcome>> = { ETIMEDOUT: 'timeout', EINTR: 'interrupted', ENODEV: 'gone' };

/** The waits of one device's driver. */
export class WaitEvents {
  readonly #events: EventPort;
  readonly #clock: Clock;

  /** @param clock measures the waits */
  constructor(events: EventPort, clock: Clock) {
    this.#events = events;
    this.#clock = clock;
  }

  /** Whether there is a reader of events. */
  get on(): boolean {
    return this.#events.on;
  }

  /** The event that is being answered now: in a listener of interrupts, the interrupt. */
  get cause(): number {
    return this.#events.cause;
  }

  /** A wait begins. @returns the time, for `ended`; -1 while there is no reader */
  begin(): number {
    return this.#events.on ? this.#clock.nowNs() : -1;
  }

  /**
   * A wait is over.
   *
   * @param what `MSI-X vector 1`, `Read on I/O 1`
   * @param sinceNs from `begin`. -1: the wait makes no event
   * @param cause the event that ended it. Default: the one that is being answered now
   */
  ended(what: string, outcome: Outcome, sinceNs: number, cause: number = this.#events.cause): void {
    const events = this.#events;
    if (sinceNs < 0 || !events.on) return;
    const before = events.cause;
    events.cause = cause;
    events.emit('wait', { what, outcome, latencyNs: this.#clock.nowNs() - sinceNs });
    events.cause = before;
  }

  /** As `ended`, for a wait that comes often. @param shape made once */
  endedAs(shape: EventShape, sinceNs: number, cause: number): void {
    const events = this.#events;
    if (sinceNs < 0 || !events.on) return;
    const before = events.cause;
    events.cause = cause;
    events.emitShaped(shape, this.#clock.nowNs() - sinceNs);
    events.cause = before;
  }

  /** A wait ended with `error`. */
  failed(what: string, error: unknown, sinceNs: number): void {
    this.ended(what, outcomeOf(error), sinceNs);
  }
}

function outcomeOf(error: unknown): Outcome {
  return error instanceof VfioError ? (outcomes[error.code] ?? 'failed') : 'failed';
}
