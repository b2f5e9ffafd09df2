/**
 * Connections that have not identified themselves yet. Each has a limited time to do so. When there
 * are too many, the oldest connection of the address that has most ends. In this way many silent
 * connections cannot keep out a client that has the key.
 */
import type { Clock } from '../../base/clock.ts';

interface Stranger {
  readonly address: string;
  readonly timer: Disposable;
}

export interface StrangersOptions<T> {
  readonly clock: Clock;
  /** The most connections at one time. */
  readonly max: number;
  readonly timeoutMs: number;
  /** End the connection. */
  readonly drop: (connection: T, why: 'late' | 'too many') => void;
}

export class Strangers<T> implements Disposable {
  readonly #options: StrangersOptions<T>;
  /** In the order of arrival. */
  readonly #all = new Map<T, Stranger>();

  constructor(options: StrangersOptions<T>) {
    this.#options = options;
  }

  get size(): number {
    return this.#all.size;
  }

  add(connection: T, address = ''): void {
    const { clock, max, timeoutMs } = this.#options;
    const timer = clock.after(timeoutMs, () => this.#drop(connection, 'late'));
    this.#all.set(connection, { address, timer });
    if (this.#all.size > max) this.#drop(this.#oldest(), 'too many');
  }

  /** The connection has identified itself, or has ended. */
  remove(connection: T): void {
    this.#all.get(connection)?.timer[Symbol.dispose]();
    this.#all.delete(connection);
  }

  /** End the connections that are not `isKnown`, and stop the timers of the others. */
  keepOnly(isKnown: (connection: T) => boolean): void {
    for (const connection of [...this.#all.keys()]) {
      if (isKnown(connection)) this.remove(connection);
      else this.#drop(connection, 'too many');
    }
  }

  #oldest(): T {
    const counts = new Map<string, number>();
    for (const { address } of this.#all.values()) counts.set(address, (counts.get(address) ?? 0) + 1);
    const most = Math.max(...counts.values());
    for (const [connection, { address }] of this.#all) if (counts.get(address) === most) return connection;
    throw new Error('there are no connections');
  }

  #drop(connection: T, why: 'late' | 'too many'): void {
    this.remove(connection);
    this.#options.drop(connection, why);
  }

  /** All connections end. */
  [Symbol.dispose](): void {
    for (const connection of [...this.#all.keys()]) this.#drop(connection, 'late');
  }
}
