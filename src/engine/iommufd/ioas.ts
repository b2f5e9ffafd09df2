/**
 * An I/O address space: the mappings that every domain over it has. It has areas before it has a
 * domain; then addresses may be any, and memory is looked up only when a device is attached.
 *
 * Longer than 400 lines because mapping, copying and unmapping share the rules about addresses, and
 * their order is part of the interface.
 *
 * @see linux/drivers/iommu/iommufd/io_pagetable.c, ioas.c
 */
import { Access } from '../../abi/memory.ts';
import { hex, U64_MAX } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import type { IommuProperties } from '../dma/iommu-properties.ts';
import { blockingRegions } from '../dma/iova-ranges.ts';
import type { Area, AreaPart, AreaTables } from './area.ts';
import { AreaList, type Span } from './area-list.ts';
import type { PinnedPages } from './pinned-pages.ts';

const PAGE = 4096n;
/** The largest alignment that a picked address gets: that of a huge page (HPAGE_SIZE of x86-64). */
const PICK_ALIGNMENT_MAX = 2n ** 21n;

/** How much an unmap has done. */
export interface Unmapped {
  bytes: bigint;
}

/** Addresses that a device cannot use. */
interface Reserved extends Span {
  readonly owner: object;
}

export class Ioas {
  readonly kind = 'ioas';
  readonly #areas = new AreaList<Area>();
  /** The ranges of ALLOW_IOVAS, in order; empty: all are. */
  #allowed: readonly Span[] = [];
  #reserved: Reserved[] = [];
  /** The domains over it. */
  readonly #domains = new Set<AreaTables>();
  /** IOMMU_OPTION_HUGE_PAGES. */
  #hugePages = true;

  /** Mappings now. */
  get size(): number {
    return this.#areas.size;
  }

  get domains(): ReadonlySet<AreaTables> {
    return this.#domains;
  }

  /** The alignment of addresses, lengths and memory: 1 while there is no domain. */
  get alignment(): bigint {
    let alignment = 1n;
    for (const { pageSize } of this.#domains) if (pageSize > alignment) alignment = pageSize;
    return alignment;
  }

  get hugePages(): boolean {
    return this.#hugePages;
  }

  /** @throws VfioError EINVAL to forbid them while there are mappings and a domain */
  set hugePages(wanted: boolean) {
    if (!wanted && this.#hugePages && this.#areas.size > 0 && this.#domains.size > 0) {
      throw new VfioError('EINVAL', 'huge pages cannot be forbidden while something is mapped in an IOAS with a device', {
        fix: 'Set the option before mapping.',
      });
    }
    this.#hugePages = wanted;
  }

  // ---- Addresses

  /** The ranges that can be mapped, in order (IOAS_IOVA_RANGES). */
  ranges(): readonly Span[] {
    const ranges: Span[] = [];
    let next = 0n;
    for (const { first, last } of this.#reservedInOrder()) {
      if (first > next) ranges.push({ first: next, last: first - 1n });
      if (last >= next) next = last + 1n;
    }
    if (next <= U64_MAX) ranges.push({ first: next, last: U64_MAX });
    return ranges;
  }

  /**
   * Addresses that the kernel may pick from now on (IOAS_ALLOW_IOVAS).
   *
   * @throws VfioError EINVAL for a range that is empty or overlaps another; EADDRINUSE over a
   * reserved one
   */
  allow(ranges: readonly Span[]): void {
    const sorted = [...ranges].sort((a, b) => (a.first < b.first ? -1 : 1));
    for (const [i, { first, last }] of sorted.entries()) {
      if (first >= last) throw new VfioError('EINVAL', `the range ${hex(first)}-${hex(last)} has no addresses`);
      const before = sorted[i - 1];
      if (before !== undefined && before.last >= first) throw new VfioError('EINVAL', `the range at ${hex(first)} overlaps another one`);
    }
    for (const range of sorted) this.#checkNotReserved(range, this.#reserved);
    this.#allowed = sorted;
  }

  #checkNotReserved({ first, last }: Span, reserved: readonly Span[]): void {
    const hit = reserved.find((window) => window.first <= last && window.last >= first);
    if (hit !== undefined) {
      throw new VfioError(
        'EADDRINUSE',
        `${hex(first)}-${hex(last)} has addresses that a device reserves, ${hex(hit.first)}-${hex(hit.last)}`,
      );
    }
  }

  #reservedInOrder(): readonly Reserved[] {
    return [...this.#reserved].sort((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0));
  }

