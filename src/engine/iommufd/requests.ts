/** Requests of an iommufd, as `Iommufd` takes them, and its longer answers. */
import type { Access } from '../../abi/memory.ts';
import type { Process } from '../dma/process.ts';
import type { DirtySink } from './dirty-report.ts';
import type { PagesSource } from './pinned-pages.ts';

/** IOAS_MAP and IOAS_MAP_FILE. */
export interface IoasMapRequest {
  readonly ioas: number;
  readonly process: Process;
  /** `IoasMapFlags`. */
  readonly flags: number;
  readonly source: PagesSource;
  readonly length: bigint;
  /** With FIXED_IOVA. */
  readonly iova: bigint;
}

/** IOAS_COPY. */
export interface IoasCopyRequest {
  readonly flags: number;
  readonly destination: number;
  readonly source: number;
  readonly length: bigint;
  readonly destinationIova: bigint;
  readonly sourceIova: bigint;
}

/** HWPT_GET_DIRTY_BITMAP. */
export interface HwptDirtyRequest {
  readonly hwpt: number;
  readonly iova: bigint;
  readonly length: bigint;
  /** Bytes that one bit stands for. */
  readonly pageSize: bigint;
  readonly sink: DirtySink;
  /** IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR. */
  readonly keep: boolean;
}

/** HWPT_ALLOC. */
export interface HwptAllocRequest {
  /** `IommuHwptAllocFlags`. */
  readonly flags: number;
  readonly device: number;
  /** An IOAS, or a domain. */
  readonly pt: number;
  readonly dataType: number;
  readonly faultQueue: number;
}

/** The answer of GET_HW_INFO. */
export interface HwInfo {
  readonly type: number;
  readonly data: Uint8Array;
  readonly capabilities: bigint;
  readonly pasidBits: number;
}

/** A mapping into an address space that is found already. */
export interface MapIntoRequest {
  readonly process: Process;
  readonly source: PagesSource;
  readonly length: bigint;
  readonly access: Access;
  /** Null: the kernel picks it. */
  readonly iova: bigint | null;
}
