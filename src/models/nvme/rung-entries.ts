/** Doorbell writes of a submission queue, as the events of its commands name them. */

/** The time of an entry that was rung for, or of a command that was fetched, without a reader. */
export const UNSEEN = -1;

/** For each entry of a submission queue, when the host rang for it, and the event of the write. */
export class RungEntries {
  readonly timesNs: Float64Array;
  readonly causes: Float64Array;

  constructor(size: number) {
    this.timesNs = new Float64Array(size).fill(UNSEEN);
    this.causes = new Float64Array(size);
  }
}
