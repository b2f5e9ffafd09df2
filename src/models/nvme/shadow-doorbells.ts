/**
 * Shadow doorbells (NVMe 1.4, 5.7 and 7.13): the host writes doorbell values to memory, and rings
 * the register only when a value passes the event index that the controller left beside it. Offsets
 * in both buffers are those of the doorbells from 1000h on.
 */
import { Dma, type DmaPort, type Iova } from '../../abi/device-host.ts';
import { Access } from '../../abi/memory.ts';
import { Ring } from './ring.ts';

export class ShadowDoorbells {
  readonly #dma: DmaPort;
  #values: Ring | null = null;
  #events: Ring | null = null;
  readonly #word = new Uint32Array(1);
  readonly #wordBytes = new Uint8Array(this.#word.buffer);
  /** The buffers could not be reached: their last user has to stop. */
  failed = false;

  constructor(dma: DmaPort) {
    this.#dma = dma;
  }

  get enabled(): boolean {
    return this.#values !== null;
  }

  /**
   * Use these buffers from now on. False: they are not directly mapped, and nothing has changed.
   *
   * @param doorbells  number of doorbells: dwords of each buffer
   */
  configure(values: Iova, events: Iova, doorbells: number): boolean {
    const v = new Ring(this.#dma, values, doorbells, 4, Access.READ_WRITE);
    const e = new Ring(this.#dma, events, doorbells, 4, Access.WRITE);
    const zero = new Uint8Array(4);
    if (this.#dma.tryRead(v.at(doorbells - 1), zero) !== Dma.DONE) return false;
    zero.fill(0);
    if (this.#dma.tryWrite(e.at(doorbells - 1), zero) !== Dma.DONE) return false;
    this.#values = v;
    this.#events = e;
    this.failed = false;
    return true;
  }

  /** Where both buffers are; null while they are not in use. */
  get buffers(): { readonly values: Iova; readonly events: Iova } | null {
    return this.#values === null ? null : { values: this.#values.iova, events: this.#events!.iova };
  }

  /**
   * As `configure`, for buffers that the controller used before a move. It reads them when it runs
   * again.
   */
  take(values: Iova, events: Iova, doorbells: number): void {
    this.#values = new Ring(this.#dma, values, doorbells, 4, Access.READ_WRITE);
    this.#events = new Ring(this.#dma, events, doorbells, 4, Access.WRITE);
    this.failed = false;
  }

  disable(): void {
    this.#values = null;
    this.#events = null;
    this.failed = false;
  }

  /**
   * The value of doorbell `index`: 2y the tail of submission queue y, 2y + 1 the head of completion
   * queue y.
   */
  read(index: number): number {
    const ring = this.#values!;
    const words = ring.words();
    if (words !== null) return Atomics.load(words, index);
    if (this.#dma.tryRead(ring.at(index), this.#wordBytes) !== Dma.DONE) this.failed = true;
    return this.#word[0]!;
  }

  write(index: number, value: number): void {
    this.#store(this.#values!, index, value);
  }

  /** The host is to ring the register when it goes past `value`. */
  writeEvent(index: number, value: number): void {
    this.#store(this.#events!, index, value);
  }

  #store(ring: Ring, index: number, value: number): void {
    const words = ring.words();
    if (words !== null) {
      // This store must precede the next read of the value, because the host writes its value and
      // then reads the event index.
      Atomics.store(words, index, value);
      return;
    }
    this.#word[0] = value;
    if (this.#dma.tryWrite(ring.at(index), this.#wordBytes) !== Dma.DONE) this.failed = true;
  }
}
