/**
 * The library's only way to speak: a `Logger` that whoever composes the rooms passes in. It is
 * silent by default.
 */
import type { Clock } from './clock.ts';
import { callForeign } from './foreign.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** Where an engine, a server or a model writes lines about faults that nothing throws. */
export interface Logger {
  log(level: LogLevel, message: string): void;
}

export const silentLogger: Logger = { log: () => {} };

/** Keys that are remembered. */
const KEYS_MAX = 256;
/**
 * Distinct kinds of one key: text that a peer can put into a message must not make a flood of
 * kinds.
 */
const KINDS_MAX = 8;
const OTHER = '';

/** The common part of messages of one kind: all but the numbers. */
export function kindOf(message: string): string {
  return message.replace(/0x[0-9a-f]+|\d+/gi, '#');
}

/** A message of one kind: when it was last written, and how many were not since. */
interface Seen {
  atNs: number;
  swallowed: number;
  level: LogLevel;
  message: string;
}

/**
 * At most one line per `key` and kind of message in `intervalMs`, however often it is asked to
 * speak: no log line that an unprivileged request can reach may flood the log (S0-08, S2-47). A
 * message of another kind is written although one with the same key was; of more than a few kinds,
 * the others count as one. What was swallowed is counted, and the count is written when the
 * interval is over, or when this is disposed.
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
   * Writes the counts that are due. Later messages are limited, too, but no timer waits to count
   * them.
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

  /** `kind`, or the kind that stands for all kinds without room. */
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

  /** When the interval that began at `atNs` is over. */
  #wake(atNs: number, now: number): void {
    if (this.#disposed) return;
    this.#timer ??= this.#clock.after(this.#intervalMs - (now - atNs) / 1e6, () => this.#intervalOver());
  }

  /** @param now  when it is a line of the next interval */
  #writeCount(seen: Seen, now = seen.atNs): void {
    if (seen.swallowed === 0) return;
    const { swallowed, level, message } = seen;
    seen.swallowed = 0;
    seen.atNs = now;
    this.#write(level, `${message} (${swallowed} more since)`);
  }

  #write(level: LogLevel, line: string): void {
    // A logger that fails loses its line: there is no other place for either.
    callForeign(
      'log',
      () => this.#logger.log(level, line),
      () => {},
    );
  }
}
