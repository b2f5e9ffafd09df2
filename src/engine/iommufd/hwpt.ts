/**
 * A paging domain of the IOMMU over an IOAS (HWPT): the page tables that devices are attached to.
 *
 * @see linux/drivers/iommu/iommufd/hw_pagetable.c, io_pagetable.c
 */

import type { Memory } from '../../abi/memory.ts';
import { VfioError } from '../../base/errno.ts';
import { DirtyPages } from '../../hardware/dirty-pages.ts';
import { IOMMU_UNIT, IommuDomain } from '../../hardware/iommu-domain.ts';
import type { Segment } from '../dma/address-space.ts';
import type { IommuProperties } from '../dma/iommu-properties.ts';
import type { PhysicalMemory } from '../dma/physical-memory.ts';
import type { Area, AreaTables } from './area.ts';
import { AreaList, type Span } from './area-list.ts';
import { DirtyReport, type DirtySink } from './dirty-report.ts';
import type { FaultQueue } from './fault-queue.ts';
import type { Ioas } from './ioas.ts';

export interface HwptOptions {
  readonly ioas: Ioas;
  readonly iommu: IommuProperties;
  /** Made by ATTACH to an IOAS: it goes with its last device. */
  readonly auto: boolean;
  /** IOMMU_HWPT_ALLOC_DIRTY_TRACKING. */
  readonly dirtyTracking?: boolean;
  /** IOMMU_HWPT_ALLOC_PASID: it may be a PASID's, and stand beside those of PASIDs. */
  readonly takesPasids?: boolean;
  /** IOMMU_HWPT_FAULT_ID_VALID: where its devices ask for pages. */
  readonly faults?: FaultQueue | null;
}

/** Pages of one piece of memory, and their physical address. */
interface PhysicalRun extends Span {
  readonly pfn: number;
}

export class Hwpt implements AreaTables {
  readonly kind = 'hwpt';
  readonly ioas: Ioas;
  readonly auto: boolean;
  readonly domain: IommuDomain;
  readonly canTrackDirty: boolean;
  readonly takesPasids: boolean;
  readonly faults: FaultQueue | null;
  /** There is no IOMMU: the addresses of the memory, in order of the I/O addresses. */
  readonly #physical: { readonly memory: PhysicalMemory; readonly runs: AreaList<PhysicalRun> } | null;
  readonly #unit: object;
  #dirty: DirtyPages | null = null;

  constructor({ ioas, iommu, auto, dirtyTracking = false, takesPasids = false, faults = null }: HwptOptions) {
    const { unit, coherent, pageSizes, physical } = iommu;
    this.#physical = physical === undefined ? null : { memory: physical, runs: new AreaList() };
    this.ioas = ioas;
    this.auto = auto;
    this.canTrackDirty = dirtyTracking;
    this.takesPasids = takesPasids;
    this.faults = faults;
    this.#unit = unit;
    this.domain = new IommuDomain({ unit, coherent, enforcesCoherency: iommu.enforcesCoherency ?? false, pageSizes });
  }

  /** The smallest page, in bytes. */
  get pageSize(): bigint {
    return this.domain.pageSizes & -this.domain.pageSizes;
  }

  /** Whether a device behind `iommu` can be attached to it. */
  fits(iommu: IommuProperties): boolean {
    return this.#unit === iommu.unit && this.domain.pageSizes === iommu.pageSizes && this.domain.coherent === iommu.coherent;
  }

  /** Enter a mapping. @throws VfioError as `PinnedPages.pin` */
  fill(area: Area): void {
    const segments = area.pages.pin();
    try {
      this.#enter(area, segments);
    } catch (error) {
      this.#clear(area);
      area.pages.unpin();
      throw error;
    }
  }

