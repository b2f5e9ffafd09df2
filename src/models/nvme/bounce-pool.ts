/**
 * Buffers for data that cannot be copied directly between a storage and memory. The pool is
 * bounded: when it is empty, commands wait.
 */

/** The smallest buffer; all are powers of two. */
const SMALLEST = 4096;

export class BouncePool {
  readonly capacity: number;
  /** By the power of two. */
  readonly #free: Uint8Array[][] = [];
  #held = 0;
  #used = 0;

  /** @param capacity  bytes of all buffers together */
  constructor(capacity: number) {
    this.capacity = capacity;
  }

  /** Bytes of the buffers that are taken; 0 when all are back. */
  get used(): number {
    return this.#used;
  }

  /** A buffer of at least `bytes`, with whatever contents; null when there is no room now. */
  take(bytes: number): Uint8Array | null {
    const power = powerOf(bytes);
    const size = 2 ** power;
    if (this.#used + size > this.capacity) return null;
    this.#used += size;
    const free = this.#free[power]?.pop();
    if (free !== undefined) return free;
    // Freeing idle buffers of other sizes makes room.
    for (let other = this.#free.length - 1; other >= 0 && this.#held + size > this.capacity; other--) {
      const list = this.#free[other];
      while (list !== undefined && list.length > 0 && this.#held + size > this.capacity) this.#held -= list.pop()!.length;
    }
    this.#held += size;
    return new Uint8Array(size);
  }

  give(buffer: Uint8Array): void {
    this.#used -= buffer.length;
    const power = powerOf(buffer.length);
    let list = this.#free[power];
    if (list === undefined) {
      list = [];
      this.#free[power] = list;
    }
    list.push(buffer);
  }

  /** Release the free buffers. */
  trim(): void {
    this.#free.length = 0;
    this.#held = this.#used;
  }
}

function powerOf(bytes: number): number {
  return 32 - Math.clz32(Math.max(bytes, SMALLEST) - 1);
}
