/**
 * Layouts of linux/vfio.h. Each size is what a C compiler gives the structure, checked at load;
 * holes are declared as `reserved…` fields.
 *
 * A structure may grow at its end from one kernel to the next. The least size of a request,
 * `minsz`, is therefore the end of the last field in its first version, and not the structure's
 * size: see `MinSize` below.
 *
 * @see include/uapi/linux/vfio.h (Linux 7.2)
 */
import { struct, type Value } from '../base/struct.ts';

// Capability chains
// ---------------------------------------------------------------------------------------------------------------------

/**
 * At the head of every capability. `next` is an offset from the start of the info structure; 0 ends
 * the chain. Aligned to 8.
 */
export const InfoCapHeader = struct('vfio_info_cap_header', 8, { id: 'u16', version: 'u16', next: 'u32' });

/** RegionCap.SPARSE_MMAP, version 1: followed by `nr_areas` SparseMmapArea. */
export const RegionInfoCapSparseMmap = struct('vfio_region_info_cap_sparse_mmap', 16, {
  id: 'u16',
  version: 'u16',
  next: 'u32',
  nr_areas: 'u32',
  reserved: 'u32',
});
export const SparseMmapArea = struct('vfio_region_sparse_mmap_area', 16, { offset: 'u64', size: 'u64' });

/** RegionCap.TYPE, version 1. */
export const RegionInfoCapType = struct('vfio_region_info_cap_type', 16, {
  id: 'u16',
  version: 'u16',
  next: 'u32',
  type: 'u32',
  subtype: 'u32',
});

/** IommuInfoCap.IOVA_RANGE, version 1: followed by `nr_iovas` IovaRangeEntry. */
export const IommuInfoCapIovaRange = struct('vfio_iommu_type1_info_cap_iova_range', 16, {
  id: 'u16',
  version: 'u16',
  next: 'u32',
  nr_iovas: 'u32',
  reserved: 'u32',
});
/** `end` is inclusive. */
export const IovaRangeEntry = struct('vfio_iova_range', 16, { start: 'u64', end: 'u64' });

/** IommuInfoCap.MIGRATION, version 1. */
export const IommuInfoCapMigration = struct('vfio_iommu_type1_info_cap_migration', 32, {
  id: 'u16',
  version: 'u16',
  next: 'u32',
  flags: 'u32',
  reserved: 'u32',
  pgsize_bitmap: 'u64',
  max_dirty_bitmap_size: 'u64',
});

/**
 * IommuInfoCap.DMA_AVAIL, version 1. In a chain it takes 16 bytes: the next capability starts at a
 * multiple of 8.
 */
export const IommuInfoCapDmaAvail = struct('vfio_iommu_type1_info_dma_avail', 12, { id: 'u16', version: 'u16', next: 'u32', avail: 'u32' });

// Group
// ---------------------------------------------------------------------------------------------------------------------------------

export const GroupStatus = struct('vfio_group_status', 8, { argsz: 'u32', flags: 'u32' });

// Device
// --------------------------------------------------------------------------------------------------------------------------------

/** 20 bytes until `pad` was added after Linux 6.1. */
export const DeviceInfo = struct('vfio_device_info', 24, {
  argsz: 'u32',
  flags: 'u32',
  num_regions: 'u32',
  num_irqs: 'u32',
  cap_offset: 'u32',
  pad: 'u32',
});

export const RegionInfo = struct('vfio_region_info', 32, {
  argsz: 'u32',
  flags: 'u32',
  index: 'u32',
  cap_offset: 'u32',
  size: 'u64',
  offset: 'u64',
});

export const IrqInfo = struct('vfio_irq_info', 16, { argsz: 'u32', flags: 'u32', index: 'u32', count: 'u32' });

/** Followed by `count` elements: nothing, bytes, or descriptors (s32), as the flags say. */
export const IrqSet = struct('vfio_irq_set', 20, { argsz: 'u32', flags: 'u32', index: 'u32', start: 'u32', count: 'u32' });

