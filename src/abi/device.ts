/**
 * Device is the interface to a PCI device behind VFIO. A driver, the vfio-user server and every
 * test use a device through it alone. Implementations: the engine's device file, the vfio-user
 * client, the client of /dev/vfio. One conformance suite runs on all of them. src/device has the
 * code that all of them share.
 *
 * Register access is synchronous and allocates nothing (64-bit reads give a bigint). Waiting for
 * interrupts is asynchronous. Every method throws `VfioError` with the errno Linux gives, ENODEV
 * once the device is gone or the file is closed.
 */

import type { RegisterAccess } from '../base/register-access.ts';
import type { DmaBuf, DmaBufRequest, DmaLogging, LowPower, MigrationControl, SleepNotice } from './device-features.ts';
import type { EventFlow, EventKind, EventOf, EventOptions, EventPort } from './event.ts';
import type { InterruptSink, InterruptSource } from './interrupt-sink.ts';
import type { Access, DirectMemory, Memory, RemoteMemory } from './memory.ts';

export type {
  DmaBuf,
  DmaBufRequest,
  DmaBufSegment,
  DmaLogging,
  DmaLogReport,
  DmaRange,
  LowPower,
  MigrationControl,
  MigrationStream,
  PrecopyInfo,
  SleepNotice,
} from './device-features.ts';
export type { InterruptSink, InterruptSource } from './interrupt-sink.ts';
export type { RegisterAccess };

/** The result of VFIO_DEVICE_GET_INFO. */
export interface DeviceInfo {
  /** The device's address, e.g. `0000:00:04.0`. */
  readonly name: string;
  /** `DeviceFlags` */
  readonly flags: number;
  /** Regions, by index from 0; the device need not have each. */
  readonly numRegions: number;
  /** Interrupt indexes from 0; the device need not have each. */
  readonly numIrqs: number;
}

/** A part of a region that can be mapped, in bytes. */
export interface MappableArea {
  readonly offset: number;
  readonly size: number;
}

/**
 * A register whose writes may come by an eventfd: a signal of the eventfd stands for this write,
 * without a message.
 */
export interface Doorbell {
  readonly offset: number;
  /** Bytes written. */
  readonly size: 1 | 2 | 4 | 8;
  /**
   * Only a write of this value may be replaced by a signal. Null: a write of any value may, and
   * the device sees 0.
   */
  readonly value: bigint | null;
}

/** The result of VFIO_DEVICE_GET_REGION_INFO for one region. Sizes are in bytes. */
export interface RegionInfo {
  readonly index: number;
  /** `RegionFlags`; 0 with size 0 = no such region on this device. */
  readonly flags: number;
  readonly size: number;
  /** Present when only parts can be mapped (VFIO_REGION_INFO_CAP_SPARSE_MMAP). */
  readonly sparseAreas?: readonly MappableArea[];
  /** Present on device-specific regions (VFIO_REGION_INFO_CAP_TYPE). */
  readonly type?: { readonly type: number; readonly subtype: number };
  /** The MSI-X table's pages may be mapped (VFIO_REGION_INFO_CAP_MSIX_MAPPABLE). */
  readonly msixMappable?: boolean;
  /** Registers whose writes may come as signals (vfio-user's DEVICE_GET_REGION_IO_FDS). */
  readonly doorbells?: readonly Doorbell[];
}

/** The result of VFIO_DEVICE_GET_IRQ_INFO for one index. */
export interface IrqInfo {
  readonly index: number;
  /** `IrqInfoFlags` */
  readonly flags: number;
  /** Vectors of this index; 0: the device does not have it. */
  readonly count: number;
}

/**
 * A region through the file: pread and pwrite.
 *
 * @throws VfioError EIO while memory decoding is off or the device sleeps in D3hot; EINVAL at or
 * past the end; EFAULT past the end of config space
 */
