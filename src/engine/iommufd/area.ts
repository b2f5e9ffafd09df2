/**
 * One mapping of an IOAS, and the port of what holds mappings: the page tables of a domain.
 *
 * @see linux/drivers/iommu/iommufd/io_pagetable.h, struct iopt_area
 */
import type { Access } from '../../abi/memory.ts';
import type { Span } from './area-list.ts';
import type { PinnedPages } from './pinned-pages.ts';

/** One mapping, or a part of one that was copied. */
export interface Area extends Span {
  readonly pages: PinnedPages;
  /** The first byte, from the start of the first page of `pages`. */
  readonly offset: bigint;
  readonly access: Access;
  /** Objects that keep it from being unmapped. */
  locks: number;
}

/** A part of a mapping, for another one. */
export interface AreaPart {
  readonly pages: PinnedPages;
  readonly offset: bigint;
  readonly size: bigint;
}

/** Page tables that have all mappings of an IOAS. */
export interface AreaTables {
  /** The smallest page, in bytes. */
  readonly pageSize: bigint;
  /** Enter a mapping. @throws VfioError as `PinnedPages.pin` */
  fill(area: Area): void;
  /** Take a mapping out. */
  empty(area: Area): void;
  /** `halves` take the place of `area`, whose pages stay locked. */
  split(area: Area, halves: readonly Area[]): void;
}
