/**
 * The memory that a device may touch, as its client has mapped it now: the memories, their pages,
 * and the changes since the pages were sent. Memory that is mapped at several addresses is one
 * memory, at the source and at the destination.
 */
import type { Access, DirectMemory, Memory } from '../../abi/memory.ts';
import { WINDOW_BYTES } from '../../abi/memory.ts';
import { bitmapBytes, DMA_LOGGING_MAX_RANGES } from '../../abi/vfio.ts';
import { hex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import type { LoggedRange, Migration } from '../../drivers/kit/migration.ts';
import type { IommuDomain } from '../../hardware/iommu-domain.ts';
import { Extent } from './extent.ts';
import { type Mapping, PAGE } from './wire.ts';

const LAST_PFN = 2 ** 52 - 1;
const WINDOW_PAGES = WINDOW_BYTES / PAGE;

/** Pages of a memory, without the page `end`. */
interface Span {
  readonly first: number;
  readonly end: number;
}

interface Entry extends Span {
  readonly iova: bigint;
  readonly memory: DirectMemory;
  readonly access: Access;
}

export class MemoryImage implements Disposable {
  readonly extents: Extent[] = [];
  /** The present mappings, in order of addresses. */
  mappings: readonly Mapping[] = [];
  readonly #domain: IommuDomain;
  /**
   * The extents of each memory, in order of pages. Each is held until the end, because the client
   * may unmap its memory during the move.
   */
  readonly #byMemory = new Map<Memory, Extent[]>();
  /** Counts of the domain at the last look: an unmap changes the first, a map the second. */
  #epoch = -1;
  #size = -1;

  constructor(domain: IommuDomain) {
    this.#domain = domain;
  }

  /**
   * Look at the mappings again.
   *
   * @returns the extents that are new
   * @throws VfioError EOPNOTSUPP for memory that is reached by messages
   */
  refresh(): readonly Extent[] {
    if (this.#isCurrent) return [];
    const before = this.extents.length;
    const entries = this.#entries();
    this.#epoch = this.#domain.epoch;
    this.#size = this.#domain.size;
    const spans = new Map<DirectMemory, Span[]>();
    for (const entry of entries) {
      const known = spans.get(entry.memory);
      if (known === undefined) spans.set(entry.memory, [entry]);
      else known.push(entry);
    }
    for (const [memory, some] of spans) this.#cover(memory, joined(some));
    for (const extent of this.extents) extent.live = false;
    this.mappings = entries.flatMap((entry) => this.#pieces(entry));
    for (const { extent } of this.mappings) this.extents[extent]!.live = true;
    return this.extents.slice(before);
  }

  get #isCurrent(): boolean {
    return this.#domain.epoch === this.#epoch && this.#domain.size === this.#size;
  }

  #entries(): Entry[] {
    const entries: Entry[] = [];
    this.#domain.forEach(0, LAST_PFN, (firstPfn, lastPfn, memory, offset, access) => {
      const iova = BigInt(firstPfn) << 12n;
      if (memory.kind !== 'direct') {
        throw new VfioError('EOPNOTSUPP', `the memory at ${hex(iova)} is not shared but reached by messages, and cannot be moved`, {
          fix: 'Use a client that shares its memory: QEMU with memory-backend-memfd,share=on.',
        });
      }
      const first = offset / PAGE;
      entries.push({ iova, memory, access, first, end: first + lastPfn + 1 - firstPfn });
    });
    return entries;
  }

  /** Make extents for memory that has none. */
  #cover(memory: DirectMemory, spans: readonly Span[]): void {
    let known = this.#byMemory.get(memory);
    if (known === undefined) {
      known = [];
      this.#byMemory.set(memory.get() as DirectMemory, known);
    }
    const had = [...known];
    for (const { first, end } of spans) {
      let at = first;
      for (const extent of had) {
        if (extent.firstPage >= end) break;
        if (extent.firstPage > at) this.#add(memory, known, at, Math.min(extent.firstPage, end));
        at = Math.max(at, extent.firstPage + extent.pages);
      }
      if (at < end) this.#add(memory, known, at, end);
    }
    known.sort((a, b) => a.firstPage - b.firstPage);
  }

  #add(memory: DirectMemory, known: Extent[], first: number, end: number): void {
    for (let at = first; at < end; ) {
      const to = Math.min(end, (Math.floor(at / WINDOW_PAGES) + 1) * WINDOW_PAGES);
      const extent = new Extent(this.extents.length, memory, at, to - at);
      this.extents.push(extent);
      known.push(extent);
      at = to;
    }
  }

  /** A mapping, cut where its memory passes from one extent to the next. */
  #pieces({ iova, memory, access, first, end }: Entry): Mapping[] {
    const extents = this.#byMemory.get(memory)!;
    let low = 0;
    for (let high = extents.length; low < high; ) {
      const middle = (low + high) >>> 1;
      if (extents[middle]!.firstPage + extents[middle]!.pages <= first) low = middle + 1;
      else high = middle;
    }
    const pieces: Mapping[] = [];
    for (let at = first; at < end; low++) {
      const extent = extents[low]!;
      const to = Math.min(end, extent.firstPage + extent.pages);
      const place = { iova: iova + BigInt(at - first) * BigInt(PAGE), size: (to - at) * PAGE };
      pieces.push({ ...place, extent: extent.number, page: at - extent.firstPage, access });
      at = to;
    }
    return pieces;
  }

  /**
   * Mark the pages that the device has written since the last call, by the device's own log.
   *
   * @throws VfioError when the writes are not logged
   */
  noteDeviceWrites(migration: Migration): void {
    const current = this.#isCurrent;
    for (const { iova, size, extent, page } of this.mappings) {
      // No number can express a length that ends after the last byte of the address space.
      if (iova + BigInt(size) > LAST_BYTE) continue;
      const bitmap = new Uint8Array(bitmapBytes(BigInt(size)));
      migration.report(iova, BigInt(size), bitmap);
      this.extents[extent]!.note(bitmap, page, size / PAGE);
    }
    // A report ends the device's cached translations. The domain counts that as an unmap.
    if (current) this.#epoch = this.#domain.epoch;
  }

  /**
   * Mark all pages that differ from the copy that was sent.
   *
   * @param between runs from time to time, unless the other work has to wait
   * @returns ms of work
   */
  async scan(between: (() => Promise<void>) | null): Promise<number> {
    let spent = 0;
    for (const extent of this.extents) {
      if (!extent.live) {
        extent.forgetMarks();
        continue;
      }
      for (const ms of between === null ? extent.scan(65_536) : extent.scan()) {
        spent += ms;
        if (between !== null) await between();
      }
    }
    return spent;
  }

  get changedPages(): number {
    return this.extents.reduce((sum, extent) => sum + (extent.live ? extent.changedPages : 0), 0);
  }

  /** Releases all memories. */
  [Symbol.dispose](): void {
    for (const memory of this.#byMemory.keys()) memory.put();
    this.#byMemory.clear();
  }
}

