/**
 * Device: how a PCI device behind VFIO is used. A driver, the vfio-user server and every test hold
 * one of these, and nothing else. Implementations: the engine's device file, the vfio-user client,
 * the client of /dev/vfio. One conformance suite runs on all of them.
 *
 * Register access is synchronous and allocates nothing (64-bit reads give a bigint). Waiting for
 * interrupts is asynchronous. Every method throws `VfioError` with the errno Linux gives, ENODEV
 * once the device is gone or the file is closed.
 */
import type { Access, DirectMemory, Memory } from './memory.ts';

/** The result of VFIO_DEVICE_GET_INFO. */
export interface DeviceInfo {
  /** Where it sits, e.g. `0000:00:04.0`. */
  readonly name: string;
  /** `DeviceFlags` */
  readonly flags: number;
  readonly numRegions: number;
  readonly numIrqs: number;
}

export interface MappableArea {
  readonly offset: number;
  readonly size: number;
}

/**
 * A register that a write to is worth an eventfd: whoever signals it makes this write, without a
 * trip through the transport.
 */
export interface Doorbell {
  readonly offset: number;
  /** Bytes written. */
  readonly size: 1 | 2 | 4 | 8;
  /**
   * What is written: only a write of this value may be replaced by a signal. Null: any value may,
   * and the device sees 0.
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
  readonly count: number;
}

/** Loads and stores of a register's width at a byte offset. */
export interface RegisterAccess {
  read8(offset: number): number;
  read16(offset: number): number;
  read32(offset: number): number;
  read64(offset: number): bigint;
  write8(offset: number, value: number): void;
  write16(offset: number, value: number): void;
  write32(offset: number, value: number): void;
  write64(offset: number, value: bigint): void;
}

/**
 * A region through the file: pread and pwrite.
 *
 * @throws VfioError EIO while memory decoding is off or the device sleeps in D3hot; EINVAL at or
 *   past the end; EFAULT past the end of config space
 */
export interface Region extends RegisterAccess {
  readonly info: RegionInfo;
  /** Bytes read, fewer than asked at the region's end. */
  read(offset: number, into: Uint8Array): number;
  /** Bytes written, fewer than given at the region's end. */
  write(offset: number, from: Uint8Array): number;
  /**
   * Map part of the region. The mapping keeps the device open after `close()` until it is disposed
   * (S2-37).
   *
   * @throws VfioError EINVAL when the region cannot be mapped, or past its end (rounded up to a
   *   page)
   */
  map(offset?: number, size?: number): RegionMapping;
}

/**
 * A mapped region: loads and stores. An access throws `BusError` (what SIGBUS is to a C program)
 * while memory decoding is off, the device is in low power or it is gone; it works again once the
 * cause is.
 */
export interface RegionMapping extends RegisterAccess, Disposable {
  readonly size: number;
  /**
   * The memory behind it, when it is plain memory that can be mapped elsewhere too; null for
   * registers that trap.
   */
  readonly memory: { readonly memory: DirectMemory; readonly offset: number } | null;
}

/**
 * Where an interrupt is delivered: an eventfd, or a waiter in this process. Whoever keeps one calls
 * `get` for it and `put` when done: the eventfd's own counting.
 */
export interface InterruptSink {
  /** Never throws, never blocks. */
  signal(): void;
  get(): this;
  put(): void;
}

/**
 * A source of "unmask now": the eventfd that SET_IRQS UNMASK/DATA_EVENTFD takes (irqfd's resample
 * half).
 */
export interface InterruptSource {
  /** Call `listener` whenever it is signalled, until disposed. */
  listen(listener: () => void): Disposable;
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

export interface IovaRange {
  readonly first: bigint;
  /** Inclusive, so that the top page exists. */
  readonly last: bigint;
}

/**
 * Which pages devices have written (VFIO_IOMMU_DIRTY_PAGES). A bitmap has one bit per page of
 * `pageSize`, which must be the space's smallest; bits are set in it, never cleared.
 */
export interface DirtyTracking {
  start(): void;
  stop(): void;
  /**
   * What was written in [iova, iova + size) since this was asked last.
   *
   * @throws VfioError EINVAL while tracking is off, for another page size, a bitmap too small, or a
   *   range that is misaligned or cuts a mapping; EOVERFLOW past 2^64
   */
  report(iova: bigint, size: bigint, pageSize: bigint, into: Uint8Array): void;
  /** Unmap, and report what was written there. Bytes unmapped. @throws VfioError as `report` */
  unmap(iova: bigint, size: bigint, pageSize: bigint, into: Uint8Array): bigint;
}

/** The DMA space of the device's container: all devices in it share the mappings. */
export interface DmaSpace {
  /** Supported page sizes as a bitmap; the lowest bit is the granularity. */
  readonly pageSizes: bigint;
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
   *   EOVERFLOW past 2^64; ENOSPC at the mapping limit; ENOMEM over RLIMIT_MEMLOCK, with the
   *   numbers that would be needed
   */
  map(request: { iova: bigint; memory: Memory; offset?: number; size?: number; access?: Access }): void;
  /**
   * Bytes unmapped; 0 when nothing was there.
   * @throws VfioError EINVAL when it would cut a mapping in two.
   */
  unmap(iova: bigint, size: bigint): bigint;
  unmapAll(): bigint;
  /** Absent where nobody can tell. */
  readonly dirty?: DirtyTracking | undefined;
}

/** An event that a device reports to its user. */
export type DeviceEvent =
  /** Please let go: the device is to be unplugged or rebound (S2-41). Repeated until released. */
  | { readonly kind: 'request' }
  /** The machine is about to sleep; save state and call `acknowledge` (S2-42). */
  | { readonly kind: 'suspend'; acknowledge(): void }
  /**
   * The device stands still now: no DMA, no interrupt, no register. Nothing is lost: all of it goes
   * on at 'resume'.
   */
  | { readonly kind: 'asleep' }
  | { readonly kind: 'resume' }
  /** An uncorrectable error was reported (AER). */
  | { readonly kind: 'error' }
  /** The device is gone: revoked, or the server died. Every later call throws ENODEV. */
  | { readonly kind: 'gone'; readonly reason: string };

export type DeviceEventKind = DeviceEvent['kind'];

export const deviceEventKinds = ['request', 'suspend', 'asleep', 'resume', 'error', 'gone'] as const satisfies readonly DeviceEventKind[];

export interface HotResetDependent {
  readonly bdf: string;
  readonly groupId: number;
}

export interface DmaBufSegment {
  readonly memory: DirectMemory;
  readonly offset: number;
  readonly size: number;
}

/**
 * Ranges of a BAR as memory that others may reach (VFIO_DEVICE_FEATURE_DMA_BUF). Holds the memory
 * until disposed.
 */
export interface DmaBuf extends Disposable {
  readonly size: number;
  readonly segments: readonly DmaBufSegment[];
  /**
   * May not be used now: memory decoding is off, low power, reset; for good once the device is
   * closed or gone.
   */
  readonly revoked: boolean;
}

/**
 * What a device in PRE_COPY has to send (VFIO_MIG_GET_PRECOPY_INFO), in bytes; both may grow while
 * it runs.
 */
export interface PrecopyInfo {
  /** Until everything has been sent once. */
  readonly initialBytes: number;
  /** That changed since it was sent. */
  readonly dirtyBytes: number;
}

/**
 * The data of a device that is on the move (B.11): what a change of its state to PRE_COPY,
 * PRE_COPY_P2P, STOP_COPY or RESUMING makes. One way only: read in the first three, written in
 * RESUMING. A change to a state outside of these ends it.
 */
export interface MigrationStream extends Disposable {
  /**
   * Bytes read; 0: that was all, in STOP_COPY.
   *
   * @throws VfioError ENOMSG nothing is left to send while the device runs on; EAGAIN while DMA of
   *   before the stop is under way; EINVAL of a stream to be written; ENODEV once the device has
   *   left these states; EBADF when it is closed
   */
  read(into: Uint8Array): number;
  /**
   * Bytes written: all.
   *
   * @throws VfioError EINVAL of a stream to be read, or for what no device like this has sent: the
   *   device is in ERROR then; ENODEV, EBADF as `read`
   */
  write(from: Uint8Array): number;
  /** @throws VfioError EINVAL outside of PRE_COPY and PRE_COPY_P2P; ENODEV, EBADF as `read` */
  precopyInfo(): PrecopyInfo;
  /** Idempotent. The device's state stays as it is. */
  close(): void;
}

/** VFIO_DEVICE_FEATURE: `op` as in the flags. */
export interface FeatureRequest {
  readonly feature: number;
  readonly probe?: boolean;
  readonly get?: boolean;
  readonly set?: boolean;
  /**
   * In for set, out for get; its length is argsz - 8. A set of MIG_DEVICE_STATE or
   * DMA_LOGGING_START writes back into it, as Linux does: `data_fd` (-1; what stands for it comes
   * by `onDataStream`), and the page size that is used.
   */
  readonly data: Uint8Array;
  /** Descriptors named in `data` (wakeup eventfd), already resolved to sinks. */
  readonly sinks?: readonly (InterruptSink | null)[];
  /** Takes the buffer that a get of DMA_BUF makes; whoever takes it disposes of it. */
  readonly onDmaBuf?: (buffer: DmaBuf) => void;
  /** Takes the stream that a set of MIG_DEVICE_STATE may make; whoever takes it closes it. */
  readonly onDataStream?: (stream: MigrationStream) => void;
  /**
   * What `data` of DMA_LOGGING_START points to: struct vfio_device_feature_dma_logging_range,
   * `num_ranges` times.
   */
  readonly ranges?: Uint8Array;
  /**
   * What `data` of DMA_LOGGING_REPORT points to: one bit per page of its `page_size`, from its
   * `iova` on, bit 0 of byte 0 first; whole words of 64 bits. Bits are set, never cleared.
   */
  readonly bitmap?: Uint8Array;
}

/** A device as VFIO has it: regions, interrupt indexes, features, reset and events. */
export interface Device extends Disposable {
  readonly info: DeviceInfo;
  /** @throws VfioError EINVAL for an index the device does not have */
  region(index: number): Region;
  /**
   * @throws VfioError EINVAL for an index the device does not have, or ERR on a device that is not
   *   PCI Express
   */
  irq(index: number): IrqInfo;
  /** 0, or how many vectors could be had when fewer than asked (nothing has changed then). */
  setIrqs(request: SetIrqs): number;
  /** @throws VfioError EINVAL when the device has no reset; EAGAIN while somebody else holds it */
  reset(): void;
  /**
   * Devices that a bus reset would hit.
   * @throws VfioError ENODEV when there is no slot or bus reset
   */
  hotResetInfo(): readonly HotResetDependent[];
  /**
   * Bytes of `data` used by a get.
   * @throws VfioError ENOTTY for a feature the device does not have
   */
  feature(request: FeatureRequest): number;
  readonly dma: DmaSpace;
  /**
   * What the device wants done before whoever made the last access is answered; null nearly always.
   * Asked once, right after the access: a second call gives null. Never rejects. For transports
   * that answer and can wait, as a vfio-user server; others need not look.
   */
  heldAnswer?(): Promise<void> | null;
  /**
   * While the machine sleeps (S2-42): settles when the machine is awake again; null when it is
   * awake. Registers do not answer during the sleep (EIO).
   */
  awake?(): Promise<void> | null;
  /**
   * @param kinds the events that the listener hears of. Default: every event. A listener for
   * 'suspend' promises to call the event's `acknowledge`: the machine waits for that, up to a
   * limit. A listener for 'request' promises to close the device.
   */
  on(listener: (event: DeviceEvent) => void, kinds?: readonly DeviceEventKind[]): Disposable;
  /**
   * Idempotent; the same as dispose. The device is closed for good once its mappings are disposed
   * too.
   */
  close(): void;
}
