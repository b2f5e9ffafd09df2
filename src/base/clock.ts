/**
 * Time as the engine and the models see it. A program passes the clock in, so two runs can give the
 * same trace (design, decision 5). Units are in the names: `nowNs` is monotonic nanoseconds, delays
 * are milliseconds.
 */
export interface Clock {
  /** Monotonic nanoseconds as a double (exact up to 104 days of uptime). */
  nowNs(): number;
  /**
   * Run `callback` once after `delayMs`. Disposing the timer before then cancels it. A timer does
   * not keep the process alive, except for the one turn of the event loop that a delay of 0 takes.
   */
  after(delayMs: number, callback: () => void): Disposable;
}

/**
 * CLOCK_MONOTONIC at the moment that `performance.now` counts from. Both are the same clock, but
 * `performance.now` starts with the process.
 */
const startNs = beginning();

/** The first call of each function takes long. The quickest of a few tries is the most exact. */
function beginning(): number {
  let best = 0;
  let shortest = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 5; i++) {
    const before = process.hrtime.bigint();
    const now = performance.now();
    const took = Number(process.hrtime.bigint() - before);
    if (took >= shortest) continue;
    shortest = took;
    best = Math.round(Number(before) + took / 2 - now * 1e6);
  }
  return best;
}

/** The machine's monotonic clock: CLOCK_MONOTONIC, so that processes can compare their readings. */
export class SystemClock implements Clock {
  nowNs(): number {
    return startNs + performance.now() * 1e6;
  }

  after(delayMs: number, callback: () => void): Disposable {
    if (delayMs <= 0) {
      // A timer of 0 would wait for a millisecond; `setImmediate` waits for one turn. It is not
      // unref'd, because then it would wait until another event wakes the loop. The process stays
      // alive for this one turn.
      const immediate = setImmediate(callback);
      return { [Symbol.dispose]: () => clearImmediate(immediate) };
    }
    const timer = setTimeout(callback, delayMs);
    timer.unref();
    return { [Symbol.dispose]: () => clearTimeout(timer) };
  }
}

interface Timer {
  readonly callback: () => void;
  /** Null while time stands still. */
  running: Disposable | null;
  dueNs: number;
  leftNs: number;
}

/**
 * Time that stands still while the machine sleeps, as CLOCK_MONOTONIC does. A device and its driver
 * use it. A timer keeps the rest of its delay over the sleep.
 */
export class PausableClock implements Clock {
  readonly #inner: Clock;
  readonly #timers = new Set<Timer>();
  #pausedNs = 0;
  /** When the clock was paused; null while it runs. */
  #sinceNs: number | null = null;

  constructor(inner: Clock) {
    this.#inner = inner;
  }

  get paused(): boolean {
    return this.#sinceNs !== null;
  }

  nowNs(): number {
    return (this.#sinceNs ?? this.#inner.nowNs()) - this.#pausedNs;
  }

  after(delayMs: number, callback: () => void): Disposable {
    const timer: Timer = { callback, running: null, dueNs: 0, leftNs: Math.max(0, delayMs) * 1e6 };
    this.#timers.add(timer);
    if (this.#sinceNs === null) this.#start(timer);
    return {
      [Symbol.dispose]: () => {
        this.#timers.delete(timer);
        timer.running?.[Symbol.dispose]();
      },
    };
  }

  #start(timer: Timer): void {
    timer.dueNs = this.nowNs() + timer.leftNs;
    timer.running = this.#inner.after(timer.leftNs / 1e6, () => {
      this.#timers.delete(timer);
      // The clock below gets the promise of an async callback, and can report its rejection.
      return timer.callback();
    });
  }

  /** Stop the time. Idempotent, as `goOn` is. */
  pause(): void {
    if (this.#sinceNs !== null) return;
    const now = this.nowNs();
    this.#sinceNs = this.#inner.nowNs();
    for (const timer of this.#timers) {
      timer.running?.[Symbol.dispose]();
      timer.running = null;
      timer.leftNs = Math.max(0, timer.dueNs - now);
    }
  }

  /** Timers go on in the order in which they were due. */
  goOn(): void {
    if (this.#sinceNs === null) return;
    this.#pausedNs += this.#inner.nowNs() - this.#sinceNs;
    this.#sinceNs = null;
    for (const timer of [...this.#timers].sort((a, b) => a.leftNs - b.leftNs)) this.#start(timer);
  }
}

interface Pending {
  readonly atNs: number;
  readonly order: number;
  readonly callback: () => void;
}

/** A clock that only its owner moves, for tests and deterministic runs. */
export class ManualClock implements Clock {
  #nowNs = 0;
  #order = 0;
  readonly #pending = new Set<Pending>();

  nowNs(): number {
    return this.#nowNs;
  }

  after(delayMs: number, callback: () => void): Disposable {
    const entry: Pending = { atNs: this.#nowNs + delayMs * 1e6, order: this.#order++, callback };
    this.#pending.add(entry);
    return { [Symbol.dispose]: () => void this.#pending.delete(entry) };
  }

  /** Number of waiting timers. A test checks with it that none is left behind. */
  get pendingTimers(): number {
    return this.#pending.size;
  }

  /**
   * Move time forward by `ms`. Runs every timer that falls due, in order of time, also those that
   * the callbacks start.
   */
  advance(ms: number): void {
    const end = this.#nowNs + ms * 1e6;
    while (this.#runNext(end));
    this.#nowNs = end;
  }

  /**
   * Like `advance`, with a pause after each timer. In the pause, the code that the timer woke goes
   * on and may start other timers.
   *
   * @param pause default: a turn of the event loop
   */
  async pass(ms: number, pause: () => Promise<void> = () => new Promise((resolve) => setImmediate(resolve))): Promise<void> {
    const end = this.#nowNs + ms * 1e6;
    do await pause();
    while (this.#runNext(end));
    this.#nowNs = end;
  }

  /** Runs the first timer that falls due by `end`. @returns false when there is none */
  #runNext(end: number): boolean {
    let next: Pending | undefined;
    for (const p of this.#pending) {
      if (p.atNs <= end && (next === undefined || p.atNs < next.atNs || (p.atNs === next.atNs && p.order < next.order))) next = p;
    }
    if (next === undefined) return false;
    this.#pending.delete(next);
    this.#nowNs = Math.max(this.#nowNs, next.atNs);
    next.callback();
    return true;
  }
}
