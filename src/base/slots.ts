/**
 * Small numbers to hand out and take back, which serve as indexes into parallel arrays: a table of
 * many entries is a few typed arrays instead of many objects. A slot costs four bytes. The slot
 * freed last is handed out next; low numbers are not preferred.
 */
export class Slots {
  static readonly initialCapacity = 16;
  /** Free list: `#next[slot]` is the next free slot + 1, 0 at the end. */
  #next = new Uint32Array(Slots.initialCapacity);
  #free = 0;
  #fresh = 0;
  #used = 0;

  /** Number of slots handed out now. */
  get used(): number {
    return this.#used;
  }

  /**
   * Every handed-out slot is below this number, which is the length that parallel arrays need. It
   * doubles when all slots are taken, and returns to its first value when all are free.
   */
  get capacity(): number {
    return this.#next.length;
  }

  take(): number {
    this.#used++;
    if (this.#free !== 0) {
      const slot = this.#free - 1;
      this.#free = this.#next[slot];
      return slot;
    }
    if (this.#fresh === this.#next.length) {
      this.#next = resized(this.#next, 2 * this.#fresh);
    }
    return this.#fresh++;
  }

  /** Take `slot` back. The caller gives each slot back once. */
  give(slot: number): void {
    if (--this.#used === 0) {
      this.#free = 0;
      this.#fresh = 0;
      if (this.#next.length > Slots.initialCapacity) this.#next = new Uint32Array(Slots.initialCapacity);
      return;
    }
    this.#next[slot] = this.#free;
    this.#free = slot + 1;
  }
}

/** A copy of a parallel array with `length` entries: the entries that fit, then zeros. */
export function resized<T extends Uint8Array | Uint32Array | Float64Array>(array: T, length: number): T {
  const copy = new (array.constructor as new (length: number) => T)(length);
  copy.set(array.length <= length ? array : array.subarray(0, length));
  return copy;
}
