/**
 * The properties of the IOMMU in front of a group, and a group as a container sees it. The machine
 * builds these; the container only reads them, except `domain`, which it alone sets.
 */

import type { IommuDomain } from '../../hardware/iommu-domain.ts';
import type { PhysicalMemory } from './physical-memory.ts';

/**
 * The reason why a window of I/O addresses cannot be mapped. 'direct': the firmware wants it mapped
 * one to one; 'relaxable': the same, but a user may have it; 'reserved': the IOMMU does not
 * translate it; 'msi': writes there are interrupts.
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
  /** The same object is the same IOMMU hardware: its groups can share one domain (S1-07). */
  readonly unit: object;
  /**
   * 'none': no IOMMU. 'translation': it translates but cannot keep devices apart, so its devices
   * have no groups (S1-05). 'full': it isolates.
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
   * No-snoop transactions can be blocked, which VFIO_DMA_CC_IOMMU reports. Default: false, as in
   * QEMU's Intel IOMMU.
   */
  readonly enforcesCoherency?: boolean;
  /** Page sizes as a bitmap; the lowest bit is the granularity. */
  readonly pageSizes: bigint;
  /** First and last (inclusive) address that can be translated. */
  readonly apertureFirst: bigint;
  readonly apertureLast: bigint;
  readonly reserved: readonly ReservedRegion[];
  /** The answer of GET_HW_INFO: the type, and registers of the hardware. Default: none. */
  readonly hardware?: { readonly type: number; readonly data: Uint8Array };
  /** It can note the pages that devices write (HWPT_ALLOC with DIRTY_TRACKING). Default: false. */
  readonly dirtyTracking?: boolean;
  /** Bits of the PASIDs that its devices' requests can carry. Default: 0, none. */
  readonly pasidBits?: number;
  /** There is no IOMMU: devices use these addresses, and reach all of them (no-IOMMU mode). */
  readonly physical?: PhysicalMemory;
}

/** A group as the container sees it. The group file claims its DMA before it comes here. */
export interface AttachableGroup {
  readonly id: number;
  readonly iommu: IommuProperties;
  /** The domain that all its devices are in; set by the container, null while there is none. */
  domain: IommuDomain | null;
}