  /**
   * A device comes: its IOMMU and its firmware reserve addresses.
   *
   * @throws VfioError EADDRINUSE when one of them is mapped, or allowed. Nothing has changed then.
   */
  reserveFor(owner: object, iommu: IommuProperties): void {
    const windows: Span[] = [...blockingRegions(iommu)];
    if (iommu.apertureFirst > 0n) windows.push({ first: 0n, last: iommu.apertureFirst - 1n });
    if (iommu.apertureLast < U64_MAX) windows.push({ first: iommu.apertureLast + 1n, last: U64_MAX });
    for (const range of this.#allowed) this.#checkNotReserved(range, windows);
    for (const { first, last } of windows) {
      const area = this.#areas.firstIn(first, last);
      if (area === null) continue;
      throw new VfioError(
        'EADDRINUSE',
        `the mapping at ${hex(area.first)} has addresses that the device reserves, ${hex(first)}-${hex(last)}`,
        {
          fix: 'Attach the device before mapping, and keep to the ranges of IOAS_IOVA_RANGES.',
        },
      );
    }
    for (const { first, last } of windows) this.#reserved.push({ first, last, owner });
  }

  /** The device has gone. */
  unreserve(owner: object): void {
    this.#reserved = this.#reserved.filter((window) => window.owner !== owner);
  }

  // ---- Domains

  /**
   * A domain that gets all mappings, now and later.
   *
   * @throws VfioError EADDRINUSE for a mapping that its pages cannot hold; the errors of looking up
   * and locking memory. Nothing has changed then.
   */
  addDomain(hwpt: AreaTables): void {
    if (hwpt.pageSize > this.alignment) this.#checkAligned(hwpt.pageSize);
    const done: Area[] = [];
    try {
      for (const area of this.#areas) {
        hwpt.fill(area);
        done.push(area);
      }
    } catch (error) {
      for (const area of done) hwpt.empty(area);
      throw error;
    }
    this.#domains.add(hwpt);
  }

  #checkAligned(pageSize: bigint): void {
    for (const { first, last, offset } of this.#areas) {
      if (((first | (last + 1n) | offset) & (pageSize - 1n)) !== 0n) {
        throw new VfioError(
          'EADDRINUSE',
          `the mapping at ${hex(first)} does not begin and end at multiples of ${pageSize}, as the IOMMU needs`,
        );
      }
    }
  }

  /** The domain has gone: memory that no other one needs is unlocked. */
  removeDomain(hwpt: AreaTables): void {
    if (!this.#domains.delete(hwpt)) return;
    for (const area of this.#areas) hwpt.empty(area);
  }

  // ---- Mappings

  /**
   * IOAS_MAP, IOAS_MAP_FILE: map all of `pages`.
   *
   * @param iova null: the kernel picks it
   * @returns the address
   * @throws VfioError EINVAL for addresses that are misaligned or reserved; EOVERFLOW past 2^64;
   * EEXIST; ENOSPC when there is no room to pick from; EFAULT, ENOMEM
   */
  map(pages: PinnedPages, iova: bigint | null, access: Access): bigint {
    const part = { pages, offset: BigInt(pages.firstByte), size: pages.size };
    return this.#mapParts([part], pages.size, iova, access, pickFrom(pages));
  }

  /**
   * IOAS_COPY: map parts of mappings, which `parts` of the other IOAS gave.
   *
   * @throws VfioError as `map`; EPERM for more access than the mapping has
   */
  mapCopy(parts: readonly AreaPart[], iova: bigint | null, access: Access): bigint {
    const size = parts.reduce((sum, part) => sum + part.size, 0n);
    return this.#mapParts(parts, size, iova, access, parts[0]!.offset);
  }

  /**
   * The parts of mappings that fill [iova, iova+size) without a hole.
   *
   * @throws VfioError EINVAL for no bytes; EOVERFLOW; ENOENT where something is not mapped
   */
  parts(iova: bigint, size: bigint): readonly AreaPart[] {
    const last = lastOf(iova, size);
    const parts: AreaPart[] = [];
    for (let at = iova; at <= last; ) {
      const area = this.#areas.firstIn(at, at);
      if (area === null) throw new VfioError('ENOENT', `nothing is mapped at ${hex(at)}`);
      const end = area.last < last ? area.last : last;
      parts.push({ pages: area.pages, offset: area.offset + (at - area.first), size: end - at + 1n });
      at = end + 1n;
    }
    return parts;
  }

  #mapParts(parts: readonly AreaPart[], size: bigint, wanted: bigint | null, access: Access, hint: bigint): bigint {
    const iova = wanted ?? this.#pick(size, hint);
    this.#check(iova, size);
    const made: Area[] = [];
    try {
      let at = iova;
      for (const { pages, offset, size: bytes } of parts) {
        if ((access & Access.WRITE) !== 0 && !pages.writable) {
          throw new VfioError('EPERM', 'the mapping that is copied may not be written', {
            fix: 'Copy it without IOMMU_IOAS_MAP_WRITEABLE.',
          });
        }
        if ((offset & (this.alignment - 1n)) !== 0n) throw this.#misaligned('the memory', offset);
        const area: Area = { first: at, last: at + bytes - 1n, pages, offset, access, locks: 0 };
        this.#fill(area);
        this.#areas.add(area);
        pages.get();
        made.push(area);
        at += bytes;
      }
    } catch (error) {
      for (const area of made) this.#remove(area);
      throw error;
    }
    return iova;
  }

  #fill(area: Area): void {
    const done: AreaTables[] = [];
    try {
      for (const hwpt of this.#domains) {
        hwpt.fill(area);
        done.push(hwpt);
      }
    } catch (error) {
      for (const hwpt of done) hwpt.empty(area);
      throw error;
    }
  }

