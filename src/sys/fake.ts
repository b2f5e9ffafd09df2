/**
 * Counterparts of eventfd.ts and memfd.ts without a kernel: the same shape and counting,
 * deterministic, for engines and tests that need no descriptor.
 */

import type { InterruptSink, InterruptSource } from '../abi/device.ts';
import { type DirectMemory, type MemoryAllocator, WINDOW_BYTES } from '../abi/memory.ts';
import { Counted } from '../base/counted.ts';
import { VfioError } from '../base/errno.ts';
import { INSPECT } from '../base/inspect.ts';
import { wholePages } from './memfd.ts';

/**
 * The most that `HeapMemory` takes: 16 windows. Untouched pages take no room. Larger, sparse memory
 * is for `MemfdMemory`.
 */
export const HEAP_MEMORY_MAX_BYTES = 2 ** 36;

/** Memory of this process only, in plain buffers. */
export class HeapMemory extends Counted implements DirectMemory {
  readonly kind = 'direct';
  readonly size: number;
  /**
   * Empty after the last reference is gone. A view taken from here is detached then, as
   * `MemfdMemory`'s views are.
   */
  readonly windows: readonly Uint8Array<ArrayBuffer>[];
  readonly #buffers: ArrayBuffer[] = [];
  readonly #views: Uint8Array<ArrayBuffer>[] = [];

  /** The line that `console.log` prints of it. */
  [INSPECT](): string {
    return `HeapMemory of ${this.size} bytes`;
  }

  private constructor(size: number) {
    super('the memory');
    this.size = size;
    this.windows = this.#views;
    for (let at = 0; at < size; at += WINDOW_BYTES) {
      const buffer = new ArrayBuffer(Math.min(WINDOW_BYTES, size - at));
      this.#buffers.push(buffer);
      this.#views.push(new Uint8Array(buffer));
    }
  }

  /**
   * @throws VfioError EINVAL unless `size` is a positive integer; ENOMEM above 64 GiB, or when this
   *   machine does not promise as much
   */
  static readonly allocate: MemoryAllocator = (size) => {
    const bytes = wholePages(size, HEAP_MEMORY_MAX_BYTES);
    try {
      return new HeapMemory(bytes);
    } catch (cause) {
      throw new VfioError('ENOMEM', `this process cannot allocate buffers of ${bytes} bytes in all`, {
        cause,
        fix: 'Use MemfdMemory.allocate.',
      });
    }
  };

  protected override released(): void {
    this.#views.length = 0;
    // Moving a buffer away is how Node 20 detaches one.
    for (const buffer of this.#buffers.splice(0)) structuredClone(buffer, { transfer: [buffer] });
  }
}

/**
 * A counter of signals that calls its listeners at once rather than from the event loop, so each
 * run is the same. A listener that signals its own counter is called again after it has returned.
 */
export class FakeEventFd extends Counted implements InterruptSink, InterruptSource {
  readonly #listeners = new Set<() => void>();
  #count = 0;
  #delivering = false;

  /** Makes a counter of 0. */
  constructor() {
    super('the eventfd');
  }

  /** Signals that are not read yet: the same as `read` would return. */
  get count(): number {
    return this.#count;
  }

  signal(): void {
    if (this.references === 0) return;
    this.#count++;
    this.#deliver();
  }

  /**
   * The counter, which is zero afterwards; null when it was zero.
   * @throws VfioError EBADF once closed
   */
  read(): bigint | null {
    if (this.references === 0) throw new VfioError('EBADF', 'the eventfd is closed');
    const count = this.#count;
    this.#count = 0;
    return count === 0 ? null : BigInt(count);
  }

  /**
   * Call `listener` whenever the counter is not zero, and empty it; at once when it is not zero
   * now.
   * @throws VfioError EBADF once closed
   */
  listen(listener: () => void): Disposable {
    // A function of our own, so that the same listener may be there twice.
    const entry = (): void => listener();
    this.get();
    this.#listeners.add(entry);
    this.#deliver();
    return {
      [Symbol.dispose]: () => {
        if (this.#listeners.delete(entry)) this.put();
      },
    };
  }

  #deliver(): void {
    if (this.#delivering) return;
    this.#delivering = true;
    try {
      while (this.#count > 0 && this.#listeners.size > 0) {
        this.#count = 0;
        for (const listener of [...this.#listeners]) if (this.#listeners.has(listener)) listener();
      }
    } finally {
      this.#delivering = false;
    }
  }
}
