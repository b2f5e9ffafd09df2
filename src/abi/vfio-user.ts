/**
 * Numbers and layouts of the vfio-user protocol. Offsets are those of the payload, after the 16-byte header; integers are little-endian. Where
 * the payload is a structure of linux/vfio.h (GET_REGION_INFO, GET_IRQ_INFO, SET_IRQS, FEATURE), its layout is in vfio-structs.ts.
 *
 * @see qemu/docs/interop/vfio-user.rst
 */
import { struct, type Value } from '../base/struct.ts';

/** Every message begins with this. A reply has the id and command of what it answers. */
export const Header = struct('vfio_user_header', 16, { id: 'u16', command: 'u16', size: 'u32', flags: 'u32', error: 'u32' });
export const HEADER_BYTES = Header.structSize;

export const HeaderFlags = {
  TYPE_MASK: 0xf,
  COMMAND: 0,
  REPLY: 1,
  /** The sender of this command wants no answer, not even an error. */
  NO_REPLY: 0x10,
  /** This reply has no payload; `error` is a positive errno. */
  ERROR: 0x20,
} as const;

export const Command = {
  VERSION: 1,
  DMA_MAP: 2,
  DMA_UNMAP: 3,
  DEVICE_GET_INFO: 4,
  DEVICE_GET_REGION_INFO: 5,
  DEVICE_GET_REGION_IO_FDS: 6,
  DEVICE_GET_IRQ_INFO: 7,
  DEVICE_SET_IRQS: 8,
  REGION_READ: 9,
  REGION_WRITE: 10,
  /** Server to client. */
  DMA_READ: 11,
  /** Server to client. */
  DMA_WRITE: 12,
  DEVICE_RESET: 13,
  /** Gone from the specification, and its number not used again. */
  DIRTY_PAGES: 14,
  REGION_WRITE_MULTI: 15,
  DEVICE_FEATURE: 16,
  MIG_DATA_READ: 17,
  MIG_DATA_WRITE: 18,
  /** Proposed for QEMU, not in the specification: the ioctl's structure, struct vfio_precopy_info, both ways. */
  MIG_GET_PRECOPY_INFO: 19,
} as const;
export type Command = (typeof Command)[keyof typeof Command];

const names = new Map<number, keyof typeof Command>(Object.entries(Command).map(([name, id]) => [id, name as keyof typeof Command]));

/** `REGION_READ`; `command 99` for a number that none has. */
export function commandName(command: number): string {
  return names.get(command) ?? `command ${command}`;
}

/** Followed by the capabilities: JSON in UTF-8 with a NUL at its end, or nothing. */
export const Version = struct('vfio_user_version', 4, { major: 'u16', minor: 'u16' });
export const VERSION_MAJOR = 0;
/** The newest minor version that we speak. */
export const VERSION_MINOR = 2;

/** What a capability is when a peer does not name it. */
export const CapabilityDefaults = { MAX_MSG_FDS: 1, MAX_DATA_XFER_SIZE: 2 ** 20, MAX_DMA_MAPS: 65535, PGSIZES: 4096 } as const;
/** QEMU takes no reply that allows more descriptors per message. */
export const QEMU_MAX_MSG_FDS = 16;
/** QEMU reads the VERSION reply into a buffer as large as its own request: capabilities longer than this do not fit. */
export const QEMU_MAX_CAPABILITY_CHARS = 193;
/** Linux puts no more descriptors into one message (SCM_MAX_FD). */
export const MAX_FDS = 253;

/** `offset` is into the descriptor that comes along; without one the memory is reached by messages. */
export const DmaMap = struct('vfio_user_dma_map', 32, { argsz: 'u32', flags: 'u32', offset: 'u64', address: 'u64', size: 'u64' });
/** MMAP and FILE_IO are libvfio-user's: how the server is to use the descriptor. */
export const UserDmaMapFlags = { READ: 1, WRITE: 2, MMAP: 4, FILE_IO: 8 } as const;

