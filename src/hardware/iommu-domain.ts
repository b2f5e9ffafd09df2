/**
 * One IOMMU domain: the memory that each I/O address reaches, and the access that is allowed there.
 * A domain plays the part of the IOMMU's page tables.
 *
 * Addresses are page numbers of 4096 bytes, as doubles: exact for all of the 64-bit space. The
 * domain knows neither the source of a memory nor its user; type1 decides about both. Every entry
 * holds a reference on its memory.
 */
import { Access, type DirectMemory, type Memory, WINDOW_BYTES } from '../abi/memory.ts';
import { hex } from '../base/check.ts';
import { VfioError } from '../base/errno.ts';
import { IntervalMap } from '../base/interval-map.ts';
import { resized, Slots } from '../base/slots.ts';
import type { DirtyPages } from './dirty-pages.ts';

/** Bytes per page number. */
export const IOMMU_UNIT = 4096;
/** The last page number of the 64-bit space. */
export const LAST_PFN = 2 ** 52 - 1;

/** The result of a translation or a copy. FAILED: the memory behind the mapping is gone. */
export const Reach = { OK: 0, NOT_MAPPED: 1, PERMISSION: 2, REMOTE: 3, FAILED: 4 } as const;
export type Reach = (typeof Reach)[keyof typeof Reach];

/**
 * The answer of a translation: made once and used again, so that a translation allocates nothing.
 */
export class Translation {
  memory: Memory | null = null;
  // Fractions make JavaScript's engine store these fields as doubles in place from the start.
  /** The byte of `memory` that the address reaches. */
  offset = 0.5;
  /** Bytes from `offset` to the end of the entry. */
  bytes = 0.5;
}

/** The answer of `IommuDomain.locate`: made once and used again. */
export class Located {
  /** The window of the memory that holds the range. */
  window: Uint8Array = new Uint8Array(0);
  // Fractions: see Translation.
  /** The first byte of the range, as an index of `window`. */
  offset = 0.5;
  /**
   * Bytes of `window` before `offset`, and from `offset` on, that are mapped at the addresses
   * beside the range.
   */
  before = 0.5;
  after = 0.5;
  /** Rights that all of it has. */
  access: Access = Access.READ;
}

export interface DomainProperties {
  /** The IOMMU hardware whose domain this is. */
  readonly unit: object;
  readonly coherent: boolean;
  readonly enforcesCoherency: boolean;
  readonly pageSizes: bigint;
}

/** Copies up to this many bytes go byte by byte: the sub-array that `set` needs costs more. */
const BYTEWISE = 16;

export class IommuDomain {
  readonly unit: object;
  readonly coherent: boolean;
  readonly enforcesCoherency: boolean;
  readonly pageSizes: bigint;
  /** The log of writes by devices while dirty tracking is on; set by type1. */
  dirty: DirtyPages | null = null;
  /** Groups attached; kept by type1. */
  groups = 0;
  readonly #granule: number;
  readonly #index = new IntervalMap();
  readonly #slots = new Slots();
  #memories: (Memory | null)[] = [];
  #offsets = new Float64Array(Slots.initialCapacity);
  #access = new Uint8Array(Slots.initialCapacity);
  #epoch = 0;
  #writeViews = false;
  readonly #located = new Located();

  constructor(properties: DomainProperties) {
    this.unit = properties.unit;
    this.coherent = properties.coherent;
    this.enforcesCoherency = properties.enforcesCoherency;
    this.pageSizes = properties.pageSizes;
    this.#granule = Math.max(1, Number(properties.pageSizes & -properties.pageSizes) / IOMMU_UNIT);
  }

  /**
   * Changes when views taken before may no longer be used: memory was unmapped, or a dirty log
   * needs to see the next write.
   */
  get epoch(): number {
    return this.#epoch;
  }

  /** Entries in the table: at least one per mapping, more where a mapping's memory is in pieces. */
  get size(): number {
    return this.#index.size;
  }

