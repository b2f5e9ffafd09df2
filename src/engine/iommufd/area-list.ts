/**
 * Areas of an IOAS in the order of their addresses. Addresses are bytes of the whole 64-bit space:
 * an IOAS without a device has areas that begin and end anywhere.
 *
 * Areas stand in blocks of up to 512, so that one more costs as much with a million as with a
 * thousand.
 */

/** A range of addresses; `last` is inclusive. */
export interface Span {
  readonly first: bigint;
  readonly last: bigint;
}

const BLOCK = 512;

export class AreaList<A extends Span> {
  readonly #blocks: A[][] = [];
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** The first area that has an address of [first, last]; null for none. */
  firstIn(first: bigint, last: bigint): A | null {
    const block = this.#blocks[this.#blockOf(first)];
    const area = block?.[firstEndingFrom(block, first)];
    return area !== undefined && area.first <= last ? area : null;
  }

  /** Add an area that overlaps none. */
  add(area: A): void {
    const at = Math.min(this.#blockOf(area.first), Math.max(0, this.#blocks.length - 1));
    const block = this.#blocks[at];
    this.#size++;
    if (block === undefined) {
      this.#blocks.push([area]);
      return;
    }
    block.splice(firstEndingFrom(block, area.first), 0, area);
    if (block.length > BLOCK) this.#blocks.splice(at + 1, 0, block.splice(BLOCK / 2));
  }

  /** Take out an area that is in it. */
  delete(area: A): void {
    const at = this.#blockOf(area.first);
    const block = this.#blocks[at]!;
    block.splice(block.indexOf(area), 1);
    this.#size--;
    if (block.length === 0) this.#blocks.splice(at, 1);
  }

  /** All areas in order. Do not add or delete during the walk. */
  *[Symbol.iterator](): Generator<A> {
    for (const block of this.#blocks) yield* block;
  }

  /** The first block whose last area ends at `point` or after; the number of blocks for none. */
  #blockOf(point: bigint): number {
    let low = 0;
    let high = this.#blocks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#blocks[middle]!.at(-1)!.last < point) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** The place of the first area that ends at `point` or after. */
function firstEndingFrom(block: readonly Span[], point: bigint): number {
  let low = 0;
  let high = block.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (block[middle]!.last < point) low = middle + 1;
    else high = middle;
  }
  return low;
}