export interface Region extends RegisterAccess {
  /** The result of VFIO_DEVICE_GET_REGION_INFO. */
  readonly info: RegionInfo;
  /**
   * All of the region is plain memory, whose values are data (abi/event.ts). Default: false: it has
   * registers.
   */
  readonly plain?: boolean;
  /** Bytes read, fewer than asked at the region's end. */
  read(offset: number, into: Uint8Array): number;
  /** Bytes written, fewer than given at the region's end. */
  write(offset: number, from: Uint8Array): number;
  /**
   * Map part of the region. The mapping keeps the device open after `close()` until it is disposed
   * (S2-37).
   *
   * @throws VfioError EINVAL when the region cannot be mapped, or past its end (rounded up to a
   * page)
   */
  map(offset?: number, size?: number): RegionMapping;
}

/**
 * A mapped region: loads and stores. An access throws `BusError` (what SIGBUS is to a C program)
 * while memory decoding is off, and while the device is in low power or gone. It works again when
 * the cause has ended.
 */
export interface RegionMapping extends RegisterAccess, Disposable {
  /** Bytes. */
  readonly size: number;
  /**
   * The memory behind the mapping, when it is plain memory that others can map too; null for
   * registers that trap.
   */
  readonly memory: MappingMemory | null;
  /**
   * The mapped bytes as memory for the DMA of other devices (peer-to-peer): `dma.space.map` of a
   * device of the same kernel takes it. It stays after the mapping is disposed, while a device has
   * it mapped. Absent where devices reach `memory` or nothing.
   *
   * @throws VfioError EFAULT once the mapping is disposed
   */
  readonly peer?: RemoteMemory | undefined;
}

/** The memory behind a mapping of a region. */
export interface MappingMemory {
  readonly memory: DirectMemory;
  /** Where in the memory the mapping starts, in bytes. */
  readonly offset: number;
  /**
   * Parts of the region, by its offsets, that the memory holds: the rest of the region is
   * registers, and the memory has nothing there. Default: the whole region.
   */
  readonly holds?: readonly MappableArea[];
}

/** VFIO_DEVICE_SET_IRQS. Which combinations exist is in the SET_IRQS matrix (B.9). */
export type SetIrqs = {
  readonly index: number;
  readonly start: number;
  readonly count: number;
} & (
  | { readonly action: 'mask' | 'unmask' | 'trigger'; readonly data: 'none' }
  | { readonly action: 'mask' | 'unmask' | 'trigger'; readonly data: 'bool'; readonly values: readonly boolean[] | Uint8Array }
  | { readonly action: 'trigger' | 'mask'; readonly data: 'sinks'; readonly sinks: readonly (InterruptSink | null)[] }
  | { readonly action: 'unmask'; readonly data: 'sinks'; readonly sources: readonly (InterruptSource | null)[] }
);

/** A range of I/O virtual addresses that devices may use. */
export interface IovaRange {
  readonly first: bigint;
  /** Inclusive, so that the top page exists. */
  readonly last: bigint;
}

/**
 * The pages that devices have written (VFIO_IOMMU_DIRTY_PAGES). A bitmap has one bit per page of
 * `pageSize`, which must be the space's smallest; bits are set in it, never cleared.
 */
export interface DirtyTracking {
  /** Turns tracking on; no effect while it is on. */
  start(): void;
  /** Turns tracking off; the notes so far are dropped. */
  stop(): void;
  /**
   * The pages of [iova, iova + size) that were written since the last report.
   *
   * @throws VfioError EINVAL while tracking is off, for another page size, for a bitmap that is too
   * small, and for a range that is misaligned or cuts a mapping; EOVERFLOW past 2^64
   */
  report(iova: bigint, size: bigint, pageSize: bigint, into: Uint8Array): void;
  /**
   * Unmap, and report the pages that were written there. @returns bytes unmapped
   *
   * @throws VfioError as `report`
   */
  unmap(iova: bigint, size: bigint, pageSize: bigint, into: Uint8Array): bigint;
}

