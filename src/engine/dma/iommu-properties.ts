/**
 * What the IOMMU in front of a group can do, and what a container needs to know of a group. The
 * machine builds these; the container only reads them, but for `domain`, which it alone sets.
 */
import type { IommuDomain } from '../../hardware/iommu-domain.ts';

/**
 * Why a window of I/O addresses cannot be mapped: 'direct' = the firmware wants it mapped one to
 * one, 'relaxable' = the same but may be given to a user, 'reserved' = translated by nothing, 'msi'
 * = writes there are interrupts.
 *
 * @see include/linux/iommu.h, enum iommu_resv_type
 */
export type ReservedKind = 'direct' | 'relaxable' | 'reserved' | 'msi';

export interface ReservedRegion {
  readonly first: bigint;
  /** Inclusive. */
  readonly last: bigint;
  readonly kind: ReservedKind;
}

export interface IommuProperties {
  /** The same object = the same IOMMU hardware: its groups can share one domain (S1-07). */
  readonly unit: object;
  /**
   * 'none': no IOMMU. 'translation': it translates but cannot keep devices apart, so it opts out of
   * groups (S1-05). 'full': it isolates.
   */
  readonly kind: 'none' | 'translation' | 'full';
  /**
   * A device's MSIs cannot reach another device's vectors (interrupt remapping). Without it attach
   * is EPERM (S2-36).
   */
  readonly isolatedMsi: boolean;
  /**
   * DMA is coherent with the CPU's caches. Without it a device cannot be registered with VFIO at
   * all (S1-05, B.7).
   */
  readonly coherent: boolean;
  /**
   * No-snoop transactions can be blocked, which is what VFIO_DMA_CC_IOMMU reports. Default false,
   * as QEMU's Intel IOMMU.
   */
  readonly enforcesCoherency?: boolean;
  /** Page sizes as a bitmap; the lowest bit is the granularity. */
  readonly pageSizes: bigint;
  /** First and last (inclusive) address that can be translated. */
  readonly apertureFirst: bigint;
  readonly apertureLast: bigint;
  readonly reserved: readonly ReservedRegion[];
}

/** A group as the container sees it. Its DMA ownership was claimed before it comes here. */
export interface AttachableGroup {
  readonly id: number;
  readonly iommu: IommuProperties;
  /** The domain all its devices are in; set by the container, null while there is none. */
  domain: IommuDomain | null;
}