  /**
   * Enter [firstPfn, lastPfn].
   *
   * @param offset first byte of the memory, a multiple of 4096; the caller has checked that the
   * range lies inside it
   * @throws VfioError EEXIST over an entry; EINVAL for a range that is no multiple of this IOMMU's
   * smallest page
   */
  map(firstPfn: number, lastPfn: number, memory: Memory, offset: number, access: Access): void {
    if (!(firstPfn >= 0 && lastPfn >= firstPfn && lastPfn <= LAST_PFN)) throw new VfioError('EINVAL', `pages ${firstPfn} to ${lastPfn}`);
    if (this.#granule > 1 && (firstPfn % this.#granule !== 0 || (lastPfn + 1) % this.#granule !== 0)) {
      throw new VfioError(
        'EINVAL',
        `IOVA ${hex(firstPfn * IOMMU_UNIT)} and its size are not multiples of this IOMMU's smallest page, ${this.#granule * IOMMU_UNIT} bytes`,
      );
    }
    memory.get();
    const slot = this.#slots.take();
    if (!this.#index.insert(firstPfn, lastPfn, slot)) {
      this.#slots.give(slot);
      memory.put();
      throw new VfioError('EEXIST', `IOVA ${hex(firstPfn * IOMMU_UNIT)} is mapped already`);
    }
    this.#resize();
    this.#memories[slot] = memory;
    this.#offsets[slot] = offset;
    this.#access[slot] = access;
  }

  /**
   * Remove every entry that starts inside [firstPfn, lastPfn]. Type1 makes sure that no entry is
   * cut.
   */
  unmap(firstPfn: number, lastPfn: number): void {
    const index = this.#index;
    let slot = index.seek(firstPfn);
    if (slot < 0 || index.foundFirst > lastPfn) return;
    this.#epoch++;
    while (slot >= 0 && index.foundFirst <= lastPfn) {
      const last = index.foundLast;
      index.remove(index.foundFirst);
      const memory = this.#memories[slot]!;
      this.#memories[slot] = null;
      this.#slots.give(slot);
      memory.put();
      slot = last < lastPfn ? index.seek(last + 1) : -1;
    }
    this.#resize();
  }

  /** Remove everything: the last group has left. */
  clear(): void {
    this.unmap(0, LAST_PFN);
    this.#epoch++;
  }

