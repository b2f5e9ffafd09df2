/** Requests to a container and their answers: the type1 ioctls as values. */
import type { IovaRange } from '../../abi/device.ts';
import type { Access, Memory } from '../../abi/memory.ts';
import type { DirtyBitmap } from '../../hardware/dirty-pages.ts';
import type { Process } from './process.ts';

/** VFIO_IOMMU_MAP_DMA. */
export interface MapDma {
  /** The process that maps: its address space resolves `vaddr`, and its account is charged. */
  readonly process: Process;
  readonly vaddr: bigint;
  readonly iova: bigint;
  readonly size: bigint;
  /** `DmaMapFlags` */
  readonly flags: number;
}

/** A mapping that brings its memory with it, as a vfio-user client's does. */
export interface MapMemory {
  /** The process that is charged. */
  readonly process: Process;
  readonly iova: bigint;
  readonly memory: Memory;
  /** First byte of the memory. Default: 0. */
  readonly offset?: number;
  /** Bytes. Default: to the memory's end. */
  readonly size?: number;
  readonly access?: Access;
  /**
   * Whether its pages count as locked. True for direct memory; false for BARs, and for remote
   * memory, of which nothing is pinned here.
   */
  readonly counted?: boolean;
}

/** VFIO_IOMMU_UNMAP_DMA. */
export interface UnmapDma {
  readonly iova: bigint;
  readonly size: bigint;
  /** `DmaUnmapFlags`. Default: 0. */
  readonly flags?: number;
  /** With GET_DIRTY_BITMAP. */
  readonly dirtyBitmap?: DirtyBitmap;
}

/** VFIO_IOMMU_DIRTY_PAGES with GET_BITMAP. */
export interface DirtyRange {
  readonly iova: bigint;
  readonly size: bigint;
  readonly bitmap: DirtyBitmap;
}

/** VFIO_IOMMU_GET_INFO with its capabilities. */
export interface IommuInfo {
  /** Page sizes of all domains, sub-page ones hidden. */
  readonly pageSizes: bigint;
  readonly ranges: readonly IovaRange[];
  /** Mappings that still fit. */
  readonly available: number;
  /** The page size that a dirty bitmap must use, as a bitmap of one bit. */
  readonly pageSizeBitmap: bigint;
  readonly maxDirtyBitmapSize: number;
}

/** One mapping of a container, for display and tests. */
export interface MappingInfo {
  readonly iova: bigint;
  readonly size: bigint;
  readonly access: Access;
  readonly process: Process;
  /** Null when the mapping brought its memory with it. */
  readonly vaddr: bigint | null;
  /** Charged to the process. */
  readonly lockedBytes: number;
  readonly vaddrInvalid: boolean;
}
