/**
 * Memory that the device reaches, lent for one command to data that lies elsewhere. The pool grows
 * on demand and keeps its memory.
 */
import { VfioError } from '../../base/errno.ts';
import type { DriverDevice } from '../kit/driver-device.ts';
import { DmaRange } from './dma-range.ts';

/** Bytes lent at a time, in all. Requests for more wait. */
const LENT_MAX = 32 * 2 ** 20;
/**
 * Bytes of the first allocation. Each later one doubles the pool, because some servers take few
 * mappings.
 */
const SLAB = 2 ** 18;

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
  /** Free buffers, by the power of two of their size. */
  readonly #free: (Bounce | null)[] = new Array<null>(33).fill(null);
  readonly #waiters: Waiter[] = [];
  #lent = 0;
  /** Bytes allocated in all. */
  #allocated = 0;
  #slab: DmaRange | null = null;
  /** Bytes of the slab that are not made into buffers yet. */
  #left = 0;

  constructor(dev: DriverDevice, pageSize: number) {
    this.#dev = dev;
    this.#pageSize = pageSize;
  }

  /** Bytes lent now. */
  get lent(): number {
    return this.#lent;
  }

  /**
   * A page-aligned buffer of at least `size` bytes, with its old contents. Give it back once.
   *
   * @param size up to the largest transfer
   * @throws VfioError what `DriverDma.alloc` throws
   */
  take(size: number): Bounce | Promise<Bounce> {
    const bytes = this.#rounded(size);
    // One buffer of any size is always lent.
    if (this.#waiters.length === 0 && (this.#lent === 0 || this.#lent + bytes <= LENT_MAX)) {
      try {
        return this.#lend(bytes);
      } catch (error) {
        // Lent buffers come back, and end the wait.
        if (!(error instanceof VfioError) || this.#lent === 0) throw error;
      }
    }
    return new Promise((resolve, reject) => this.#waiters.push({ size: bytes, resolve, reject }));
  }

  give(bounce: Bounce): void {
    const size = bounce.bytes.length;
    this.#lent -= size;
    const at = Math.log2(size);
    bounce.next = this.#free[at]!;
    this.#free[at] = bounce;
    while (this.#waiters.length > 0 && (this.#lent === 0 || this.#lent + this.#waiters[0]!.size <= LENT_MAX)) {
      const waiter = this.#waiters[0]!;
      try {
        waiter.resolve(this.#lend(waiter.size));
      } catch (error) {
        if (error instanceof VfioError && this.#lent > 0) return;
        waiter.reject(error);
      }
      this.#waiters.shift();
    }
  }

  #rounded(size: number): number {
    return Math.max(this.#pageSize, 2 ** Math.ceil(Math.log2(size)));
  }

  /** @throws VfioError when no buffer of this size or larger exists, and no memory for another */
  #lend(size: number): Bounce {
    let at = Math.log2(size);
    if (this.#free[at] === null) {
      try {
        this.#grow(size, at);
      } catch (error) {
        while (at < this.#free.length && this.#free[at] === null) at++;
        if (at === this.#free.length) throw error;
      }
    }
    const bounce = this.#free[at]!;
    this.#free[at] = bounce.next;
    bounce.next = null;
    this.#lent += bounce.bytes.length;
    return bounce;
  }

  /** One more buffer of `size` bytes. */
  #grow(size: number, at: number): void {
    if (this.#left < size) this.#allocate(size);
    const slab = this.#slab!;
    const offset = slab.bytes.length - this.#left;
    this.#left -= size;
    const bounce = new Bounce(slab.iova + offset, slab.bytes.subarray(offset, offset + size));
    bounce.next = this.#free[at]!;
    this.#free[at] = bounce;
  }

  #allocate(size: number): void {
    const most = Math.max(size, SLAB, this.#allocated);
    let slab: DmaRange;
    try {
      slab = DmaRange.alloc(this.#dev, most, this.#pageSize);
    } catch (error) {
      if (!(error instanceof VfioError) || most === size) throw error;
      // Locked memory may be short. Try just the needed size.
      slab = DmaRange.alloc(this.#dev, size, this.#pageSize);
    }
    this.#slab = slab;
    this.#left = slab.bytes.length;
    this.#allocated += this.#left;
  }
}
