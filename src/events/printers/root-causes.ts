/**
 * The root cause of an event: the one at the beginning of its chain of causes, such as the write of
 * a doorbell. A ring of the last events has the roots. Where a cause is older, it is taken for the
 * root.
 */
import type { EventHead } from '../../abi/event.ts';

/** Events that are remembered; a power of two. */
const EVENTS = 65_536;

export class RootCauses {
  readonly #seqs = new Float64Array(EVENTS);
  readonly #roots = new Float64Array(EVENTS);
  readonly #times = new Float64Array(EVENTS);

  /** Remember an event. @returns the `seq` of its root: its own where it has no cause */
  add({ seq, cause, timeNs }: EventHead): number {
    const root = cause === 0 ? seq : this.#rootOf(cause);
    const slot = seq % EVENTS;
    this.#seqs[slot] = seq;
    this.#roots[slot] = root;
    this.#times[slot] = timeNs;
    return root;
  }

  #rootOf(seq: number): number {
    const slot = seq % EVENTS;
    return this.#seqs[slot] === seq ? this.#roots[slot]! : seq;
  }

  /** The time of an event; undefined: it is too old. */
  timeOf(seq: number): number | undefined {
    const slot = seq % EVENTS;
    return this.#seqs[slot] === seq ? this.#times[slot] : undefined;
  }
}
