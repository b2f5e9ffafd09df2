/**
 * linux/iommufd.h: /dev/iommu. Numbers of requests, flags and options. Every request begins with
 * its size; a request that is shorter than its first version is EINVAL, and one that is longer than
 * the kernel's may have zeroes only behind (E2BIG).
 */

/** Numbers of requests, type ';' without a size: _IO(';', number). */
export const IommufdCommand = {
  DESTROY: 0x80,
  IOAS_ALLOC: 0x81,
  IOAS_ALLOW_IOVAS: 0x82,
  IOAS_COPY: 0x83,
  IOAS_IOVA_RANGES: 0x84,
  IOAS_MAP: 0x85,
  IOAS_UNMAP: 0x86,
  OPTION: 0x87,
  VFIO_IOAS: 0x88,
  HWPT_ALLOC: 0x89,
  GET_HW_INFO: 0x8a,
  HWPT_SET_DIRTY_TRACKING: 0x8b,
  HWPT_GET_DIRTY_BITMAP: 0x8c,
  HWPT_INVALIDATE: 0x8d,
  FAULT_QUEUE_ALLOC: 0x8e,
  IOAS_MAP_FILE: 0x8f,
  VIOMMU_ALLOC: 0x90,
  VDEVICE_ALLOC: 0x91,
  IOAS_CHANGE_PROCESS: 0x92,
  VEVENTQ_ALLOC: 0x93,
  HW_QUEUE_ALLOC: 0x94,
  IOAS_NOIOMMU_GET_PA: 0x95,
} as const;

/** Flags of IOAS_MAP, IOAS_MAP_FILE and IOAS_COPY. */
export const IoasMapFlags = { FIXED_IOVA: 1, WRITEABLE: 2, READABLE: 4 } as const;

/** Flags of HWPT_ALLOC. */
export const IommuHwptAllocFlags = { NEST_PARENT: 1, DIRTY_TRACKING: 2, FAULT_ID_VALID: 4, PASID: 8 } as const;

/** Kinds of hardware in GET_HW_INFO, enum iommu_hw_info_type. */
export const IommuHwInfoType = { NONE: 0, INTEL_VTD: 1, ARM_SMMUV3: 2 } as const;

/** Options of IOMMU_OPTION, and what is done with them. */
export const IommuOption = { RLIMIT_MODE: 0, HUGE_PAGES: 1 } as const;
export const IommuOptionOp = { SET: 0, GET: 1 } as const;

/** Operations of VFIO_IOAS. */
export const VfioIoasOp = { GET: 0, SET: 1, CLEAR: 2 } as const;
