/**
 * The library's only way to speak: a `Logger` that whoever composes the rooms passes in. It is silent by default.
 */
import type { Clock } from './clock.ts';
import { callForeign } from './foreign.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

export interface Logger {
  log(level: LogLevel, message: string): void;
}

export const silentLogger: Logger = { log: () => {} };

/**
 * At most one line per `key` in `intervalMs`, however often it is asked to speak: no log line that an unprivileged request can reach may
 * flood the log (S0-08, S2-47). What was swallowed is counted and told with the next line. The keys remembered are bounded too.
 */
export class RateLimitedLogger {
  readonly #last = new Map<string, { atNs: number; swallowed: number }>();
  readonly #logger: Logger;
  readonly #clock: Clock;
  readonly #intervalNs: number;

  constructor(logger: Logger, clock: Clock, intervalMs = 5000) {
    this.#logger = logger;
    this.#clock = clock;
    this.#intervalNs = intervalMs * 1e6;
  }

  log(level: LogLevel, key: string, message: string): void {
    const now = this.#clock.nowNs();
    const seen = this.#last.get(key);
    if (seen !== undefined && now - seen.atNs < this.#intervalNs) {
      seen.swallowed++;
      return;
    }
    if (seen === undefined && this.#last.size >= 256) this.#last.delete(this.#last.keys().next().value as string);
    this.#last.delete(key);
    this.#last.set(key, { atNs: now, swallowed: 0 });
    const line = seen !== undefined && seen.swallowed > 0 ? `${message} (${seen.swallowed} more since)` : message;
    // A logger that fails loses its line: there is no other place for either.
    callForeign(
      'log',
      () => this.#logger.log(level, line),
      () => {},
    );
  }
}
