/** Memory that the device reaches, lent for one command to data that lies elsewhere. Grows as it is needed, and is kept. */
import type { DriverDevice } from '../kit/driver-device.ts';
import { DmaRange } from './dma-range.ts';

/** Lent at a time, all together: who asks for more waits. */
const LENT_MAX = 32 * 2 ** 20;
/** Allocated at a time, for small ones. */
const SLAB = 2 ** 16;

export class Bounce {
  readonly iova: number;
  readonly bytes: Uint8Array;
  next: Bounce | null = null;

  constructor(iova: number, bytes: Uint8Array) {
    this.iova = iova;
    this.bytes = bytes;
  }
}

interface Waiter {
  readonly size: number;
  readonly resolve: (bounce: Bounce) => void;
  readonly reject: (error: unknown) => void;
}

export class BouncePool {
  readonly #dev: DriverDevice;
  readonly #pageSize: number;
  /** By power of two of their size. */
  readonly #free: (Bounce | null)[] = new Array<null>(33).fill(null);
  readonly #waiters: Waiter[] = [];
  #lent = 0;

  constructor(dev: DriverDevice, pageSize: number) {
    this.#dev = dev;
    this.#pageSize = pageSize;
  }

  /** Bytes lent now. */
  get lent(): number {
    return this.#lent;
  }

  /**
   * A page-aligned buffer of at least `size` bytes, which holds whatever it held. Give it back once.
   *
   * @param size up to the largest transfer
   * @throws VfioError what `DriverDma.alloc` throws
   */
  take(size: number): Bounce | Promise<Bounce> {
    const bytes = this.#rounded(size);
    // A single one of any size is always lent.
    if (this.#waiters.length === 0 && (this.#lent === 0 || this.#lent + bytes <= LENT_MAX)) return this.#lend(bytes);
    return new Promise((resolve, reject) => this.#waiters.push({ size: bytes, resolve, reject }));
  }

  give(bounce: Bounce): void {
    const size = bounce.bytes.length;
    this.#lent -= size;
    const at = Math.log2(size);
    bounce.next = this.#free[at]!;
    this.#free[at] = bounce;
    while (this.#waiters.length > 0 && (this.#lent === 0 || this.#lent + this.#waiters[0]!.size <= LENT_MAX)) {
      const waiter = this.#waiters.shift()!;
      try {
        waiter.resolve(this.#lend(waiter.size));
      } catch (error) {
        waiter.reject(error);
      }
    }
  }

  #rounded(size: number): number {
    return Math.max(this.#pageSize, 2 ** Math.ceil(Math.log2(size)));
  }

  #lend(size: number): Bounce {
    const at = Math.log2(size);
    if (this.#free[at] === null) this.#grow(size, at);
    const bounce = this.#free[at]!;
    this.#free[at] = bounce.next;
    bounce.next = null;
    this.#lent += size;
    return bounce;
  }

  #grow(size: number, at: number): void {
    const slab = DmaRange.alloc(this.#dev, Math.max(size, SLAB), this.#pageSize);
    for (let offset = slab.bytes.length - size; offset >= 0; offset -= size) {
      const bounce = new Bounce(slab.iova + offset, slab.bytes.subarray(offset, offset + size));
      bounce.next = this.#free[at]!;
      this.#free[at] = bounce;
    }
  }
}
