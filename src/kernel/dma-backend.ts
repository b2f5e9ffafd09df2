/**
 * A container or an address space of an iommufd, as a DMA space uses it: requests of the kernel
 * without rules of their own. Ranges have passed all checks when they come here.
 */
import type { IovaRange } from '../abi/device.ts';
import type { Access } from '../abi/memory.ts';
import type { VfioError } from '../base/errno.ts';
import type { KernelFile } from '../sys/kernel-file.ts';

/** The abilities of the IOMMU above the devices. */
export interface DmaAbilities {
  /** Page sizes as a bitmap; the lowest bit is the granularity. */
  readonly pageSizes: bigint;
  readonly ranges: readonly IovaRange[];
}

export interface DmaBackend extends Disposable {
  /** The name of the request that maps, for errors: `VFIO_IOMMU_MAP_DMA`. */
  readonly mapName: string;
  readonly unmapName: string;
  /** The file that the requests go to, for errors. */
  readonly path: string;
  /** Mappings that the kernel allows at one time; null: there is no limit. */
  readonly maxMaps: number | null;
  /** The IOMMU's abilities now; asked for again after another device has joined. */
  abilities(): DmaAbilities;
  /** How many more mappings fit. @param used mappings that this process has made */
  available(used: number): number;
  /**
   * Map bytes of this process.
   *
   * @param address where they are in this process, a multiple of the granularity
   * @returns 0, or -errno
   */
  map(iova: bigint, address: bigint, size: bigint, access: Access): number;
  /**
   * Map bytes of a dma-buf. Absent where the bytes of a BAR are mapped by their address.
   *
   * @param start in the dma-buf
   * @param on the subject of an error
   * @throws VfioError of the kernel
   */
  mapBuffer?(buffer: KernelFile, request: { iova: bigint; start: bigint; size: bigint; access: Access }, on: string): void;
  /** Unmap whole mappings, of which there is one at least. @throws VfioError of the kernel */
  unmap(iova: bigint, size: bigint): bigint;
  /** Null: the kernel has no such request. @throws VfioError of the kernel */
  unmapAll(): bigint | null;
  /** Null: the IOMMU keeps no log. */
  readonly dirty: DirtyBackend | null;
  /** The error of a refusal by `map`. */
  mapFailure(result: number, what: string, fix?: string): VfioError;
}

/**
 * The log of written pages. A range is one mapping of the kernel. Its bitmap may be written whole:
 * bits that were set before may be lost.
 */
export interface DirtyBackend {
  start(): void;
  stop(): void;
  report(iova: bigint, size: bigint, pageSize: bigint, into: Uint8Array): void;
  /** The same, and unmaps. */
  unmap(iova: bigint, size: bigint, pageSize: bigint, into: Uint8Array): bigint;
}
