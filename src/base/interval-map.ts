/**
 * Ordered, non-overlapping intervals of integers, each with a 32-bit number ("slot") that names its
 * owner.
 *
 * Keys are doubles, so an interval may lie anywhere in [0, 2^53). Two levels: a directory of blocks
 * of up to 256 intervals, each block three arrays in one buffer (20 bytes per interval). A look-up
 * is a binary search in the directory and one in the block, or one comparison when the interval
 * found last is hit again. An insert allocates whole blocks only, and a look-up allocates nothing.
 */
const BLOCK = 256;
/**
 * A block with fewer intervals tries to join its neighbour, so that memory also shrinks with the
 * number of intervals.
 */
const SPARSE = 64;

/** `keys[0..BLOCK)` are the first points, `keys[BLOCK..2·BLOCK)` the last ones. */
interface Block {
  count: number;
  readonly keys: Float64Array;
  readonly slots: Uint32Array;
}

function makeBlock(): Block {
  const buffer = new ArrayBuffer(BLOCK * 20);
  return { count: 0, keys: new Float64Array(buffer, 0, 2 * BLOCK), slots: new Uint32Array(buffer, 16 * BLOCK, BLOCK) };
}

/** Index of the last value <= point among the first `count`; -1 when there is none. */
function lastAtMost(values: Float64Array, count: number, point: number): number {
  let low = 0;
  let high = count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (values[middle] <= point) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

export class IntervalMap {
  readonly #blocks: Block[] = [];
  /**
   * The block that emptied last. A map that goes back and forth between no and one interval
   * allocates none.
   */
  #spare: Block | null = null;
  /** First point of each block. A look-up searches this directory. */
  #starts = new Float64Array(16);
  #size = 0;
  /**
   * First and last point of the interval found last; first > last when there is none. They stand in
   * an array, so that storing them allocates nothing.
   */
  readonly #found = new Float64Array([1, 0]);
  #foundSlot = -1;
  /** Where that interval stands: its block in the directory, its place in the block. */
  #foundBlock = 0;
  #foundAt = 0;

  /** Number of intervals. */
  get size(): number {
    return this.#size;
  }

  /**
   * First point of the interval that `find` or `seek` returned last. Meaningless after `insert`,
   * `remove` or `clear`, or after a -1.
   */
  get foundFirst(): number {
    return this.#found[0];
  }

  /** Last point (inclusive) of that interval. */
  get foundLast(): number {
    return this.#found[1];
  }

  /**
   * Slot of the interval that holds `point`, or -1. Its bounds are in `foundFirst` and `foundLast`.
   */
  find(point: number): number {
    const found = this.#found;
    if (point >= found[0] && point <= found[1]) return this.#foundSlot;
    const b = lastAtMost(this.#starts, this.#blocks.length, point);
    if (b < 0) return -1;
    const block = this.#blocks[b];
    const keys = block.keys;
    const i = lastAtMost(keys, block.count, point);
    // Blocks are never empty and a block's start is its first key, so i >= 0.
    if (keys[BLOCK + i] < point) return -1;
    return this.#hit(b, i);
  }

  /**
   * Slot of the first interval that ends at `point` or after, or -1. An ordered walk starts there,
   * and goes on with `seek(foundLast + 1)`. The caller may remove intervals between the steps.
   */
  seek(point: number): number {
    if (point >= this.#found[0] && point <= this.#found[1]) return this.#foundSlot;
    const blocks = this.#blocks;
    let b = lastAtMost(this.#starts, blocks.length, point);
    if (b < 0) return blocks.length === 0 ? -1 : this.#hit(0, 0);
    let i = lastAtMost(blocks[b].keys, blocks[b].count, point);
    if (blocks[b].keys[BLOCK + i] < point && ++i === blocks[b].count) {
      i = 0;
      if (++b === blocks.length) return -1;
    }
    return this.#hit(b, i);
  }

  /** Whether any interval has a point in [first, last]. */
  overlaps(first: number, last: number): boolean {
    return this.seek(first) >= 0 && this.#found[0] <= last;
  }

  /**
   * Add [first, last].
   *
   * @param first,last integers in [0, 2^53), first <= last; the caller has checked that
   * @param slot an unsigned 32-bit number
   * @returns false, with nothing changed, when the interval would overlap another
   */
  insert(first: number, last: number, slot: number): boolean {
    const blocks = this.#blocks;
    let b = lastAtMost(this.#starts, blocks.length, first);
    let i = 0;
    if (b >= 0) {
      const block = blocks[b];
      i = lastAtMost(block.keys, block.count, first);
      if (block.keys[BLOCK + i] >= first) return false;
      i++;
      const next = i < block.count ? block.keys[i] : b + 1 < blocks.length ? this.#starts[b + 1] : Number.POSITIVE_INFINITY;
      if (next <= last) return false;
    } else if (blocks.length === 0) {
      this.#addBlock(0, this.#emptyBlock());
      b = 0;
    } else {
      if (this.#starts[0] <= last) return false;
      b = 0;
    }
    let block = blocks[b];
    if (block.count === BLOCK) {
      block = this.#split(b, i);
      if (block !== blocks[b]) {
        i -= blocks[b].count;
        b++;
      }
    }
    const { keys, slots } = block;
    for (let k = block.count; k > i; k--) {
      keys[k] = keys[k - 1];
      keys[BLOCK + k] = keys[BLOCK + k - 1];
      slots[k] = slots[k - 1];
    }
    keys[i] = first;
    keys[BLOCK + i] = last;
    slots[i] = slot;
    block.count++;
    this.#size++;
    if (i === 0) this.#starts[b] = first;
    this.#forget();
    return true;
  }

  /** Remove the interval that starts at `first`. Its slot, or -1 when none starts there. */
  remove(first: number): number {
    // A caller usually looks the interval up before it removes it, so the last look-up is the right
    // one.
    const known = this.#found[0] === first && this.#foundSlot >= 0;
    const b = known ? this.#foundBlock : lastAtMost(this.#starts, this.#blocks.length, first);
    if (b < 0) return -1;
    const block = this.#blocks[b];
    const { keys, slots } = block;
    const i = known ? this.#foundAt : lastAtMost(keys, block.count, first);
    if (keys[i] !== first) return -1;
    const slot = slots[i];
    const count = --block.count;
    for (let k = i; k < count; k++) {
      keys[k] = keys[k + 1];
      keys[BLOCK + k] = keys[BLOCK + k + 1];
      slots[k] = slots[k + 1];
    }
    this.#size--;
    this.#forget();
    if (count === 0) this.#dropBlock(b);
    else {
      if (i === 0) this.#starts[b] = keys[0];
      if (count < SPARSE) this.#join(b);
    }
    return slot;
  }

  clear(): void {
    this.#blocks.length = 0;
    this.#spare = null;
    this.#starts = new Float64Array(16);
    this.#size = 0;
    this.#forget();
  }

  #hit(b: number, i: number): number {
    const block = this.#blocks[b];
    this.#foundBlock = b;
    this.#foundAt = i;
    this.#found[0] = block.keys[i];
    this.#found[1] = block.keys[BLOCK + i];
    this.#foundSlot = block.slots[i];
    return this.#foundSlot;
  }

  #forget(): void {
    this.#found[0] = 1;
    this.#found[1] = 0;
    this.#foundSlot = -1;
  }

  /**
   * Make room in the full block `b` for an insert at `i`. Appending after all intervals opens an
   * empty block instead of halving the full one, so that maps made in ascending order fill their
   * blocks. @returns the block that takes the interval
   */
  #split(b: number, i: number): Block {
    const full = this.#blocks[b];
    const fresh = this.#emptyBlock();
    const keep = i === BLOCK && b === this.#blocks.length - 1 ? BLOCK : BLOCK / 2;
    fresh.count = BLOCK - keep;
    fresh.keys.set(full.keys.subarray(keep, BLOCK));
    fresh.keys.set(full.keys.subarray(BLOCK + keep), BLOCK);
    fresh.slots.set(full.slots.subarray(keep));
    full.count = keep;
    this.#addBlock(b + 1, fresh);
    return i > keep || keep === BLOCK ? fresh : full;
  }

  /** Join block `b` with a neighbour when one block has ample room for both. */
  #join(b: number): void {
    const blocks = this.#blocks;
    const fits = (n: number) => n >= 0 && n < blocks.length && blocks[n].count + blocks[b].count <= BLOCK - SPARSE;
    const to = fits(b - 1) ? b - 1 : fits(b + 1) ? b : -1;
    if (to < 0) return;
    const left = blocks[to];
    const right = blocks[to + 1];
    left.keys.set(right.keys.subarray(0, right.count), left.count);
    left.keys.set(right.keys.subarray(BLOCK, BLOCK + right.count), BLOCK + left.count);
    left.slots.set(right.slots.subarray(0, right.count), left.count);
    left.count += right.count;
    this.#dropBlock(to + 1);
  }

  #addBlock(at: number, block: Block): void {
    const count = this.#blocks.length;
    if (count === this.#starts.length) {
      const larger = new Float64Array(2 * count);
      larger.set(this.#starts);
      this.#starts = larger;
    }
    this.#starts.copyWithin(at + 1, at, count);
    this.#starts[at] = block.keys[0];
    this.#blocks.splice(at, 0, block);
  }

  #emptyBlock(): Block {
    const block = this.#spare ?? makeBlock();
    this.#spare = null;
    return block;
  }

  #dropBlock(at: number): void {
    const block = this.#blocks[at];
    block.count = 0;
    this.#spare = block;
    this.#starts.copyWithin(at, at + 1, this.#blocks.length);
    this.#blocks.splice(at, 1);
  }
}