  #remove(area: Area): void {
    for (const hwpt of this.#domains) hwpt.empty(area);
    this.#areas.delete(area);
    area.pages.put();
  }

  #misaligned(what: string, value: bigint): VfioError {
    return new VfioError('EINVAL', `${what}, ${hex(value)}, is no multiple of ${this.alignment}`);
  }

  /** @see iopt_check_iova(): alignment, wrap, reserved, taken, in that order */
  #check(iova: bigint, size: bigint): void {
    const { alignment } = this;
    if (((iova | size) & (alignment - 1n)) !== 0n) throw this.#misaligned('the address or the length', iova | size);
    const last = lastOf(iova, size);
    const reserved = this.#reserved.find((window) => window.first <= last && window.last >= iova);
    if (reserved !== undefined) {
      throw new VfioError(
        'EINVAL',
        `${hex(iova)}+${hex(size)} has addresses that a device reserves, ${hex(reserved.first)}-${hex(reserved.last)}`,
        {
          fix: 'Keep to the ranges of IOAS_IOVA_RANGES.',
        },
      );
    }
    const area = this.#areas.firstIn(iova, last);
    if (area !== null)
      throw new VfioError('EEXIST', `${hex(iova)}+${hex(size)} overlaps the mapping at ${hex(area.first)}`, { fix: 'Unmap it first.' });
  }

  /**
   * The lowest address with room for `size` bytes. It keeps the alignment of the memory, so that
   * huge pages fit.
   *
   * @see iopt_alloc_iova()
   */
  #pick(size: bigint, hint: bigint): bigint {
    if (size === 0n) throw new VfioError('EINVAL', 'a mapping of no bytes');
    if (size >= U64_MAX / 2n) throw new VfioError('EOVERFLOW', `${hex(size)} bytes are more than an address space holds`);
    const inPage = hint % PAGE;
    let alignment = powerOfTwoFrom(size);
    if (hint !== 0n && (hint & -hint) < alignment) alignment = hint & -hint;
    if (alignment > PICK_ALIGNMENT_MAX) alignment = PICK_ALIGNMENT_MAX;
    if (alignment < this.alignment) throw this.#misaligned('the memory', hint);
    const allowed = this.#allowed.length > 0 ? this.#allowed : [{ first: PAGE, last: U64_MAX - PAGE }];
    for (const range of allowed) {
      const found = this.#pickIn(range, size, alignment, inPage);
      if (found !== null) return found;
    }
    throw new VfioError('ENOSPC', `there is no room for ${hex(size)} bytes in the addresses that are allowed`);
  }

  #pickIn({ first, last }: Span, size: bigint, alignment: bigint, inPage: bigint): bigint | null {
    const reserved = this.#reservedInOrder();
    let at = first;
    for (;;) {
      const aligned = ((at + alignment - 1n) / alignment) * alignment;
      const start = aligned % PAGE === 0n ? aligned + inPage : aligned;
      const end = start + size - 1n;
      if (end > last) return null;
      const window = reserved.find((one) => one.first <= end && one.last >= start);
      const taken = window ?? this.#areas.firstIn(start, end);
      if (taken === null) return start;
      at = taken.last + 1n;
    }
  }

  /**
   * IOAS_UNMAP of a range: only whole mappings go.
   *
   * @param done gets the bytes unmapped, 0 when nothing was there, also when it fails
   * @throws VfioError EINVAL for no bytes; EOVERFLOW; ENOENT for a mapping that would be cut, EBUSY
   * for one that is in use. Mappings before that one have gone.
   */
  unmap(iova: bigint, size: bigint, done: Unmapped): void {
    done.bytes = 0n;
    this.#unmapRange(iova, lastOf(iova, size), done);
  }

  /** All of them. @throws VfioError EBUSY for one that is in use */
  unmapAll(done: Unmapped): void {
    done.bytes = 0n;
    this.#unmapRange(0n, U64_MAX, done);
  }

  /** Whether a mapping lies partly inside [first, last]. */
  wouldCut(first: bigint, last: bigint): boolean {
    const [low, high] = [this.#areas.firstIn(first, first), this.#areas.firstIn(last, last)];
    return (low !== null && (low.first < first || low.last > last)) || (high !== null && (high.last > last || high.first < first));
  }

  #unmapRange(first: bigint, last: bigint, done: Unmapped): void {
    for (let area = this.#areas.firstIn(first, last); area !== null; area = this.#areas.firstIn(first, last)) {
      if (area.locks > 0) throw new VfioError('EBUSY', `the mapping at ${hex(area.first)} is in use by the IOMMU`);
      if (area.first < first || area.last > last) {
        throw new VfioError('ENOENT', `the range would cut the mapping at ${hex(area.first)}-${hex(area.last)} in two`, {
          fix: 'Name whole mappings.',
        });
      }
      this.#remove(area);
      done.bytes += area.last - area.first + 1n;
    }
  }

  /**
   * Cut mappings at `first` and behind `last`, so that no mapping crosses them (VFIO_TYPE1_IOMMU).
   *
   * @see iopt_cut_iova(), iopt_area_split()
   */
  cut(first: bigint, last: bigint): void {
    if (first > 0n) this.#cutAt(first);
    if (last < U64_MAX) this.#cutAt(last + 1n);
  }

  #cutAt(point: bigint): void {
    const area = this.#areas.firstIn(point, point);
    if (area === null || area.first === point) return;
    const { first, last, pages, offset, access } = area;
    if (((point | (offset + point - first)) & (this.alignment - 1n)) !== 0n) throw this.#misaligned('the place of the cut', point);
    const halves: Area[] = [
      { first, last: point - 1n, pages, offset, access, locks: 0 },
      { first: point, last, pages, offset: offset + (point - first), access, locks: 0 },
    ];
    // The halves first: the pages stay locked.
    const before = [...this.#domains];
    for (const hwpt of before) hwpt.split(area, halves);
    this.#areas.delete(area);
    for (const half of halves) this.#areas.add(half);
    // One area more.
    pages.get();
  }

  /** The memory of every mapping, each once. */
  pages(): ReadonlySet<PinnedPages> {
    const all = new Set<PinnedPages>();
    for (const { pages } of this.#areas) all.add(pages);
    return all;
  }

  /**
   * The last address up to `last` that is mapped without a hole from `iova` on; null when `iova` is
   * not.
   */
  contiguousFrom(iova: bigint, last: bigint): bigint | null {
    let end: bigint | null = null;
    for (let at = iova; at <= last; at = end + 1n) {
      const area = this.#areas.firstIn(at, at);
      if (area === null) break;
      end = area.last < last ? area.last : last;
    }
    return end;
  }

  /** The IOAS goes, with its mappings. */
  clear(): void {
    for (let area = this.#areas.firstIn(0n, U64_MAX); area !== null; area = this.#areas.firstIn(0n, U64_MAX)) this.#remove(area);
  }
}

/** Of the memory of a mapping, for the alignment of an address that is picked. */
function pickFrom({ source }: PinnedPages): bigint {
  return source.kind === 'address' ? source.vaddr : BigInt(source.offset);
}

/** @throws VfioError EINVAL for no bytes; EOVERFLOW past 2^64 */
function lastOf(iova: bigint, size: bigint): bigint {
  if (size === 0n) throw new VfioError('EINVAL', 'a range of no bytes');
  const last = iova + size - 1n;
  if (last > U64_MAX) throw new VfioError('EOVERFLOW', `${hex(iova)}+${hex(size)} goes past the end of the address space`);
  return last;
}

function powerOfTwoFrom(size: bigint): bigint {
  let power = 1n;
  while (power < size) power <<= 1n;
  return power;
}
