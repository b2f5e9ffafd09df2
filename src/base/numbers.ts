/**
 * Small numbers that are given in the order of need, as Linux numbers /dev/vfio/N and vfioN. A new
 * one is the lowest that is free.
 *
 * @see linux/lib/idr.c, ida_alloc_range()
 */

/** Where numbers come from. */
export interface Numbers {
  /** A number. @param user what it is for: an address, a name */
  take(user: string): number;
  /** It is free again. */
  release(number: number): void;
}

export class LowestFree implements Numbers {
  readonly #taken = new Set<number>();
  /** Every number below is taken. */
  #from = 0;

  take(): number {
    while (this.#taken.has(this.#from)) this.#from++;
    this.#taken.add(this.#from);
    return this.#from++;
  }

  release(number: number): void {
    if (this.#taken.delete(number)) this.#from = Math.min(this.#from, number);
  }
}
