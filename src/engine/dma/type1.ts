/**
 * The type1 IOMMU driver: the mappings of one container, the same in every domain that its groups
 * need.
 *
 * The order of the checks is part of the interface: programs look at the first errno (B.6). Type1
 * checks a whole request first, then carries it out, and undoes its steps when a later one fails.
 *
 * Longer than 400 lines because map, unmap and dirty tracking share the order of their checks and
 * the undoing of their steps.
 *
 * @see linux/drivers/vfio/vfio_iommu_type1.c (Linux 7.2)
 */
import { Access } from '../../abi/memory.ts';
import { DIRTY_BITMAP_SIZE_MAX, DirtyFlags, DmaMapFlags, Extension, type Type1Kind } from '../../abi/vfio.ts';
import { checkU64, hex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { IntervalMap } from '../../base/interval-map.ts';
import { checkBitmapData, type DirtyBitmap, DirtyPages } from '../../hardware/dirty-pages.ts';
import { type IommuDomain, LAST_PFN } from '../../hardware/iommu-domain.ts';
import type { EngineContext } from '../context.ts';
import type { Segment } from './address-space.ts';
import { ContainerDomains } from './container-domains.ts';
import type { AttachableGroup } from './iommu-properties.ts';
import { withinRanges } from './iova-ranges.ts';
import { chargeLocked, unchargeLocked } from './locked-memory.ts';
import { MappingTable } from './mapping-table.ts';
import type { Process } from './process.ts';
import { checkBitmapPage, checkBytes, checkDirtyRange, checkFlags, checkMapAligned, checkMapRange, checkUnmap } from './type1-checks.ts';
import type { DirtyRange, IommuInfo, MapDma, MapMemory, MappingInfo, UnmapDma } from './type1-requests.ts';

const MAP_FLAGS = DmaMapFlags.READ | DmaMapFlags.WRITE | DmaMapFlags.VADDR;
const DIRTY_FLAGS = DirtyFlags.START | DirtyFlags.STOP | DirtyFlags.GET_BITMAP;

export class Type1 {
  readonly kind: Type1Kind;
  readonly #context: EngineContext;
  readonly #domains: ContainerDomains;
  readonly #index = new IntervalMap();
  readonly #table = new MappingTable();
  #dirty: DirtyPages | null = null;
  #warned = false;
  /** Linux reads dma_entry_limit when a container gets its IOMMU. */
  readonly #limit: number;

  constructor(context: EngineContext, kind: Type1Kind) {
    this.kind = kind;
    this.#context = context;
    this.#limit = context.params.dmaEntryLimit;
    this.#domains = new ContainerDomains(context);
  }

  /** Mappings now. */
  get size(): number {
    return this.#index.size;
  }

  get domains(): readonly IommuDomain[] {
    return this.#domains.list;
  }

  /** The answer of CHECK_EXTENSION to DMA_CC_IOMMU. */
  get enforcesCoherency(): boolean {
    return this.#domains.enforcesCoherency;
  }

  get dirtyTracking(): boolean {
    return this.#dirty !== null;
  }

  info(): IommuInfo {
    return {
      pageSizes: this.#domains.pageSizes,
      ranges: this.#domains.ranges,
      available: this.#available,
      pageSizeBitmap: this.#domains.pageSize,
      maxDirtyBitmapSize: DIRTY_BITMAP_SIZE_MAX,
    };
  }

  /** Every mapping in order of its address. Do not map or unmap during the walk. */
  *mappings(): Generator<MappingInfo> {
    for (let slot = this.#index.seek(0); slot >= 0; ) {
      const first = this.#index.foundFirst;
      const last = this.#index.foundLast;
      const vaddrPage = this.#table.vaddrPage(slot);
      yield {
        iova: BigInt(first) << 12n,
        size: BigInt(last - first + 1) << 12n,
        access: this.#table.access(slot),
        process: this.#table.process(slot),
        vaddr: vaddrPage < 0 ? null : BigInt(vaddrPage) << 12n,
        lockedBytes: this.#table.lockedBytes(slot),
        vaddrInvalid: this.#table.isInvalid(slot),
      };
      slot = this.#index.seek(last + 1);
    }
  }

  /**
   * Attach `group`: see ContainerDomains.attach.
   *
   * @throws VfioError EBUSY while a mapping's vaddr is invalid: a new domain would need the
   * addresses
   */
  attach(group: AttachableGroup): void {
    if (this.#table.invalid > 0) {
      throw new VfioError('EBUSY', `${this.#table.invalid} mappings have no valid vaddr, so no group can be attached`, {
        fix: 'Give them their new addresses first (MAP_DMA with FLAG_VADDR).',
      });
    }
    const domain = this.#domains.attach(group, (first, last) => {
      if (!this.#index.overlaps(Number(first >> 12n), Number(last >> 12n))) return null;
      return BigInt(this.#index.foundFirst) << 12n;
    });
    domain.dirty = this.#dirty;
  }

  /**
   * Take `group` out. With the last one all mappings go.
   *
   * @returns the bytes that were unmapped
   * @throws VfioError EINVAL when it is not attached
   */
  detach(group: AttachableGroup): bigint {
    let pages = 0;
    this.#domains.detach(group, () => {
      pages = this.#unmapRange(0, LAST_PFN);
    });
    return BigInt(pages) << 12n;
  }

  /**
   * VFIO_IOMMU_MAP_DMA.
   *
   * @throws VfioError in this order: EINVAL flags; EINVAL size 0; EOVERFLOW past 2^64; EINVAL
   * access and VADDR together or neither; EINVAL misaligned; [with VADDR: ENOENT no mapping, EINVAL
   * not invalidated or another range, ENOMEM]; EEXIST; ENOSPC; EINVAL outside the IOVA ranges;
   * EFAULT; ENOMEM
   */
  map(request: MapDma): void {
    const { process } = request;
    const flags = checkFlags('MAP_DMA', request.flags, MAP_FLAGS);
    const iova = checkU64(request.iova, 'iova');
    const vaddr = checkU64(request.vaddr, 'vaddr');
    const size = checkU64(request.size, 'size');
    checkMapRange(this.#context.linux, iova, size, vaddr);
    const access = flags & Access.READ_WRITE;
    const setVaddr = (flags & DmaMapFlags.VADDR) !== 0;
    if (setVaddr === (access !== 0)) {
      throw new VfioError('EINVAL', 'MAP_DMA: give READ, WRITE or both, or VADDR alone');
    }
    checkMapAligned(this.#domains.pageSize, iova, size, vaddr);
    const first = Number(iova >> 12n);
    const last = first + Number(size >> 12n) - 1;
    if (setVaddr) {
      this.#updateVaddr(process, first, last, vaddr);
      return;
    }
    this.#checkFree(iova, size, first, last);
    this.#context.faults.step('type1.map.resolve');
    requireAlive(process);
    const segments = process.pages.resolve(vaddr, size, access as Access);
    this.#insert(process, first, last, Number(vaddr >> 12n), segments, access as Access);
  }

  /**
   * The same for a mapping that brings its memory: no address to resolve, so EFAULT only for memory
   * that is gone or too small.
   *
   * @throws VfioError as `map`
   */
  mapMemory(request: MapMemory): void {
    const { process, memory } = request;
    if (typeof memory?.get !== 'function') throw new VfioError('EFAULT', 'what is to be mapped is no Memory');
    const iova = checkU64(request.iova, 'iova');
    const offset = checkBytes(request.offset ?? 0, 'offset');
    const bytes = checkBytes(request.size ?? memory.size - offset, 'size');
    const access = request.access ?? Access.READ_WRITE;
    if (access !== Access.READ && access !== Access.WRITE && access !== Access.READ_WRITE) {
      throw new VfioError('EINVAL', `access ${String(access)} is neither READ, WRITE nor both`);
    }
    const size = BigInt(bytes);
    checkMapRange(this.#context.linux, iova, size, BigInt(offset));
    checkMapAligned(this.#domains.pageSize, iova, size, BigInt(offset));
    const first = Number(iova >> 12n);
    const last = first + bytes / 4096 - 1;
    this.#checkFree(iova, size, first, last);
    this.#context.faults.step('type1.map.resolve');
    requireAlive(process);
    if (memory.references === 0) throw new VfioError('EFAULT', 'the memory to map has been disposed');
    if (bytes > memory.size - offset) {
      throw new VfioError('EFAULT', `bytes ${offset} to ${offset + bytes} do not lie inside a memory of ${memory.size} bytes`);
    }
    const counted = request.counted ?? memory.kind === 'direct';
    this.#insert(process, first, last, -1, [{ memory, offset, size: bytes, counted }], access);
  }

  /**
   * VFIO_IOMMU_UNMAP_DMA.
   *
   * @returns bytes unmapped: 0 when nothing was there; with TYPE1 (v1) possibly more than asked.
   * When it throws nothing has changed.
   * @throws VfioError EINVAL flags; EINVAL GET_DIRTY with ALL or VADDR, or a bitmap that does not
   * fit; EINVAL misaligned, ALL with a range, size 0; EOVERFLOW past 2^64; EINVAL tracking off;
   * EINVAL (v2) when a mapping would be cut; EINVAL VADDR of what is invalid already
   */
  unmap(request: UnmapDma): bigint {
    const { first, last, all, vaddrOnly, bitmap } = checkUnmap(this.#context.linux, request, this.#domains.pageSize);
    if (bitmap !== null) {
      this.#checkTracking(bitmap);
      this.#context.faults.step('type1.unmap.dirty');
    }
    if (this.kind === Extension.TYPE1v2_IOMMU && !all) this.#checkNotCut('UNMAP_DMA', first, last);
    if (vaddrOnly) return this.#invalidate(first, last);
    if (bitmap !== null) {
      checkBitmapData(bitmap);
      this.#dirty!.report(first, last, Number(this.#domains.pageSize) / 4096, bitmap.data);
    }
    return BigInt(this.#unmapRange(first, last)) << 12n;
  }

  /**
   * VFIO_IOMMU_DIRTY_PAGES. Reports exactly the pages that devices wrote: finer than Linux, which
   * reports whole mappings for PCI devices.
   *
   * @throws VfioError EACCES on TYPE1 (v1); EINVAL unless exactly one flag; for GET_BITMAP: EINVAL
   * bitmap size, page size, misaligned, tracking off or a mapping cut; EOVERFLOW past 2^64; EFAULT
   * when the bitmap is shorter than the caller says
   */
  dirtyPages(flags: number, range?: DirtyRange): void {
    if (this.kind !== Extension.TYPE1v2_IOMMU) {
      throw new VfioError('EACCES', 'dirty page tracking needs TYPE1v2_IOMMU', { fix: 'Set the container to VFIO_TYPE1v2_IOMMU.' });
    }
    checkFlags('DIRTY_PAGES', flags, DIRTY_FLAGS);
    if (flags === 0 || (flags & (flags - 1)) !== 0) {
      throw new VfioError('EINVAL', `DIRTY_PAGES: flags ${hex(flags)}; give one of START, STOP and GET_BITMAP`);
    }
    if (flags === DirtyFlags.START) this.#startTracking();
    else if (flags === DirtyFlags.STOP) this.#stopTracking();
    else this.#getDirty(range);
  }

  get #available(): number {
    return Math.max(0, this.#limit - this.#index.size);
  }

  /** Check overlap, entry limit and ranges, in that order. */
  #checkFree(iova: bigint, size: bigint, first: number, last: number): void {
    if (this.#index.overlaps(first, last)) {
      const at = BigInt(this.#index.foundFirst) << 12n;
      throw new VfioError('EEXIST', `MAP_DMA: ${hex(iova)}+${hex(size)} overlaps the mapping at ${hex(at)}`, { fix: 'Unmap it first.' });
    }
    if (this.#available === 0) {
      const limit = this.#limit;
      throw new VfioError('ENOSPC', `the container has ${this.#index.size} DMA mappings, which is its limit (dma_entry_limit ${limit})`, {
        fix: 'Map larger pieces, unmap what is not used, or raise the parameter dmaEntryLimit.',
      });
    }
    if (!withinRanges(this.#domains.ranges, iova, iova + size - 1n)) {
      const ranges = this.#domains.ranges.map((range) => `${hex(range.first)}-${hex(range.last)}`).join(', ');
      throw new VfioError('EINVAL', `MAP_DMA: ${hex(iova)}+${hex(size)} is not inside one of the usable IOVA ranges: ${ranges}`);
    }
  }

  /** Charge, map in every domain, and record: all of it, or nothing. */
  #insert(process: Process, first: number, last: number, vaddrPage: number, segments: readonly Segment[], access: Access): void {
    const { faults } = this.#context;
    let lockedBytes = 0;
    for (const segment of segments) if (segment.counted) lockedBytes += segment.size;
    try {
      faults.step('type1.map.charge');
      chargeLocked(process, lockedBytes);
    } catch (error) {
      if (error instanceof VfioError && error.code === 'ENOMEM') this.#context.events.note('warn', 'memlock', `MAP_DMA: ${error.message}`);
      throw error;
    }
    try {
      for (const domain of this.#domains.list) {
        let at = first;
        for (const segment of segments) {
          faults.step('type1.map.domain');
          const end = at + segment.size / 4096;
          domain.map(at, end - 1, segment.memory, segment.offset, access);
          at = end;
        }
      }
      faults.step('type1.map.record');
    } catch (error) {
      for (const domain of this.#domains.list) domain.unmap(first, last);
      unchargeLocked(process, lockedBytes);
      throw error;
    }
    this.#index.insert(first, last, this.#table.add(process, access, lockedBytes, vaddrPage));
    this.#warnNearLimit();
  }

  /** Linux logs nothing before ENOSPC; the engine warns. */
  #warnNearLimit(): void {
    const limit = this.#limit;
    const used = this.#index.size;
    if (used < 0.9 * limit) this.#warned = false;
    else if (!this.#warned) {
      this.#warned = true;
      this.#context.events.note(
        'warn',
        'dma-entry-limit',
        `the container has ${used} of at most ${limit} DMA mappings; ${limit - used} are left`,
      );
    }
  }

  #updateVaddr(process: Process, first: number, last: number, vaddr: bigint): void {
    const at = hex(BigInt(first) << 12n);
    const slot = this.#index.seek(first);
    if (slot < 0 || this.#index.foundFirst > last)
      throw new VfioError('ENOENT', `MAP_DMA: there is no mapping at ${at} whose vaddr could change`);
    if (!this.#table.isInvalid(slot) || this.#index.foundFirst !== first || this.#index.foundLast !== last) {
      throw new VfioError('EINVAL', `MAP_DMA: the mapping at ${at} was not invalidated, or has another iova or size`);
    }
    const before = this.#table.process(slot);
    if (before !== process) {
      const lockedBytes = this.#table.lockedBytes(slot);
      this.#context.faults.step('type1.vaddr.charge');
      chargeLocked(process, lockedBytes);
      unchargeLocked(before, lockedBytes);
      this.#table.setOwner(slot, process);
    }
    this.#table.setVaddrPage(slot, Number(vaddr >> 12n));
    this.#table.setInvalid(slot, false);
  }

  #invalidate(first: number, last: number): bigint {
    const index = this.#index;
    for (let slot = this.#firstIn(first); slot >= 0 && index.foundFirst <= last; slot = index.seek(index.foundLast + 1)) {
      if (this.#table.isInvalid(slot)) {
        throw new VfioError('EINVAL', `UNMAP_DMA: the vaddr of the mapping at ${hex(BigInt(index.foundFirst) << 12n)} is invalid already`);
      }
    }
    let pages = 0;
    for (let slot = this.#firstIn(first); slot >= 0 && index.foundFirst <= last; slot = index.seek(index.foundLast + 1)) {
      this.#table.setInvalid(slot, true);
      pages += index.foundLast - index.foundFirst + 1;
    }
    return BigInt(pages) << 12n;
  }

  /** The start of a walk from `first`. v1 stops at once at a mapping that begins before `first`. */
  #firstIn(first: number): number {
    const slot = this.#index.seek(first);
    return this.kind === Extension.TYPE1_IOMMU && slot >= 0 && this.#index.foundFirst < first ? -1 : slot;
  }

  /** Unmap the mappings that start in [first, last]; returns the pages unmapped. Cannot fail. */
  #unmapRange(first: number, last: number): number {
    const index = this.#index;
    let pages = 0;
    for (let slot = this.#firstIn(first); slot >= 0 && index.foundFirst <= last; ) {
      const start = index.foundFirst;
      const end = index.foundLast;
      for (const domain of this.#domains.list) domain.unmap(start, end);
      this.#dirty?.forget(start, end);
      unchargeLocked(this.#table.process(slot), this.#table.lockedBytes(slot));
      this.#table.remove(slot);
      index.remove(start);
      pages += end - start + 1;
      slot = index.seek(end + 1);
    }
    return pages;
  }

  /** v2: neither end of the range may lie inside a mapping. */
  #checkNotCut(what: string, first: number, last: number): void {
    const index = this.#index;
    if ((index.find(first) >= 0 && index.foundFirst !== first) || (index.find(last) >= 0 && index.foundLast !== last)) {
      const size = BigInt(index.foundLast - index.foundFirst + 1) << 12n;
      throw new VfioError('EINVAL', `${what} would cut the mapping at ${hex(BigInt(index.foundFirst) << 12n)}+${hex(size)} in two`, {
        fix: 'Name whole mappings; a mapping cannot be unmapped in part.',
      });
    }
  }

  #checkTracking(bitmap: DirtyBitmap): void {
    if (this.#dirty === null) throw new VfioError('EINVAL', 'dirty tracking is off', { fix: 'Start it with DIRTY_PAGES and FLAG_START.' });
    checkBitmapPage(bitmap, this.#domains.pageSize);
  }

  #startTracking(): void {
    if (this.#dirty !== null) return;
    this.#context.faults.step('type1.dirty.start');
    this.#dirty = new DirtyPages();
    for (const domain of this.#domains.list) {
      domain.dirty = this.#dirty;
      domain.expireWriteViews();
    }
  }

  #stopTracking(): void {
    this.#dirty = null;
    for (const domain of this.#domains.list) domain.dirty = null;
  }

  #getDirty(range: DirtyRange | undefined): void {
    if (range === undefined) throw new VfioError('EINVAL', 'DIRTY_PAGES: GET_BITMAP needs a range and a bitmap');
    const { first, last } = checkDirtyRange(this.#context.linux, range, this.#domains.pageSize);
    this.#checkTracking(range.bitmap);
    this.#checkNotCut('DIRTY_PAGES', first, last);
    checkBitmapData(range.bitmap);
    this.#dirty!.report(first, last, Number(this.#domains.pageSize) / 4096, range.bitmap.data);
    this.#dirty!.forget(first, last);
    // Writes through a view taken before now would not be marked again.
    for (const domain of this.#domains.list) domain.expireWriteViews();
  }
}

function requireAlive(process: Process): void {
  if (!process.alive) throw new VfioError('ESRCH', `process ${process.pid} has exited`);
}
