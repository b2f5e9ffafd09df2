/** Ranges of pages that do not overlap, each with a value; and the arithmetic of two ranges. */
import { IntervalMap } from '../base/interval-map.ts';
import { Slots } from '../base/slots.ts';

/** Pages of 4096 bytes, `last` inclusive. */
export interface Range {
  readonly first: number;
  readonly last: number;
}

export class RangeTable<T extends Range> {
  readonly #index = new IntervalMap();
  readonly #slots = new Slots();
  readonly #entries: (T | undefined)[] = [];

  get size(): number {
    return this.#index.size;
  }

  add(entry: T): void {
    const slot = this.#slots.take();
    this.#entries[slot] = entry;
    this.#index.insert(entry.first, entry.last, slot);
  }

  remove({ first }: T): void {
    const slot = this.#index.remove(first);
    this.#entries[slot] = undefined;
    this.#slots.give(slot);
  }

  at(page: number): T | null {
    const slot = this.#index.find(page);
    return slot < 0 ? null : this.#entries[slot]!;
  }

  overlaps({ first, last }: Range): boolean {
    return this.#index.overlaps(first, last);
  }

  /** The entries that have a page in the range, in order. */
  within({ first, last }: Range): T[] {
    const found: T[] = [];
    const before = this.at(first);
    if (before !== null) found.push(before);
    for (let from = before === null ? first : before.last + 1; from <= last; ) {
      const slot = this.#index.seek(from);
      if (slot < 0 || this.#index.foundFirst > last) break;
      found.push(this.#entries[slot]!);
      from = this.#index.foundLast + 1;
    }
    return found;
  }

  /** The parts of the range that no entry covers. */
  gaps(range: Range): Range[] {
    const gaps: Range[] = [];
    let from = range.first;
    for (const { first, last } of this.within(range)) {
      if (first > from) gaps.push({ first: from, last: first - 1 });
      from = last + 1;
    }
    if (from <= range.last) gaps.push({ first: from, last: range.last });
    return gaps;
  }
}

/** The part of both ranges; the two overlap. */
export const common = (a: Range, b: Range): Range => ({ first: Math.max(a.first, b.first), last: Math.min(a.last, b.last) });

/** The parts of `range` outside `other`; the two overlap. */
export function outside(range: Range, other: Range): Range[] {
  const rest: Range[] = [];
  if (range.first < other.first) rest.push({ first: range.first, last: other.first - 1 });
  if (range.last > other.last) rest.push({ first: other.last + 1, last: range.last });
  return rest;
}
