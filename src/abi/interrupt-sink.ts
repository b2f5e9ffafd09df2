/** The two ends of an eventfd, as a `Device` uses them; code of this process may be either. */

/**
 * Where an interrupt is delivered: an eventfd, or a waiter in this process. An owner of a sink
 * calls `get` for it, and `put` when done: the eventfd's own counting.
 */
export interface InterruptSink {
  /** Never throws, never blocks. */
  signal(): void;
  /** Takes a reference: the sink stays open until the matching `put`. */
  get(): this;
  /** Drops a reference. The last `put` closes the sink; a closed sink ignores `signal`. */
  put(): void;
}

/**
 * A source of "unmask now": the eventfd that SET_IRQS UNMASK/DATA_EVENTFD takes (irqfd's resample
 * half).
 */
export interface InterruptSource {
  /** Call `listener` whenever it is signalled, until disposed. */
  listen(listener: () => void): Disposable;
}
