/**
 * Features of a `Device` (VFIO_DEVICE_FEATURE) by name. Their bytes exist in the ioctl door and in
 * vfio-user's messages only; device/feature-bytes.ts reads and writes them.
 *
 * An implementation checks everything else before it looks at a request's lists and buffers, so
 * that a caller may resolve them late.
 */
import type { InterruptSink } from './interrupt-sink.ts';
import type { DirectMemory } from './memory.ts';

/**
 * Bytes of a device that has to send its data in PRE_COPY (VFIO_MIG_GET_PRECOPY_INFO); both may
 * grow while it runs.
 */
export interface PrecopyInfo {
  /** Until everything has been sent once. */
  readonly initialBytes: number;
  /** Changed since they were sent. */
  readonly dirtyBytes: number;
  /**
   * Only after `MigrationControl.readPrecopyFlags`. 1 (VFIO_PRECOPY_INFO_REINIT): there is new data
   * that has to be sent once. 0 for the engine's devices, whose data is known when the stream
   * begins.
   */
  readonly flags?: number;
}

/**
 * The data of a device that is on the move (B.11): a change of its state to PRE_COPY, PRE_COPY_P2P,
 * STOP_COPY or RESUMING makes one. The user reads it in the first three states and writes it in
 * RESUMING. A change to a state outside of these ends it.
 */
export interface MigrationStream extends Disposable {
  /**
   * Bytes read; 0 at the end, in STOP_COPY.
   *
   * @throws VfioError ENOMSG nothing is left to send while the device runs on; EAGAIN while DMA
   * issued before the stop is in flight; EINVAL of a stream to be written; ENODEV once the device
   * has left these states; EBADF when it is closed
   */
  read(into: Uint8Array): number;
  /**
   * Bytes written: all.
   *
   * @throws VfioError EINVAL of a stream to be read, or for data that no device like this has
   * sent: the device is in ERROR then; ENODEV, EBADF as `read`
   */
  write(from: Uint8Array): number;
  /**
   * How much is left to send. @throws VfioError EINVAL outside of PRE_COPY and PRE_COPY_P2P;
   * ENODEV, EBADF as `read`
   */
  precopyInfo(): PrecopyInfo;
  /** Idempotent. The device's state stays as it is. */
  close(): void;
}

/**
 * Moving a device (B.11): MIGRATION, MIG_DEVICE_STATE and MIG_DATA_SIZE.
 *
 * @throws VfioError ENOTTY for a device that cannot be moved, from each member
 */
export interface MigrationControl {
  /** `MigrationFlags` */
  readonly flags: number;
  /** `MigrationState` */
  readonly state: number;
  /**
   * Go to a state, through the states between.
   *
   * @returns the stream that begins with this state, yours to close; null when none begins
   * @throws VfioError EINVAL when there is no way, or the data that was written is not that of such
   * a device, which may be in ERROR then; EBUSY while the machine sleeps
   */
  setState(state: number): MigrationStream | null;
  /**
   * MIG_PRECOPY_INFOv2: until the last close of the device, `precopyInfo` has flags.
   *
   * @throws VfioError EINVAL for a device without PRE_COPY; ENOTTY before Linux 7.2
   */
  readPrecopyFlags(): void;
  /** About how many bytes the device has to send while it stands still. */
  readonly stopCopyBytes: bigint;
}

/** A range of I/O addresses. */
export interface DmaRange {
  readonly iova: bigint;
  readonly length: bigint;
}

/** The pages of a range that were written, as a bitmap. */
export interface DmaLogReport extends DmaRange {
  /** Bytes that a bit stands for: a power of two from 4096. */
  readonly pageSize: bigint;
  /**
   * One bit per page from `iova` on, bit 0 of byte 0 first, in whole words of 64 bits. A report
   * sets bits and clears none.
   */
  readonly bitmap: Uint8Array;
}

/**
 * The log of a device's own writes: DMA_LOGGING_START, _STOP and _REPORT (B.11).
 *
 * @throws VfioError ENOTTY for a device without a log, from each member
 */
export interface DmaLogging {
  /**
   * Log writes to these ranges.
   *
   * @param pageSize a hint
   * @returns bytes of a page of the log
   * @throws VfioError EINVAL for no ranges, ranges that overlap or are not made of such pages, and
   * while a log is running; E2BIG for more than 256 ranges; EOVERFLOW past 2^64
   */
  start(ranges: ArrayLike<DmaRange>, pageSize: bigint): bigint;
  /** Stop the log. No effect when none is running. */
  stop(): void;
  /**
   * The writes since the last report, which the log forgets.
   *
   * @throws VfioError EINVAL for an invalid page size, for a range that is empty or not made of
   * pages, and when nothing is logged; EOVERFLOW past 2^64; EFAULT for a bitmap that is too small
   */
  report(request: DmaLogReport): void;
}

/**
 * Low power (B.10). Mappings fault until `exit`; every other access wakes the device for as long
 * as the access takes.
 *
 * @throws VfioError EBUSY while the machine sleeps, from each member
 */
export interface LowPower {
  /** @throws VfioError EINVAL when the device is in low power already */
  enter(): void;
  /** Like `enter`. The first access that wakes the device signals `wakeup`, and ends low power. */
  enterWithWakeup(wakeup: InterruptSink): void;
  /** Idempotent. */
  exit(): void;
}

/**
 * The sleep of the machine by eventfds (S2-42), a feature of ours: SYSTEM_SLEEP and
 * SYSTEM_SLEEP_ACK.
 */
export interface SleepNotice {
  /** Replace the two sinks. Without `suspend` the machine does not wait for this user. */
  arm(suspend: InterruptSink | null, resume: InterruptSink | null): void;
  /**
   * No effect where no suspend waits for an acknowledgement.
   *
   * @param count the value of the suspend eventfd's counter, where the user gives it
   * @throws VfioError EAGAIN when the machine has signalled that eventfd again since
   */
  acknowledge(count?: bigint): void;
}

/** A part of a `DmaBuf`: bytes of a memory. */
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
  /** Its memory. None for hardware: the memory is the device's own. */
  readonly segments: readonly DmaBufSegment[];
  /**
   * True while the memory may not be used: memory decoding is off, the device is in low power or in
   * reset. It stays true once the device is closed or gone.
   */
  readonly revoked: boolean;
}

/**
 * A request for a `DmaBuf`. Errors: EINVAL no ranges, ranges that are empty, not of whole pages or
 * past the end; ENODEV not a BAR; EOVERFLOW past 2^64; EOPNOTSUPP a BAR that is not memory.
 */
export interface DmaBufRequest {
  /** A BAR's index. */
  readonly region: number;
  readonly ranges: readonly { readonly offset: bigint; readonly length: bigint }[];
}