/** With GET_DIRTY_BITMAP followed by a DirtyBitmap; the reply appends the bitmap's bytes. `DmaUnmapFlags` of vfio.ts. */
export const DmaUnmap = struct('vfio_user_dma_unmap', 24, { argsz: 'u32', flags: 'u32', address: 'u64', size: 'u64' });
/** `size` in bytes: of the bitmap. */
export const DirtyBitmap = struct('vfio_user_bitmap', 16, { pgsize: 'u64', size: 'u64' });
/** With GET_BITMAP followed by DirtyRange; the reply appends the bitmap's bytes. `DirtyFlags` of vfio.ts. */
export const DirtyPages = struct('vfio_user_dirty_pages', 8, { argsz: 'u32', flags: 'u32' });
export const DirtyRange = struct('vfio_user_bitmap_range', 32, { iova: 'u64', size: 'u64', pgsize: 'u64', bitmap_size: 'u64' });

export const UserDeviceInfo = struct('vfio_user_device_info', 16, { argsz: 'u32', flags: 'u32', num_regions: 'u32', num_irqs: 'u32' });

/** Followed by `count` IoFd. */
export const RegionIoFds = struct('vfio_user_region_io_fds', 16, { argsz: 'u32', flags: 'u32', index: 'u32', count: 'u32' });
export const IoFd = struct('vfio_user_sub_region_ioeventfd', 40, {
  offset: 'u64',
  size: 'u64',
  fd_index: 'u32',
  type: 'u32',
  flags: 'u32',
  reserved: 'u32',
  datamatch: 'u64',
});
/** What libvfio-user sends in its place. Tell them apart by the stride: (argsz - 16) / count. */
export const ShadowIoFd = struct('libvfio_user_sub_region_ioeventfd', 48, {
  offset: 'u64',
  size: 'u64',
  fd_index: 'u32',
  type: 'u32',
  flags: 'u32',
  shadow_fd_index: 'u32',
  shadow_offset: 'u64',
  datamatch: 'u64',
});
export const IoFdType = { IOEVENTFD: 0, IOREGIONFD: 1, SHADOW_IOEVENTFD: 2 } as const;
/** KVM_IOEVENTFD_FLAG_*. */
export const IoFdFlags = { DATAMATCH: 1, PIO: 2 } as const;

/** REGION_READ and REGION_WRITE, requests and replies: followed by `count` bytes where there is data. */
export const RegionAccess = struct('vfio_user_region_access', 16, { offset: 'u64', region: 'u32', count: 'u32' });

/** DMA_READ and DMA_WRITE: followed by `count` bytes where there is data. Early QEMUs have a u32 `count` and data at 12: see dma-layout.ts of vfio-user. */
export const DmaAccess = struct('vfio_user_dma_rw', 16, { address: 'u64', count: 'u64' });

/** Followed by `count` WriteMultiEntry. The reply is this alone. */
export const WriteMulti = struct('vfio_user_region_write_multi', 8, { count: 'u64' });
/** The bytes of `data` in memory order; `count` is at most 8. */
export const WriteMultiEntry = struct('vfio_user_write_multi_entry', 24, { offset: 'u64', region: 'u32', count: 'u32', data: 'u64' });

/** MIG_DATA_READ: `size` bytes are asked for, the reply has as many and the bytes. MIG_DATA_WRITE: followed by `size` bytes. */
export const MigData = struct('vfio_user_mig_data', 8, { argsz: 'u32', size: 'u32' });

export type Header = Value<typeof Header>;
export type DmaMap = Value<typeof DmaMap>;
export type DmaUnmap = Value<typeof DmaUnmap>;
export type RegionAccess = Value<typeof RegionAccess>;

/** Data of DMA_LOGGING_START: followed by `num_ranges` FeatureDmaLoggingRange of vfio-structs.ts. */
export const UserDmaLoggingControl = struct('vfio_user_device_feature_dma_logging_control', 16, {
  page_size: 'u64',
  num_ranges: 'u32',
  reserved: 'u32',
});
/** Data of DMA_LOGGING_REPORT; the reply appends the bitmap. */
export const UserDmaLoggingReport = struct('vfio_user_device_feature_dma_logging_report', 24, {
  iova: 'u64',
  length: 'u64',
  page_size: 'u64',
});
