/**
 * An eventfd of a process behind the door: a counter that interrupts add to and `read` takes from.
 * It is an interrupt's sink and, for SET_IRQS UNMASK, its source.
 *
 * @see eventfd(2); linux/fs/eventfd.c; linux/drivers/vfio/virqfd.c for the source
 */
import type { InterruptSink, InterruptSource } from '../abi/device.ts';
import { U64_MAX } from '../base/check.ts';
import { VfioError } from '../base/errno.ts';

/** The counter never holds 2^64-1. */
const COUNT_MAX = U64_MAX - 1n;

export class EventCounter implements InterruptSink, InterruptSource {
  /** The sum of writes. Signals are counted apart, so that an interrupt makes no bigint. */
  #written: bigint;
  #signals = 0;
  #references = 0;
  #delivering = false;
  readonly #listeners = new Set<() => void>();

  constructor(initial: number) {
    this.#written = BigInt(initial);
  }

  get value(): bigint {
    const sum = this.#written + BigInt(this.#signals);
    return sum > COUNT_MAX ? COUNT_MAX : sum;
  }

  get readable(): boolean {
    return this.#signals > 0 || this.#written > 0n;
  }

  /** References that interrupts hold (eventfd_ctx), without the process' own descriptors. */
  get references(): number {
    return this.#references;
  }

  get listeners(): number {
    return this.#listeners.size;
  }

  signal(): void {
    this.#signals++;
    if (this.#listeners.size > 0) this.#deliver();
  }

  /** @throws VfioError EINVAL for 2^64-1; EAGAIN when it would overflow */
  write(value: bigint): void {
    if (value === U64_MAX) throw new VfioError('EINVAL', 'an eventfd takes at most 2^64-2');
    if (this.value + value > COUNT_MAX) throw new VfioError('EAGAIN', 'the eventfd counter would overflow');
    this.#written += value;
    if (value > 0n && this.#listeners.size > 0) this.#deliver();
  }

  /**
   * Take the count.
   * @throws VfioError EAGAIN when it is 0: a caller that wants to wait polls first
   */
  take(): bigint {
    const value = this.value;
    if (value === 0n) throw new VfioError('EAGAIN', 'the eventfd counter is 0');
    this.#written = 0n;
    this.#signals = 0;
    return value;
  }

  get(): this {
    this.#references++;
    return this;
  }

  put(): void {
    this.#references--;
  }

  /**
   * A listener takes the count at each signal. A count that is there when it starts to listen
   * reaches it at once, as in virqfd.
   */
  listen(listener: () => void): Disposable {
    const own = () => listener();
    this.#listeners.add(own);
    if (this.readable) own();
    return { [Symbol.dispose]: () => void this.#listeners.delete(own) };
  }

  /** The last descriptor was closed: no process can signal a source any more. */
  hangUp(): void {
    this.#listeners.clear();
  }

  /**
   * A listener may signal this very counter again (one eventfd as sink and source of a stuck line).
   * That signal stays in the counter.
   */
  #deliver(): void {
    if (this.#delivering) return;
    this.#delivering = true;
    try {
      this.#written = 0n;
      this.#signals = 0;
      for (const listener of [...this.#listeners]) listener();
    } finally {
      this.#delivering = false;
    }
  }
}
