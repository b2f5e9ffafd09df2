/**
 * Doorbells (NVMe 1.4, 3.1.24), and their shadows in memory (5.7, Doorbell Buffer Config): where a
 * register write leaves the guest or the process, the controller looks at the shadow by itself and
 * says by its event index when it wants to be woken.
 *
 * Order of stores: entries must be seen before the doorbell that tells of them. x86 keeps stores in
 * order, and JavaScript engines do not move typed array stores over calls; arm64 may reorder, which
 * the atomic operations here stop: they are full fences there and cost some nanoseconds a batch.
 */
import type { RegisterAccess } from '../../abi/device.ts';
import { NvmeReg } from '../../abi/nvme.ts';
import type { DmaRange } from './dma-range.ts';

export class Doorbells {
  /** Bytes between two. */
  readonly stride: number;
  readonly #access: Pick<RegisterAccess, 'write32'>;
  readonly #fence = new Int32Array(1);
  #shadow: Int32Array | null = null;
  #events: Int32Array | null = null;
  #held: Map<number, number> | null = null;
  /** Writes of registers, since the beginning. */
  written = 0;

  constructor(access: Pick<RegisterAccess, 'write32'>, stride: number) {
    this.#access = access;
    this.stride = stride;
  }

  /**
   * Use shadows from now on, for I/O queues; null: no more.
   * @param range zeroed: a page of shadows, and one of event indexes
   */
  shadow(range: DmaRange | null, pageSize: number): void {
    const half = (from: number) =>
      range === null ? null : new Int32Array(range.bytes.buffer, range.bytes.byteOffset + from, pageSize >>> 2);
    this.#shadow = half(0);
    this.#events = half(pageSize);
  }

  get shadowed(): boolean {
    return this.#shadow !== null;
  }

  /**
   * Tell a new value. True when the register was written.
   *
   * @param index 2·QID for a tail, 2·QID + 1 for a head   @param old what was told last
   */
  ring(index: number, old: number, value: number): boolean {
    const shadow = this.#shadow;
    const at = (index * this.stride) >>> 2;
    if (shadow === null || index < 2 || at >= shadow.length) {
      // The admin queue has a shadow too, and its register is written all the same: few controllers
      // look at it.
      if (shadow !== null && index < 2) Atomics.store(shadow, at, value);
      Atomics.exchange(this.#fence, 0, value);
      this.write(index, value);
      return true;
    }
    // The shadow must be visible before the event index is read: the controller does the same the
    // other way round, so one of the two sees the other.
    Atomics.store(shadow, at, value);
    const event = Atomics.load(this.#events!, at);
    // The event index lies in (old, value], modulo 2^16: it asked to be woken at a value that is
    // passed now.
    if (((value - event - 1) & 0xffff) >= ((value - old) & 0xffff)) return false;
    this.write(index, value);
    return true;
  }

  /**
   * While the machine sleeps no register answers: the newest value of each doorbell is kept until
   * `release`. Idempotent, as is `release`.
   */
  hold(): void {
    this.#held ??= new Map();
  }

  release(): void {
    const held = this.#held;
    this.#held = null;
    if (held !== null) for (const [index, value] of held) this.write(index, value);
  }

  /** The register itself. */
  write(index: number, value: number): void {
    if (this.#held !== null) {
      this.#held.set(index, value);
      return;
    }
    this.written++;
    this.#access.write32(NvmeReg.DOORBELLS + index * this.stride, value);
  }
}
