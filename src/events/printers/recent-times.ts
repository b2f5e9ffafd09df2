/** The times of the last events, by their number: an event that they cause is not before them. */
const EVENTS = 65_536;

export class RecentTimes {
  readonly #seqs = new Float64Array(EVENTS);
  readonly #times = new Float64Array(EVENTS);

  add(seq: number, ns: number): void {
    const slot = seq % EVENTS;
    this.#seqs[slot] = seq;
    this.#times[slot] = ns;
  }

  /** @returns 0 for an event that is too old, or that was not seen */
  of(seq: number): number {
    const slot = seq % EVENTS;
    return this.#seqs[slot] === seq ? this.#times[slot]! : 0;
  }
}