/**
 * `id` is the group's number for a device opened through its group, an iommufd device id otherwise.
 */
export const PciDependentDevice = struct('vfio_pci_dependent_device', 8, { id: 'u32', segment: 'u16', bus: 'u8', devfn: 'u8' });
/** Followed by `count` PciDependentDevice. */
export const PciHotResetInfo = struct('vfio_pci_hot_reset_info', 12, { argsz: 'u32', flags: 'u32', count: 'u32' });
/** Followed by `count` group descriptors (s32). */
export const PciHotReset = struct('vfio_pci_hot_reset', 12, { argsz: 'u32', flags: 'u32', count: 'u32' });

export const DeviceIoeventfd = struct('vfio_device_ioeventfd', 32, {
  argsz: 'u32',
  flags: 'u32',
  offset: 'u64',
  data: 'u64',
  fd: 's32',
  reserved: 'u32',
});

/** Followed by the feature's own data. */
export const DeviceFeature = struct('vfio_device_feature', 8, { argsz: 'u32', flags: 'u32' });

/** 16 bytes until the token was added. */
export const DeviceBindIommufd = struct('vfio_device_bind_iommufd', 24, {
  argsz: 'u32',
  flags: 'u32',
  iommufd: 's32',
  out_devid: 'u32',
  token_uuid_ptr: 'u64',
});
/** 12 bytes until `pasid` was added. */
export const DeviceAttachIommufdPt = struct('vfio_device_attach_iommufd_pt', 16, {
  argsz: 'u32',
  flags: 'u32',
  pt_id: 'u32',
  pasid: 'u32',
});
/** 8 bytes until `pasid` was added. */
export const DeviceDetachIommufdPt = struct('vfio_device_detach_iommufd_pt', 12, { argsz: 'u32', flags: 'u32', pasid: 'u32' });

// Data of device features
// ---------------------------------------------------------------------------------------------------------------

export const FeatureMigration = struct('vfio_device_feature_migration', 8, { flags: 'u64' });
export const FeatureMigState = struct('vfio_device_feature_mig_state', 8, { device_state: 'u32', data_fd: 's32' });
export const PrecopyInfo = struct('vfio_precopy_info', 24, { argsz: 'u32', flags: 'u32', initial_bytes: 'u64', dirty_bytes: 'u64' });
export const FeatureMigDataSize = struct('vfio_device_feature_mig_data_size', 8, { stop_copy_length: 'u64' });
export const LowPowerEntryWithWakeup = struct('vfio_device_low_power_entry_with_wakeup', 8, { wakeup_eventfd: 's32', reserved: 'u32' });
export const FeatureDmaLoggingControl = struct('vfio_device_feature_dma_logging_control', 24, {
  page_size: 'u64',
  num_ranges: 'u32',
  reserved: 'u32',
  ranges: 'u64',
});
export const FeatureDmaLoggingRange = struct('vfio_device_feature_dma_logging_range', 16, { iova: 'u64', length: 'u64' });
export const FeatureDmaLoggingReport = struct('vfio_device_feature_dma_logging_report', 32, {
  iova: 'u64',
  length: 'u64',
  page_size: 'u64',
  bitmap: 'u64',
});
export const FeatureBusMaster = struct('vfio_device_feature_bus_master', 4, { op: 'u32' });
/** Followed by `nr_ranges` DmaBufRange. */
export const FeatureDmaBuf = struct('vfio_device_feature_dma_buf', 16, {
  region_index: 'u32',
  open_flags: 'u32',
  flags: 'u32',
  nr_ranges: 'u32',
});
export const DmaBufRange = struct('vfio_region_dma_range', 16, { offset: 'u64', length: 'u64' });

// Type 1 IOMMU
// --------------------------------------------------------------------------------------------------------------------------

export const IommuType1Info = struct('vfio_iommu_type1_info', 24, {
  argsz: 'u32',
  flags: 'u32',
  iova_pgsizes: 'u64',
  cap_offset: 'u32',
  pad: 'u32',
});

