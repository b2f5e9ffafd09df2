/**
 * Doorbells (NVMe 1.4, 3.1.24), and their shadows in memory (5.7, Doorbell Buffer Config): a
 * register write may leave the guest or the process, so the controller looks at the shadow by
 * itself. Its event index says when it wants to be woken by a register write.
 *
 * Order of stores: the controller must see entries before the doorbell that announces them. x86
 * keeps stores in order, and JavaScript engines do not move typed array stores over calls. arm64
 * may reorder stores; the atomic operations here are full fences there, and cost some nanoseconds a
 * batch.
 */
import type { RegisterAccess } from '../../abi/device.ts';
import { NvmeReg } from '../../abi/nvme.ts';
import type { DmaRange } from './dma-range.ts';

export class Doorbells {
  /** Bytes between two doorbells. */
  readonly stride: number;
  readonly #access: Pick<RegisterAccess, 'write32'>;
  readonly #fence = new Int32Array(1);
  #shadow: Int32Array | null = null;
  #events: Int32Array | null = null;
  #held: Map<number, number> | null = null;
  /** Number of register writes since the start. */
  written = 0;

  constructor(access: Pick<RegisterAccess, 'write32'>, stride: number) {
    this.#access = access;
    this.stride = stride;
  }

  /**
   * Use shadows for I/O queues from now on; null: use none.
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
   * Announce a new value.
   * @returns true when the register was written
   *
   * @param index 2·QID for a tail, 2·QID + 1 for a head
   * @param old the value announced last
   */
  ring(index: number, old: number, value: number): boolean {
    const shadow = this.#shadow;
    const at = (index * this.stride) >>> 2;
    if (shadow === null || index < 2 || at >= shadow.length) {
      // The admin queue has a shadow too. Its register is written all the same, because few
      // controllers look at that shadow.
      if (shadow !== null && index < 2) Atomics.store(shadow, at, value);
      Atomics.exchange(this.#fence, 0, value);
      this.write(index, value);
      return true;
    }
    // The shadow must be visible before the event index is read: The controller does the same in
    // the other direction, so one of the two sees the other's store.
    Atomics.store(shadow, at, value);
    const event = Atomics.load(this.#events!, at);
    // The event index lies in (old, value], modulo 2^16: the controller asked to be woken at a
    // value that the doorbell passes now.
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

  /** Write the register itself. */
  write(index: number, value: number): void {
    if (this.#held !== null) {
      this.#held.set(index, value);
      return;
    }
    this.written++;
    this.#access.write32(NvmeReg.DOORBELLS + index * this.stride, value);
  }
}
