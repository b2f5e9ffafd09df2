/** The agreement between each-fault.test.ts and its program. */

/**
 * IOMMU_VFIO_IOAS, which the client never makes: it begins a round. ENOSPC: there are no more
 * rounds.
 */
export const MARK_REQUEST = 0x3b88;
export const MARK = 'IOMMU_VFIO_IOAS';

export interface Round {
  /** The descriptors and mappings of memory that the process has more than before. */
  readonly left: { readonly descriptors: number; readonly mappings: number };
  /** Null: the story came to its end. */
  readonly error: { readonly code: string; readonly text: string; readonly fix: string } | null;
}