/** The DMA space of the device's container: all devices in it share the mappings. */
export interface DmaSpace {
  /** Supported page sizes as a bitmap; the lowest bit is the granularity. */
  readonly pageSizes: bigint;
  /** Addresses that can be mapped (VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE). */
  readonly ranges: readonly IovaRange[];
  /** How many more mappings fit (VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL). */
  readonly available: number;
  /**
   * Memory that every transport can share without copying; zeroed. `size` is rounded up to whole
   * pages.
   */
  allocate(size: number): DirectMemory;
  /**
   * @throws VfioError EEXIST over an existing mapping; EINVAL misaligned or outside `ranges`;
   * EOVERFLOW past 2^64; ENOSPC at the mapping limit; ENOMEM over RLIMIT_MEMLOCK, with the numbers
   * that would be needed
   */
  map(request: { iova: bigint; memory: Memory; offset?: number; size?: number; access?: Access }): void;
  /**
   * Present where no IOMMU is above the device: the device reaches memory at its physical address,
   * which the driver cannot choose, so that `map` is EOPNOTSUPP. `unmap` ends it.
   *
   * @returns the address of the first byte
   * @throws VfioError ENOMEM for memory that does not lie in one piece; EOPNOTSUPP in a kernel that
   *   pins none
   */
  readonly pin?: ((request: { memory: Memory; offset?: number; size?: number; access?: Access }) => bigint) | undefined;
  /**
   * @returns bytes unmapped; 0 when nothing was mapped there
   *
   * @throws VfioError EINVAL when it would cut a mapping in two.
   */
  unmap(iova: bigint, size: bigint): bigint;
  /** Unmaps every mapping (VFIO_DMA_UNMAP_FLAG_ALL), and returns the bytes unmapped. */
  unmapAll(): bigint;
  /** Absent where no log is kept. */
  readonly dirty?: DirtyTracking | undefined;
}

/** An event that a device reports to its user. */
export type DeviceEvent =
  /** The device is to be unplugged or rebound: close it (S2-41). Repeated until it is released. */
  | { readonly kind: 'request' }
  /**
   * The machine is about to sleep (S2-42). The driver saves its state, then calls `acknowledge`;
   * the machine waits for that call, up to a limit.
   */
  | {
      readonly kind: 'suspend';
      /** Says that the state is saved; the machine need not wait for this driver any longer. */
      acknowledge(): void;
    }
  /**
   * The device stands still now: no DMA, no interrupt, no register. Nothing is lost: all of it
   * goes on at 'resume'.
   */
  | { readonly kind: 'asleep' }
  | { readonly kind: 'resume' }
  /** An uncorrectable error was reported (AER). */
  | { readonly kind: 'error' }
  /** The device is gone: revoked, or the server died. Every later call throws ENODEV. */
  | { readonly kind: 'gone'; readonly reason: string };

/** The kind of an event that a device reports. */
export type DeviceEventKind = DeviceEvent['kind'];

export const deviceEventKinds = ['request', 'suspend', 'asleep', 'resume', 'error', 'gone'] as const satisfies readonly DeviceEventKind[];

/** A function that a bus reset hits, and its group. */
export interface HotResetDependent {
  readonly bdf: string;
  readonly groupId: number;
  /**
   * For a device that is bound to an iommufd: the function's number there; 0 when another device of
   * its group is bound there; -1 when its user does not own the function.
   */
  readonly deviceId?: number;
}

/** VFIO_DEVICE_FEATURE as it is: for probing, and for features that have no member of `Device`. */
export interface FeatureRequest {
  /** `Feature` */
  readonly feature: number;
  /** Only ask whether the device has the feature, and its operations `get` and `set`. */
  readonly probe?: boolean;
  readonly get?: boolean;
  readonly set?: boolean;
  /** The device reads it in a set and writes it in a get. Default: none. */
  readonly data?: Uint8Array;
}

