/**
 * Numbers of linux/vfio.h. Layouts are in vfio-structs.ts.
 *
 * @see include/uapi/linux/vfio.h (Linux 7.2)
 */

/**
 * ioctl numbers: `_IO(';', 100 + n)`. One number means different things per kind of file, so a
 * dispatcher looks at the file first.
 */
const io = (n: number) => 0x3b64 + n;

export const ContainerIoctl = {
  GET_API_VERSION: io(0),
  CHECK_EXTENSION: io(1),
  SET_IOMMU: io(2),
  IOMMU_GET_INFO: io(12),
  IOMMU_MAP_DMA: io(13),
  IOMMU_UNMAP_DMA: io(14),
  IOMMU_DIRTY_PAGES: io(17),
} as const;

export const GroupIoctl = {
  GET_STATUS: io(3),
  SET_CONTAINER: io(4),
  UNSET_CONTAINER: io(5),
  GET_DEVICE_FD: io(6),
} as const;

export const DeviceIoctl = {
  GET_INFO: io(7),
  GET_REGION_INFO: io(8),
  GET_IRQ_INFO: io(9),
  SET_IRQS: io(10),
  RESET: io(11),
  GET_PCI_HOT_RESET_INFO: io(12),
  PCI_HOT_RESET: io(13),
  QUERY_GFX_PLANE: io(14),
  GET_GFX_DMABUF: io(15),
  IOEVENTFD: io(16),
  FEATURE: io(17),
  BIND_IOMMUFD: io(18),
  ATTACH_IOMMUFD_PT: io(19),
  DETACH_IOMMUFD_PT: io(20),
} as const;

/** Flag of DEVICE_BIND_IOMMUFD. */
export const BindIommufdFlags = { TOKEN: 1 } as const;

/** Flag of DEVICE_ATTACH_IOMMUFD_PT and DEVICE_DETACH_IOMMUFD_PT. */
export const IommufdPtFlags = { PASID: 1 } as const;

/** Flags of the answer of DEVICE_GET_PCI_HOT_RESET_INFO. */
export const HotResetInfoFlags = { DEV_ID: 1, DEV_ID_OWNED: 2 } as const;

/** ioctl of the descriptor that a change of the migration state gives. */
export const MigrationIoctl = { GET_PRECOPY_INFO: io(21) } as const;

export const API_VERSION = 0;

/** Extensions and IOMMU types share one number space. */
export const Extension = {
  TYPE1_IOMMU: 1,
  SPAPR_TCE_IOMMU: 2,
  TYPE1v2_IOMMU: 3,
  DMA_CC_IOMMU: 4,
  EEH: 5,
  TYPE1_NESTING_IOMMU: 6,
  SPAPR_TCE_v2_IOMMU: 7,
  NOIOMMU_IOMMU: 8,
  UNMAP_ALL: 9,
  UPDATE_VADDR: 10,
} as const;

export type Type1Kind = typeof Extension.TYPE1_IOMMU | typeof Extension.TYPE1v2_IOMMU;

export const GroupFlags = { VIABLE: 1, CONTAINER_SET: 2 } as const;

/** Flags of VFIO_DEVICE_GET_INFO (linux/vfio.h). */
export const DeviceFlags = { RESET: 1, PCI: 2, PLATFORM: 4, CAPS: 128 } as const;

/** Flags of VFIO_DEVICE_GET_REGION_INFO (linux/vfio.h). */
export const RegionFlags = { READ: 1, WRITE: 2, MMAP: 4, CAPS: 8 } as const;

/** Region indexes of vfio-pci (linux/vfio.h). */
export const RegionIndex = {
  BAR0: 0,
  BAR1: 1,
  BAR2: 2,
  BAR3: 3,
  BAR4: 4,
  BAR5: 5,
  ROM: 6,
  CONFIG: 7,
  VGA: 8,
} as const;
/** Of a PCI device; its device-specific regions have the indexes from here on. */
export const NUM_REGIONS = 9;
/**
 * A region's offset in the device file is `index << 40`: too wide for `<<`, so the code multiplies.
 */
export const REGION_OFFSET_STEP = 2 ** 40;

export const RegionCap = { SPARSE_MMAP: 1, TYPE: 2, MSIX_MAPPABLE: 3 } as const;

