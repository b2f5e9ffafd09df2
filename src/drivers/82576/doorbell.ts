/**
 * Tail registers. While the machine sleeps no register answers, and a tail is kept until `release`.
 *
 * Order of stores: the card must see descriptors before the tail that announces them. x86 keeps
 * stores in order; the atomic operation here is a full fence on arm64, and costs some nanoseconds a
 * batch.
 */
import type { RegisterAccess } from '../../abi/device.ts';

export class Doorbell {
  /** Tail registers written. */
  written = 0;
  readonly #registers: Pick<RegisterAccess, 'write32'>;
  readonly #fence = new Int32Array(1);
  readonly #lost: (error: unknown) => void;
  #held: Map<number, number> | null = null;

  /** @param lost gets the error of a register that does not answer */
  constructor(registers: Pick<RegisterAccess, 'write32'>, lost: (error: unknown) => void) {
    this.#registers = registers;
    this.#lost = lost;
  }

  ring(offset: number, value: number): void {
    if (this.#held !== null) {
      this.#held.set(offset, value);
      return;
    }
    this.written++;
    Atomics.exchange(this.#fence, 0, value);
    try {
      this.#registers.write32(offset, value);
    } catch (error) {
      this.#lost(error);
    }
  }

  /** The machine falls asleep. Idempotent, as `release` is. */
  hold(): void {
    this.#held ??= new Map();
  }

  /** Tails that were held are written, unless `forget` is set: then the rings begin anew. */
  release(forget = false): void {
    const held = this.#held;
    this.#held = null;
    if (held !== null && !forget) for (const [offset, value] of held) this.ring(offset, value);
  }
}
