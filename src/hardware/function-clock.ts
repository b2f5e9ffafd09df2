/**
 * The time of one function: it stands still while the machine sleeps, and a timer that the model
 * starts in an access belongs to that access. Events in its callback name the access as their
 * cause.
 */
import { type Clock, PausableClock } from '../base/clock.ts';
import type { EventSource } from '../events/source.ts';

export class FunctionClock extends PausableClock {
  readonly #events: EventSource;

  constructor(inner: Clock, events: EventSource) {
    super(inner);
    this.#events = events;
  }

  override after(delayMs: number, callback: () => void): Disposable {
    // A callback may be async: its promise goes to the clock below.
    return super.after(delayMs, this.#events.later(callback));
  }
}
