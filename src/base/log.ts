/**
 * The log of the library. A room writes to the `Logger` that its caller passes in, and to nothing
 * else. The default is silent.
 */
import type { Clock } from './clock.ts';
import { callForeign } from './foreign.ts';

/**
 * How important a line is: 'error' is a fault of this package, 'warn' one of a peer, a device or
 * its driver.
 */
export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** Where an engine, a server or a model writes lines about faults that nothing throws. */
export interface Logger {
  /**
   * Writes one line. `message` has no line break and no time stamp. An error thrown here loses the
   * line only.
   */
  log(level: LogLevel, message: string): void;
}

export const silentLogger: Logger = { log: () => {} };

/** Number of remembered keys. */
const KEYS_MAX = 256;
/**
 * Number of kinds of one key. Messages may hold text from a peer, which must not make a flood of
 * kinds.
 */
const KINDS_MAX = 8;
const OTHER = '';

/** The kind of a message: its text without the numbers. */
export function kindOf(message: string): string {
  return message.replace(/0x[0-9a-f]+|\d+/gi, '#');
}

/** Messages of one kind: when one was last written, and how many were dropped since. */
interface Seen {
  atNs: number;
  swallowed: number;
  level: LogLevel;
  message: string;
}

/**
 * Writes at most one line per `key` and kind of message in `intervalMs`, so that requests of an
 * unprivileged user cannot flood the log (S0-08, S2-47). Messages with one key may be of several
 * kinds; beyond a few kinds, all others count as one. Dropped messages are counted, and the count
 * is written at the end of the interval, or at dispose.
 */
export class RateLimitedLogger implements Disposable {
  readonly #keys = new Map<string, Map<string, Seen>>();
  readonly #logger: Logger;
  readonly #clock: Clock;
  readonly #intervalMs: number;
  #timer: Disposable | null = null;
  #disposed = false;

  constructor(logger: Logger, clock: Clock, intervalMs = 5000) {
    this.#logger = logger;
    this.#clock = clock;
    this.#intervalMs = intervalMs;
  }

  /**
   * @param message a function, where building it costs more than the caller wants to pay each time:
   *   `key` then stands for one kind
   */
  log(level: LogLevel, key: string, message: string | (() => string)): void {
    const now = this.#clock.nowNs();
    const kinds = this.#kindsOf(key);
    const kind = this.#roomFor(kinds, typeof message === 'string' ? kindOf(message) : OTHER, now);
    const seen = kinds.get(kind);
    if (seen !== undefined && now - seen.atNs < this.#intervalNs) {
      seen.swallowed++;
      this.#wake(seen.atNs, now);
      return;
    }
    if (seen !== undefined) this.#writeCount(seen);
    const text = typeof message === 'string' ? message : message();
    kinds.set(kind, { atNs: now, swallowed: 0, level, message: text });
    this.#write(level, text);
  }

  /**
   * Writes the counts that are due. Later messages are limited too, but no timer waits to write
   * their counts.
   */
  [Symbol.dispose](): void {
    this.#disposed = true;
    this.#timer?.[Symbol.dispose]();
    this.#timer = null;
    for (const kinds of this.#keys.values()) for (const seen of kinds.values()) this.#writeCount(seen);
  }

  get #intervalNs(): number {
    return this.#intervalMs * 1e6;
  }

  #kindsOf(key: string): Map<string, Seen> {
    let kinds = this.#keys.get(key);
    if (kinds !== undefined) return kinds;
    if (this.#keys.size >= KEYS_MAX) {
      const [oldest, old] = this.#keys.entries().next().value!;
      this.#keys.delete(oldest);
      for (const seen of old.values()) this.#writeCount(seen);
    }
    kinds = new Map();
    this.#keys.set(key, kinds);
    return kinds;
  }

  /** `kind`, or the kind that stands for all others when there is no room for more. */
  #roomFor(kinds: Map<string, Seen>, kind: string, now: number): string {
    if (kinds.has(kind) || kinds.size < KINDS_MAX) return kind;
    for (const [name, { atNs, swallowed }] of kinds) {
      if (swallowed === 0 && now - atNs >= this.#intervalNs) kinds.delete(name);
    }
    return kinds.size < KINDS_MAX ? kind : OTHER;
  }

  #intervalOver(): void {
    this.#timer = null;
    const now = this.#clock.nowNs();
    let next = Number.POSITIVE_INFINITY;
    for (const kinds of this.#keys.values()) {
      for (const seen of kinds.values()) {
        if (now - seen.atNs >= this.#intervalNs) this.#writeCount(seen, now);
        else if (seen.swallowed > 0) next = Math.min(next, seen.atNs);
      }
    }
    if (next < Number.POSITIVE_INFINITY) this.#wake(next, now);
  }

  /** Called at the end of the interval that began at `atNs`. */
  #wake(atNs: number, now: number): void {
    if (this.#disposed) return;
    this.#timer ??= this.#clock.after(this.#intervalMs - (now - atNs) / 1e6, () => this.#intervalOver());
  }

  /** @param now  the time, when the line belongs to the next interval */
  #writeCount(seen: Seen, now = seen.atNs): void {
    if (seen.swallowed === 0) return;
    const { swallowed, level, message } = seen;
    seen.swallowed = 0;
    seen.atNs = now;
    this.#write(level, `${message} (${swallowed} more since)`);
  }

  #write(level: LogLevel, line: string): void {
    // A line is lost when the logger fails, and so is the failure: there is no other place to write
    // them to.
    callForeign(
      'log',
      () => this.#logger.log(level, line),
      () => {},
    );
  }
}