  /** Walk over the segments of the pages, from the area's first byte on. */
  #enter(area: Area, segments: readonly Segment[]): void {
    let skip = Number(area.offset);
    let left = Number(area.last - area.first) + 1;
    let pfn = pfnOf(area.first);
    for (const { memory, offset, size } of segments) {
      if (skip >= size) {
        skip -= size;
        continue;
      }
      const bytes = Math.min(size - skip, left);
      const pages = Math.ceil(bytes / IOMMU_UNIT);
      this.domain.map(pfn, pfn + pages - 1, memory, offset + skip, area.access);
      this.#place(pfn, pages, memory, offset + skip);
      pfn += pages;
      left -= bytes;
      skip = 0;
      if (left <= 0) return;
    }
  }

  /** Take a mapping out. */
  empty(area: Area): void {
    this.#clear(area);
    area.pages.unpin();
  }

  #clear(area: Area): void {
    const [firstPfn, lastPfn] = [pfnOf(area.first), pfnOf(area.last)];
    this.domain.unmap(firstPfn, lastPfn);
    this.#dirty?.forget(firstPfn, lastPfn);
    if (this.#physical === null) return;
    const { memory, runs } = this.#physical;
    for (let run = runs.firstIn(area.first, area.last); run !== null; run = runs.firstIn(area.first, area.last)) {
      runs.delete(run);
      memory.remove(run.pfn);
    }
  }

  #place(pfn: number, pages: number, memory: Memory, offset: number): void {
    if (this.#physical === null) return;
    const first = BigInt(pfn) << 12n;
    const last = first + (BigInt(pages) << 12n) - 1n;
    this.#physical.runs.add({ first, last, pfn: this.#physical.memory.place(memory, offset, pages) });
  }

  /** Whether it has physical addresses, because there is no IOMMU. */
  get isPhysical(): boolean {
    return this.#physical !== null;
  }

  /**
   * IOAS_NOIOMMU_GET_PA: the physical address of an I/O address, and the bytes of it that lie
   * together, at most `length`.
   *
   * @throws VfioError ENOENT for an address that is not mapped
   */
  physicalOf(iova: bigint, length: bigint): { readonly address: bigint; readonly length: bigint } {
    const run = this.#physical?.runs.firstIn(iova, iova) ?? null;
    if (run === null) throw new VfioError('ENOENT', `nothing is mapped at 0x${iova.toString(16)}`);
    const left = run.last - iova + 1n;
    return { address: (BigInt(run.pfn) << 12n) + (iova - run.first), length: left < length ? left : length };
  }

  /** `halves` take the place of `area`, whose pages stay locked. */
  split(area: Area, halves: readonly Area[]): void {
    this.#clear(area);
    for (const half of halves) this.fill(half);
    area.pages.unpin();
  }

  /**
   * HWPT_SET_DIRTY_TRACKING: pages that were noted before are noted no more, in both cases.
   *
   * @throws VfioError EOPNOTSUPP for a domain that was made without
   */
  setDirtyTracking(on: boolean): void {
    this.#checkCanTrack();
    this.#dirty = on ? new DirtyPages() : null;
    this.domain.dirty = this.#dirty;
    if (on) this.domain.expireWriteViews();
  }

  /**
   * HWPT_GET_DIRTY_BITMAP: the pages from `iova` on, up to the first address that is not mapped,
   * that devices have written. As in Linux, nothing behind that address is reported.
   *
   * @param bytesOfBit how much of the range one bit stands for: a power of two
   * @param clear forget what was reported, also when `sink` drops it
   * @throws VfioError EOPNOTSUPP for a domain that was made without dirty tracking
   */
  readDirty(iova: bigint, size: bigint, bytesOfBit: number, sink: DirtySink, clear: boolean): void {
    this.#checkCanTrack();
    const end = this.ioas.contiguousFrom(iova, iova + size - 1n);
    if (this.#dirty === null || end === null) return;
    const [first, last] = [pfnOf(iova), pfnOf(end)];
    new DirtyReport(this.#dirty, bytesOfBit, sink).write(first, last);
    if (!clear) return;
    this.#dirty.forget(first, last);
    this.domain.expireWriteViews();
  }

  #checkCanTrack(): void {
    if (this.canTrackDirty) return;
    throw new VfioError('EOPNOTSUPP', 'this domain does not track dirty pages', {
      fix: 'Allocate it with IOMMU_HWPT_ALLOC_DIRTY_TRACKING, behind an IOMMU that can.',
    });
  }
}

function pfnOf(iova: bigint): number {
  return Number(iova >> 12n);
}
