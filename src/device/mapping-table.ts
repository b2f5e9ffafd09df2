/**
 * The memory that a client has mapped for a device's DMA, by I/O address. Each mapping holds a
 * reference on its memory until it is removed.
 *
 * Addresses are page numbers of 4096 bytes, as doubles: exact for all of the 64-bit space.
 */
import type { Access, Memory } from '../abi/memory.ts';
import { IntervalMap } from '../base/interval-map.ts';
import { Slots } from '../base/slots.ts';

/** One mapping. */
export interface MappingEntry {
  readonly memory: Memory;
  /** Byte of `memory` that the first page starts at. */
  readonly offset: number;
  readonly access: Access;
}

/** First and last page of a mapping. */
export interface MappingPages {
  readonly first: number;
  readonly last: number;
}

export class MappingTable {
  /** Mappings by page, for classes that look for more. */
  protected readonly index = new IntervalMap();
  /** By the slots of `index`. */
  protected entries: (MappingEntry | null)[] = [];
  #slots = new Slots();

  /** Mappings. */
  get size(): number {
    return this.index.size;
  }

  overlaps(first: number, last: number): boolean {
    return this.index.overlaps(first, last);
  }

  /** First and last page of the mapping that holds `page`, or null. */
  at(page: number): MappingPages | null {
    return this.index.find(page) < 0 ? null : { first: this.index.foundFirst, last: this.index.foundLast };
  }

  /** The first mapping that ends at `page` or after, or null: where an ordered walk goes on. */
  next(page: number): MappingPages | null {
    return this.index.seek(page) < 0 ? null : { first: this.index.foundFirst, last: this.index.foundLast };
  }

  /** The mapping that holds `page`, or null. */
  entryAt(page: number): MappingEntry | null {
    const slot = this.index.find(page);
    return slot < 0 ? null : this.entries[slot]!;
  }

  /**
   * Holds a reference on `memory` from here on. The caller has looked that the pages are free.
   * @throws VfioError EBADF when the memory is gone
   */
  add(first: number, last: number, memory: Memory, offset: number, access: Access): void {
    memory.get();
    const slot = this.#slots.take();
    while (this.entries.length <= slot) this.entries.push(null);
    this.entries[slot] = { memory, offset, access };
    this.index.insert(first, last, slot);
  }

  /** Forgets the mapping that starts at `first`, and drops its reference on the memory. */
  remove(first: number): void {
    const slot = this.index.remove(first);
    if (slot < 0) return;
    const entry = this.entries[slot]!;
    this.entries[slot] = null;
    this.#slots.give(slot);
    entry.memory.put();
  }

  /** Forgets all of them. */
  clear(): void {
    const { entries } = this;
    this.entries = [];
    this.#slots = new Slots();
    this.index.clear();
    for (const entry of entries) entry?.memory.put();
  }
}