  /** Each entry inside [firstPfn, lastPfn] in order. The visitor must not map or unmap here. */
  forEach(
    firstPfn: number,
    lastPfn: number,
    visit: (firstPfn: number, lastPfn: number, memory: Memory, offset: number, access: Access) => void,
  ): void {
    const index = this.#index;
    for (let slot = index.seek(firstPfn); slot >= 0 && index.foundFirst <= lastPfn; ) {
      const next = index.foundLast + 1;
      visit(index.foundFirst, index.foundLast, this.#memories[slot]!, this.#offsets[slot], this.#access[slot] as Access);
      slot = index.seek(next);
    }
  }

  /**
   * Translate byte `byte` of page `pfn`; the answer is in `out`. Allocates nothing.
   *
   * @returns Reach.OK, NOT_MAPPED or PERMISSION
   */
  translate(pfn: number, byte: number, access: Access, out: Translation): Reach {
    const slot = this.#index.find(pfn);
    if (slot < 0) return Reach.NOT_MAPPED;
    if ((this.#access[slot] & access) !== access) return Reach.PERMISSION;
    out.memory = this.#memories[slot];
    out.offset = this.#offsets[slot] + (pfn - this.#index.foundFirst) * IOMMU_UNIT + byte;
    out.bytes = (this.#index.foundLast - pfn + 1) * IOMMU_UNIT - byte;
    return Reach.OK;
  }

  /**
   * Whether all of [byte of pfn, + size) is mapped with that access, and none of it answers only by
   * messages.
   */
  reach(pfn: number, byte: number, size: number, access: Access): Reach {
    const index = this.#index;
    const lastPfn = pfn + Math.floor((byte + Math.max(size, 1) - 1) / IOMMU_UNIT);
    let result: Reach = Reach.OK;
    for (let at = pfn; at <= lastPfn; at = index.foundLast + 1) {
      const slot = index.find(at);
      if (slot < 0) return Reach.NOT_MAPPED;
      if ((this.#access[slot] & access) !== access) return Reach.PERMISSION;
      if (!isAtOnce(this.#memories[slot]!)) result = Reach.REMOTE;
    }
    return result;
  }

  /** Copy out of memory, for a device that reads. All or nothing, also across mappings. */
  copyOut(pfn: number, byte: number, into: Uint8Array): Reach {
    const size = into.length;
    const slot = this.#index.find(pfn);
    if (slot < 0) return Reach.NOT_MAPPED;
    if ((this.#access[slot] & Access.READ) === 0) return Reach.PERMISSION;
    const memory = this.#memories[slot]!;
    if ((this.#index.foundLast - pfn + 1) * IOMMU_UNIT - byte >= size && memory.kind === 'direct') {
      readDirect(memory, this.#offsets[slot] + (pfn - this.#index.foundFirst) * IOMMU_UNIT + byte, into, 0, size);
      return Reach.OK;
    }
    return this.#copyPieces(pfn, byte, into, Access.READ);
  }

  /**
   * Copy into memory, for a device that writes. All or nothing, also across mappings; the dirty log
   * has the write.
   */
  copyIn(pfn: number, byte: number, from: Uint8Array): Reach {
    const size = from.length;
    const slot = this.#index.find(pfn);
    if (slot < 0) return Reach.NOT_MAPPED;
    if ((this.#access[slot] & Access.WRITE) === 0) return Reach.PERMISSION;
    const memory = this.#memories[slot]!;
    if ((this.#index.foundLast - pfn + 1) * IOMMU_UNIT - byte >= size && memory.kind === 'direct') {
      writeDirect(memory, this.#offsets[slot] + (pfn - this.#index.foundFirst) * IOMMU_UNIT + byte, from, 0, size);
      if (this.dirty !== null && size > 0) this.dirty.mark(pfn, pfn + Math.floor((byte + size - 1) / IOMMU_UNIT));
      return Reach.OK;
    }
    return this.#copyPieces(pfn, byte, from, Access.WRITE);
  }

  /**
   * The bytes themselves, when the range is direct, mapped with that access, and one piece of one
   * window; null otherwise. A view for writing marks all its pages dirty now; once a dirty log is
   * read the epoch changes, so that the next write is seen too.
   */
  view(pfn: number, byte: number, size: number, access: Access): Uint8Array | null {
    const found = this.#located;
    if (!this.locate(pfn, byte, size, access, found)) return null;
    if ((access & Access.WRITE) !== 0) {
      this.lent();
      if (this.dirty !== null) this.dirty.mark(pfn, pfn + Math.floor((byte + size - 1) / IOMMU_UNIT));
    }
    return found.window.subarray(found.offset, found.offset + size);
  }

  /** A view for writing is in use, or may be. */
  lent(): void {
    this.#writeViews = true;
  }

  /**
   * Where those bytes are: false where `view` gives null. The caller marks what it writes, and says
   * so by `lent` when a model may keep the place.
   */
  locate(pfn: number, byte: number, size: number, access: Access, out: Located): boolean {
    const index = this.#index;
    const slot = index.find(pfn);
    if (slot < 0 || (this.#access[slot] & access) !== access) return false;
    const memory = this.#memories[slot]!;
    if (memory.kind !== 'direct') return false;
    const before = (pfn - index.foundFirst) * IOMMU_UNIT + byte;
    const start = this.#offsets[slot] + before;
    let rights = this.#access[slot]!;
    let have = (index.foundLast - pfn + 1) * IOMMU_UNIT - byte;
    // Neighbours that go on in the same memory are one piece.
    while (have < size) {
      const next = index.find(index.foundLast + 1);
      if (next < 0 || (this.#access[next] & access) !== access) return false;
      if (this.#memories[next] !== memory || this.#offsets[next] !== start + have) return false;
      rights &= this.#access[next];
      have += (index.foundLast - index.foundFirst + 1) * IOMMU_UNIT;
    }
    const window = Math.floor(start / WINDOW_BYTES);
    const from = start - window * WINDOW_BYTES;
    if (from + size > WINDOW_BYTES) return false;
    out.window = memory.windows[window];
    out.offset = from;
    out.before = Math.min(before, from);
    out.after = Math.min(have, WINDOW_BYTES - from);
    out.access = rights as Access;
    return true;
  }

  /**
   * Expire the views for writing that were taken before: a dirty log would not see writes through
   * them.
   */
  expireWriteViews(): void {
    if (!this.#writeViews) return;
    this.#writeViews = false;
    this.#epoch++;
  }

  /** A copy over several entries: check all of the range first, then copy piece by piece. */
  #copyPieces(pfn: number, byte: number, bytes: Uint8Array, access: Access): Reach {
    const reach = this.reach(pfn, byte, bytes.length, access);
    if (reach !== Reach.OK) return reach;
    const index = this.#index;
    let at = pfn;
    let within = byte;
    let landed = true;
    for (let done = 0; landed && done < bytes.length; ) {
      const slot = index.find(at);
      const memory = this.#memories[slot]!;
      const offset = this.#offsets[slot] + (at - index.foundFirst) * IOMMU_UNIT + within;
      const piece = Math.min((index.foundLast - at + 1) * IOMMU_UNIT - within, bytes.length - done);
      if (memory.kind === 'remote') {
        const copied = memory.atOnce!;
        landed = access === Access.READ ? copied.read(offset, bytes, done, piece) : copied.write(offset, bytes, done, piece);
      } else if (access === Access.READ) readDirect(memory, offset, bytes, done, piece);
      else writeDirect(memory, offset, bytes, done, piece);
      done += piece;
      at = index.foundLast + 1;
      within = 0;
    }
    if (access === Access.WRITE && this.dirty !== null && bytes.length > 0) {
      this.dirty.mark(pfn, pfn + Math.floor((byte + bytes.length - 1) / IOMMU_UNIT));
    }
    return landed ? Reach.OK : Reach.FAILED;
  }

  /** Keep the parallel arrays as long as the slots can be. */
  #resize(): void {
    const capacity = this.#slots.capacity;
    if (capacity === this.#offsets.length) return;
    this.#offsets = resized(this.#offsets, capacity);
    this.#access = resized(this.#access, capacity);
    if (this.#slots.used === 0) this.#memories = [];
  }
}

/** Whether an access of it is over when the call returns. */
function isAtOnce(memory: Memory): boolean {
  return memory.kind === 'direct' || (memory.atOnce ?? null) !== null;
}

/** memory[offset, + size) into `into` at `at`. */
export function readDirect(memory: DirectMemory, offset: number, into: Uint8Array, at: number, size: number): void {
  while (size > 0) {
    const number = Math.floor(offset / WINDOW_BYTES);
    const from = offset - number * WINDOW_BYTES;
    const piece = Math.min(size, WINDOW_BYTES - from);
    const window = memory.windows[number];
    if (piece <= BYTEWISE) for (let i = 0; i < piece; i++) into[at + i] = window[from + i];
    else into.set(window.subarray(from, from + piece), at);
    offset += piece;
    at += piece;
    size -= piece;
  }
}

/** `from` at `at`, `size` bytes, into memory[offset, …). */
export function writeDirect(memory: DirectMemory, offset: number, from: Uint8Array, at: number, size: number): void {
  while (size > 0) {
    const number = Math.floor(offset / WINDOW_BYTES);
    const to = offset - number * WINDOW_BYTES;
    const piece = Math.min(size, WINDOW_BYTES - to);
    const window = memory.windows[number];
    if (piece <= BYTEWISE) for (let i = 0; i < piece; i++) window[to + i] = from[at + i];
    else window.set(at === 0 && piece === from.length ? from : from.subarray(at, at + piece), to);
    offset += piece;
    at += piece;
    size -= piece;
  }
}