export const IommuType1DmaMap = struct('vfio_iommu_type1_dma_map', 32, {
  argsz: 'u32',
  flags: 'u32',
  vaddr: 'u64',
  iova: 'u64',
  size: 'u64',
});

/** Followed by a Bitmap when GET_DIRTY_BITMAP is set. */
export const IommuType1DmaUnmap = struct('vfio_iommu_type1_dma_unmap', 24, { argsz: 'u32', flags: 'u32', iova: 'u64', size: 'u64' });

/** `size` in bytes; `data` is an address in the caller's memory. */
export const Bitmap = struct('vfio_bitmap', 24, { pgsize: 'u64', size: 'u64', data: 'u64' });

/** Followed by DirtyBitmapGet when GET_BITMAP is set. */
export const IommuType1DirtyBitmap = struct('vfio_iommu_type1_dirty_bitmap', 8, { argsz: 'u32', flags: 'u32' });

/** `bitmap_…` is a vfio_bitmap. */
export const IommuType1DirtyBitmapGet = struct('vfio_iommu_type1_dirty_bitmap_get', 40, {
  iova: 'u64',
  size: 'u64',
  bitmap_pgsize: 'u64',
  bitmap_size: 'u64',
  bitmap_data: 'u64',
});

/**
 * The least `argsz` of each structure. The kernel copies that many bytes in before it looks at any
 * of them.
 */
export const MinSize = {
  GROUP_STATUS: GroupStatus.flags.end,
  DEVICE_INFO: DeviceInfo.num_irqs.end,
  REGION_INFO: RegionInfo.offset.end,
  IRQ_INFO: IrqInfo.count.end,
  IRQ_SET: IrqSet.count.end,
  PCI_HOT_RESET_INFO: PciHotResetInfo.count.end,
  PCI_HOT_RESET: PciHotReset.count.end,
  DEVICE_IOEVENTFD: DeviceIoeventfd.fd.end,
  DEVICE_FEATURE: DeviceFeature.flags.end,
  DEVICE_BIND_IOMMUFD: DeviceBindIommufd.out_devid.end,
  DEVICE_ATTACH_IOMMUFD_PT: DeviceAttachIommufdPt.pt_id.end,
  DEVICE_DETACH_IOMMUFD_PT: DeviceDetachIommufdPt.flags.end,
  FEATURE_MIGRATION: FeatureMigration.flags.end,
  FEATURE_MIG_STATE: FeatureMigState.data_fd.end,
  FEATURE_MIG_DATA_SIZE: FeatureMigDataSize.stop_copy_length.end,
  LOW_POWER_ENTRY_WITH_WAKEUP: LowPowerEntryWithWakeup.reserved.end,
  FEATURE_DMA_LOGGING_CONTROL: FeatureDmaLoggingControl.ranges.end,
  FEATURE_DMA_LOGGING_REPORT: FeatureDmaLoggingReport.bitmap.end,
  FEATURE_DMA_BUF: FeatureDmaBuf.nr_ranges.end,
  IOMMU_TYPE1_INFO: IommuType1Info.iova_pgsizes.end,
  IOMMU_TYPE1_DMA_MAP: IommuType1DmaMap.size.end,
  IOMMU_TYPE1_DMA_UNMAP: IommuType1DmaUnmap.size.end,
  IOMMU_TYPE1_DIRTY_BITMAP: IommuType1DirtyBitmap.flags.end,
} as const;

export type GroupStatus = Value<typeof GroupStatus>;
export type DeviceInfo = Value<typeof DeviceInfo>;
export type RegionInfo = Value<typeof RegionInfo>;
export type IrqInfo = Value<typeof IrqInfo>;
export type IrqSet = Value<typeof IrqSet>;
export type IommuType1Info = Value<typeof IommuType1Info>;
export type IommuType1DmaMap = Value<typeof IommuType1DmaMap>;
export type IommuType1DmaUnmap = Value<typeof IommuType1DmaUnmap>;
export type Bitmap = Value<typeof Bitmap>;