/** Interrupt indexes of vfio-pci (linux/vfio.h). */
export const IrqIndex = { INTX: 0, MSI: 1, MSIX: 2, ERR: 3, REQ: 4 } as const;
export const NUM_IRQS = 5;

/** Flags of VFIO_DEVICE_GET_IRQ_INFO (linux/vfio.h). */
export const IrqInfoFlags = { EVENTFD: 1, MASKABLE: 2, AUTOMASKED: 4, NORESIZE: 8 } as const;

export const IrqSetFlags = {
  DATA_NONE: 1,
  DATA_BOOL: 2,
  DATA_EVENTFD: 4,
  ACTION_MASK: 8,
  ACTION_UNMASK: 16,
  ACTION_TRIGGER: 32,
  DATA_TYPE_MASK: 7,
  ACTION_TYPE_MASK: 56,
} as const;

export const FeatureFlags = { MASK: 0xffff, GET: 1 << 16, SET: 1 << 17, PROBE: 1 << 18 } as const;

/** Features of VFIO_DEVICE_FEATURE (linux/vfio.h). */
export const Feature = {
  PCI_VF_TOKEN: 0,
  MIGRATION: 1,
  MIG_DEVICE_STATE: 2,
  LOW_POWER_ENTRY: 3,
  LOW_POWER_ENTRY_WITH_WAKEUP: 4,
  LOW_POWER_EXIT: 5,
  DMA_LOGGING_START: 6,
  DMA_LOGGING_STOP: 7,
  DMA_LOGGING_REPORT: 8,
  MIG_DATA_SIZE: 9,
  BUS_MASTER: 10,
  DMA_BUF: 11,
  MIG_PRECOPY_INFO_V2: 12,
  /**
   * Ours, far from Linux's numbers: `{ s32 suspend_eventfd, s32 resume_eventfd }`. The machine
   * signals them when it is about to sleep and when it is awake again; -1: no longer (S2-42).
   */
  SYSTEM_SLEEP: 0xfe00,
  /** Ours: the machine need not wait for this user any longer. No data. */
  SYSTEM_SLEEP_ACK: 0xfe01,
} as const;

/** The migration that a device supports (Feature.MIGRATION). The other two flags need STOP_COPY. */
export const MigrationFlags = { STOP_COPY: 1, P2P: 2, PRE_COPY: 4 } as const;

/** enum vfio_device_mig_state. */
export const MigrationState = {
  ERROR: 0,
  STOP: 1,
  RUNNING: 2,
  STOP_COPY: 3,
  RESUMING: 4,
  RUNNING_P2P: 5,
  PRE_COPY: 6,
  PRE_COPY_P2P: 7,
} as const;
export type MigrationState = (typeof MigrationState)[keyof typeof MigrationState];

/** The ranges that one DMA_LOGGING_START takes: as many as fit a page. */
export const DMA_LOGGING_MAX_RANGES = 256;

/**
 * Bytes of the bitmap of DMA_LOGGING_REPORT: a bit for each page of `length` bytes, in whole words
 * of 64 bits.
 */
export function bitmapBytes(length: bigint, pageSize = 4096n): number {
  const pages = (length + pageSize - 1n) / pageSize;
  return Number((pages + 63n) / 64n) * 8;
}

export const IommuInfoFlags = { PGSIZES: 1, CAPS: 2 } as const;
export const IommuInfoCap = { IOVA_RANGE: 1, MIGRATION: 2, DMA_AVAIL: 3 } as const;

/** Flags of VFIO_IOMMU_MAP_DMA (linux/vfio.h). */
export const DmaMapFlags = { READ: 1, WRITE: 2, VADDR: 4 } as const;
/** Flags of VFIO_IOMMU_UNMAP_DMA (linux/vfio.h). */
export const DmaUnmapFlags = { GET_DIRTY_BITMAP: 1, ALL: 2, VADDR: 4 } as const;
/** Flags of VFIO_IOMMU_DIRTY_PAGES (linux/vfio.h). */
export const DirtyFlags = { START: 1, STOP: 2, GET_BITMAP: 4 } as const;

/** Largest bitmap that GET_DIRTY takes: 256 MiB, one bit for each of 2^31 pages. */
export const DIRTY_BITMAP_SIZE_MAX = 2 ** 28;
/** Mappings per container, the module parameter's default. */
export const DMA_ENTRY_LIMIT = 65535;