/** A device as VFIO has it: regions, interrupt indexes, features, reset and events. */
export interface Device extends Disposable {
  /** The result of VFIO_DEVICE_GET_INFO. */
  readonly info: DeviceInfo;
  /** @throws VfioError EINVAL for an index the device does not have */
  region(index: number): Region;
  /**
   * @throws VfioError EINVAL for an index the device does not have, or ERR on a device that is not
   * PCI Express
   */
  irq(index: number): IrqInfo;
  /**
   * @returns 0; or, when fewer vectors are available than asked for, their number, and nothing has
   * changed
   */
  setIrqs(request: SetIrqs): number;
  /**
   * @throws VfioError EINVAL when the device has no reset; EAGAIN while a different user holds it
   */
  reset(): void;
  /**
   * Devices that a bus reset would hit.
   *
   * @throws VfioError ENODEV when there is no slot or bus reset
   */
  hotResetInfo(): readonly HotResetDependent[];
  /**
   * Reset the device's bus or slot (VFIO_DEVICE_PCI_HOT_RESET), and so every function that
   * `hotResetInfo` names. Absent where no device of this kind has such a reset.
   *
   * @param others the open devices, besides this one, that prove that the caller owns every
   *   function that is hit. Default: none
   * @throws VfioError EINVAL when a function is hit that the caller has not opened; ENODEV when
   *   there is no slot or bus reset; EBUSY, EAGAIN while a function is being reset, or is locked
   */
  resetBus?(others?: readonly Device[]): void;
  /**
   * Probe a feature, or use one that has no member here.
   *
   * @returns bytes of `data` used by a get
   * @throws VfioError ENOTTY for a feature the device does not have; EINVAL for an operation that
   * the feature does not have, and for a get or set of a feature that has a member
   */
  feature(request: FeatureRequest): number;
  /*
   * Features by name. An absent member means that no device of this kind has the feature. A device
   * that lacks a feature throws ENOTTY when the feature is used.
   */
  readonly migration?: MigrationControl;
  readonly dmaLogging?: DmaLogging;
  readonly lowPower?: LowPower;
  readonly sleepNotice?: SleepNotice;
  /** The buffer is yours to dispose of. @throws VfioError as `DmaBufRequest` says; ENOTTY */
  exportDmaBuf?(request: DmaBufRequest): DmaBuf;
  /**
   * Set the VF token of a physical function (S3-11), 16 bytes. The user may set it at any time.
   *
   * @throws VfioError EINVAL for fewer bytes; ENOTTY
   */
  setVfToken?(token: Uint8Array): void;
  /** The DMA space of the device's container. */
  readonly dma: DmaSpace;
  /**
   * Work that the device wants done before the last access is answered; null nearly always. A
   * transport that answers and can wait, as a vfio-user server, asks once, right after the access:
   * a second call gives null. Never rejects.
   */
  heldAnswer?(): Promise<void> | null;
  /**
   * While the machine sleeps (S2-42): settles when the machine is awake again; null when it is
   * awake. Registers do not answer during the sleep (EIO).
   */
  awake?(): Promise<void> | null;
  /**
   * Calls `listener` at each event of the device, until the result is disposed.
   *
   * @param kinds the events that the listener hears of. Default: every event. A listener for
   *   'suspend' promises to call the event's `acknowledge`: the machine waits for that, up to a
   *   limit. A listener for 'request' promises to close the device.
   * @throws VfioError ENODEV once the device is gone or closed
   */
  on(listener: (event: DeviceEvent) => void, kinds?: readonly DeviceEventKind[]): Disposable;
  /**
   * The traffic between the driver and the device from now on, in order: accesses, DMA, interrupts,
   * resets and all other kinds of `VfioEvent`. `on` is for the driver's work; this is for people
   * and tools that watch.
   *
   * @param options default: every kind, of this device
   * @throws VfioError EINVAL for options or kinds that do not exist
   */
  events<K extends EventKind = EventKind>(options?: EventOptions<K>): EventFlow<EventOf<K | 'dropped'>>;
  /** Where the device's driver emits events of its own. */
  readonly eventPort: EventPort;
  /**
   * Idempotent; the same as dispose. The device is closed for good once its mappings are disposed
   * too.
   */
  close(): void;
}