/** The ranges in order; ranges that touch become one. */
function joined(spans: readonly Span[]): Span[] {
  const all: { first: number; end: number }[] = [];
  for (const { first, end } of [...spans].sort((a, b) => a.first - b.first)) {
    const last = all.at(-1);
    if (last !== undefined && first <= last.end) last.end = Math.max(last.end, end);
    else all.push({ first, end });
  }
  return all;
}

/**
 * The mappings as ranges for DMA_LOGGING_START, which takes at most 256: the ranges that lie
 * closest together become one.
 */
export function rangesToLog(mappings: readonly Mapping[], most = DMA_LOGGING_MAX_RANGES): LoggedRange[] {
  const all: { first: bigint; end: bigint }[] = [];
  for (const { iova, size } of mappings) {
    const last = all.at(-1);
    if (last !== undefined && last.end === iova) last.end += BigInt(size);
    else all.push({ first: iova, end: iova + BigInt(size) });
  }
  if (all.length > most) {
    const gaps = all.slice(1).map(({ first }, i) => ({ i: i + 1, gap: first - all[i]!.end }));
    const kept = new Set(
      gaps
        .sort((a, b) => (a.gap > b.gap ? -1 : 1))
        .slice(0, most - 1)
        .map(({ i }) => i),
    );
    const ranges: { first: bigint; end: bigint }[] = [];
    all.forEach((range, i) => {
      if (i === 0 || kept.has(i)) ranges.push({ ...range });
      else ranges.at(-1)!.end = range.end;
    });
    all.splice(0, all.length, ...ranges);
  }
  // The log cannot cover the last page, as above. The hash of the page shows its changes.
  return all
    .map(({ first, end }) => ({ iova: first, length: (end > LAST_BYTE ? LAST_BYTE - 4095n : end) - first }))
    .filter(({ length }) => length > 0n);
}

const LAST_BYTE = 2n ** 64n - 1n;
