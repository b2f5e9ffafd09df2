/**
 * Layouts of linux/iommufd.h, each as long as the newest kernel's. `IommufdMinSize` has the end of
 * the first version of each: a shorter request is EINVAL.
 *
 * @see include/uapi/linux/iommufd.h (Linux 7.3)
 */
import { struct } from '../base/struct.ts';

export const IommuDestroy = struct('iommu_destroy', 8, { size: 'u32', id: 'u32' });
export const IommuIoasAlloc = struct('iommu_ioas_alloc', 12, { size: 'u32', flags: 'u32', out_ioas_id: 'u32' });
/** `last` is inclusive. */
export const IommuIovaRange = struct('iommu_iova_range', 16, { start: 'u64', last: 'u64' });
export const IommuIoasIovaRanges = struct('iommu_ioas_iova_ranges', 32, {
  size: 'u32',
  ioas_id: 'u32',
  num_iovas: 'u32',
  reserved: 'u32',
  allowed_iovas: 'u64',
  out_iova_alignment: 'u64',
});
export const IommuIoasAllowIovas = struct('iommu_ioas_allow_iovas', 24, {
  size: 'u32',
  ioas_id: 'u32',
  num_iovas: 'u32',
  reserved: 'u32',
  allowed_iovas: 'u64',
});
export const IommuIoasMap = struct('iommu_ioas_map', 40, {
  size: 'u32',
  flags: 'u32',
  ioas_id: 'u32',
  reserved: 'u32',
  user_va: 'u64',
  length: 'u64',
  iova: 'u64',
});
export const IommuIoasMapFile = struct('iommu_ioas_map_file', 40, {
  size: 'u32',
  flags: 'u32',
  ioas_id: 'u32',
  fd: 's32',
  start: 'u64',
  length: 'u64',
  iova: 'u64',
});
export const IommuIoasCopy = struct('iommu_ioas_copy', 40, {
  size: 'u32',
  flags: 'u32',
  dst_ioas_id: 'u32',
  src_ioas_id: 'u32',
  length: 'u64',
  dst_iova: 'u64',
  src_iova: 'u64',
});
export const IommuIoasUnmap = struct('iommu_ioas_unmap', 24, { size: 'u32', ioas_id: 'u32', iova: 'u64', length: 'u64' });
export const IommuOptionStruct = struct('iommu_option', 24, {
  size: 'u32',
  option_id: 'u32',
  op: 'u16',
  reserved: 'u16',
  object_id: 'u32',
  val64: 'u64',
});
export const IommuVfioIoas = struct('iommu_vfio_ioas', 12, { size: 'u32', ioas_id: 'u32', op: 'u16', reserved: 'u16' });
export const IommuHwptAlloc = struct('iommu_hwpt_alloc', 48, {
  size: 'u32',
  flags: 'u32',
  dev_id: 'u32',
  pt_id: 'u32',
  out_hwpt_id: 'u32',
  reserved: 'u32',
  data_type: 'u32',
  data_len: 'u32',
  data_uptr: 'u64',
  fault_id: 'u32',
  reserved2: 'u32',
});
export const IommuHwInfo = struct('iommu_hw_info', 40, {
  size: 'u32',
  flags: 'u32',
  dev_id: 'u32',
  data_len: 'u32',
  data_uptr: 'u64',
  /** With the flag INPUT_TYPE it is read, too. */
  out_data_type: 'u32',
  out_max_pasid_log2: 'u8',
  reserved0: 'u8',
  reserved1: 'u8',
  reserved2: 'u8',
  out_capabilities: 'u64',
});
/** The data of an Intel IOMMU in GET_HW_INFO. */
export const IommuHwInfoVtd = struct('iommu_hw_info_vtd', 24, { flags: 'u32', reserved: 'u32', cap_reg: 'u64', ecap_reg: 'u64' });
export const IommuHwptSetDirtyTracking = struct('iommu_hwpt_set_dirty_tracking', 16, {
  size: 'u32',
  flags: 'u32',
  hwpt_id: 'u32',
  reserved: 'u32',
});
export const IommuHwptGetDirtyBitmap = struct('iommu_hwpt_get_dirty_bitmap', 48, {
  size: 'u32',
  hwpt_id: 'u32',
  flags: 'u32',
  reserved: 'u32',
  iova: 'u64',
  length: 'u64',
  page_size: 'u64',
  data: 'u64',
});
export const IommuIoasChangeProcess = struct('iommu_ioas_change_process', 8, { size: 'u32', reserved: 'u32' });
export const IommuHwptInvalidate = struct('iommu_hwpt_invalidate', 32, {
  size: 'u32',
  hwpt_id: 'u32',
  data_uptr: 'u64',
  data_type: 'u32',
  entry_len: 'u32',
  entry_num: 'u32',
  reserved: 'u32',
});
export const IommuFaultAlloc = struct('iommu_fault_alloc', 16, { size: 'u32', flags: 'u32', out_fault_id: 'u32', out_fault_fd: 'u32' });
export const IommuViommuAlloc = struct('iommu_viommu_alloc', 40, {
  size: 'u32',
  flags: 'u32',
  type: 'u32',
  dev_id: 'u32',
  hwpt_id: 'u32',
  out_viommu_id: 'u32',
  data_len: 'u32',
  reserved: 'u32',
  data_uptr: 'u64',
});
export const IommuVdeviceAlloc = struct('iommu_vdevice_alloc', 24, {
  size: 'u32',
  viommu_id: 'u32',
  dev_id: 'u32',
  out_vdevice_id: 'u32',
  virt_id: 'u64',
});
export const IommuVeventqAlloc = struct('iommu_veventq_alloc', 32, {
  size: 'u32',
  flags: 'u32',
  viommu_id: 'u32',
  type: 'u32',
  veventq_depth: 'u32',
  out_veventq_id: 'u32',
  out_veventq_fd: 'u32',
  reserved: 'u32',
});
export const IommuHwQueueAlloc = struct('iommu_hw_queue_alloc', 40, {
  size: 'u32',
  flags: 'u32',
  viommu_id: 'u32',
  type: 'u32',
  index: 'u32',
  out_hw_queue_id: 'u32',
  nesting_parent_iova: 'u64',
  length: 'u64',
});
/** `length` goes in as the range, and comes back as the bytes that lie together. */
export const IommuIoasNoiommuGetPa = struct('iommu_ioas_noiommu_get_pa', 40, {
  size: 'u32',
  flags: 'u32',
  ioas_id: 'u32',
  reserved: 'u32',
  iova: 'u64',
  length: 'u64',
  out_phys: 'u64',
});
