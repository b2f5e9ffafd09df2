/**
 * VFIO_DEVICE_FEATURE as bytes, over the members of a `Device`: for the ioctl door and for
 * vfio-user's server. The data is that of linux/vfio.h; its errnos come in the kernel's order.
 *
 * @see linux/drivers/vfio/vfio_main.c, vfio_ioctl_device_feature(); include/uapi/linux/vfio.h
 */

import type { Device, DmaBuf, DmaRange, FeatureRequest, InterruptSink, MigrationStream } from '../abi/device.ts';
import { VF_TOKEN_BYTES } from '../abi/vf-token.ts';
import { DMA_LOGGING_MAX_RANGES, Feature } from '../abi/vfio.ts';
import {
  DmaBufRange,
  FeatureDmaBuf,
  FeatureDmaLoggingControl,
  FeatureDmaLoggingRange,
  FeatureDmaLoggingReport,
  FeatureMigDataSize,
  FeatureMigration,
  FeatureMigState,
  MinSize,
} from '../abi/vfio-structs.ts';
import { viewOf } from '../base/data-view.ts';
import { VfioError } from '../base/errno.ts';

export interface FeatureBytes extends FeatureRequest {
  /**
   * In for set, out for get. A set of MIG_DEVICE_STATE or DMA_LOGGING_START writes back into it,
   * as Linux does: `data_fd` (-1; its stream goes to `onDataStream`), and the page size that is
   * used.
   */
  readonly data: Uint8Array;
  /** Descriptors that `data` names, resolved to sinks. */
  readonly sinks?: readonly (InterruptSink | null)[];
  /** Takes the buffer that a get of DMA_BUF makes, and disposes of it. */
  readonly onDmaBuf?: (buffer: DmaBuf) => void;
  /** Takes the stream that a set of MIG_DEVICE_STATE may make, and closes it. */
  readonly onDataStream?: (stream: MigrationStream) => void;
  /** The array that `data` of DMA_LOGGING_START points to. */
  readonly ranges?: Uint8Array;
  /** The bitmap that `data` of DMA_LOGGING_REPORT points to: see `DmaLogReport`. */
  readonly bitmap?: Uint8Array;
}

/**
 * One operation. Returns the bytes of `data` that a get has filled; null when no member takes the
 * request.
 */
interface Operation {
  /** Bytes of the fixed part of the data. */
  readonly minSize: number;
  run(device: Device, request: FeatureBytes): number | null;
}

const EMPTY = new Uint8Array(0);

/** `run` on a member, null without the member. */
function on<T>(member: T | undefined, run: (member: T) => number): number | null {
  return member === undefined ? null : run(member);
}

/** As `on`, for an operation that fills no bytes. */
function act<T>(member: T | undefined, run: (member: T) => void): number | null {
  if (member === undefined) return null;
  run(member);
  return 0;
}

const operations: ReadonlyMap<number, { readonly get?: Operation; readonly set?: Operation }> = new Map([
  [
    Feature.PCI_VF_TOKEN,
    {
      set: {
        minSize: VF_TOKEN_BYTES,
        run(device, { data }) {
          if (device.setVfToken === undefined) return null;
          device.setVfToken(data.subarray(0, VF_TOKEN_BYTES));
          return 0;
        },
      },
    },
  ],
  [Feature.LOW_POWER_ENTRY, { set: { minSize: 0, run: ({ lowPower }) => act(lowPower, (power) => power.enter()) } }],
  [
    Feature.LOW_POWER_ENTRY_WITH_WAKEUP,
    {
      set: {
        minSize: MinSize.LOW_POWER_ENTRY_WITH_WAKEUP,
        run: ({ lowPower }, { sinks }) => act(lowPower, (power) => power.enterWithWakeup((sinks?.[0] ?? null) as InterruptSink)),
      },
    },
  ],
  [Feature.LOW_POWER_EXIT, { set: { minSize: 0, run: ({ lowPower }) => act(lowPower, (power) => power.exit()) } }],
  [
    Feature.MIGRATION,
    {
      get: {
        minSize: MinSize.FEATURE_MIGRATION,
        run: ({ migration }, { data }) =>
          on(migration, ({ flags }) => {
            FeatureMigration.flags.set(viewOf(data), 0, BigInt(flags));
            return FeatureMigration.structSize;
          }),
      },
    },
  ],
  [
    Feature.MIG_DEVICE_STATE,
    { get: { minSize: MinSize.FEATURE_MIG_STATE, run: getState }, set: { minSize: MinSize.FEATURE_MIG_STATE, run: setState } },
  ],
  [
    Feature.MIG_DATA_SIZE,
    {
      get: {
        minSize: MinSize.FEATURE_MIG_DATA_SIZE,
        run: ({ migration }, { data }) =>
          on(migration, ({ stopCopyBytes }) => {
            FeatureMigDataSize.stop_copy_length.set(viewOf(data), 0, stopCopyBytes);
            return FeatureMigDataSize.structSize;
          }),
      },
    },
  ],
  [Feature.MIG_PRECOPY_INFO_V2, { set: { minSize: 0, run: ({ migration }) => act(migration, (control) => control.readPrecopyFlags()) } }],
  [Feature.DMA_LOGGING_START, { set: { minSize: MinSize.FEATURE_DMA_LOGGING_CONTROL, run: startLogging } }],
  [Feature.DMA_LOGGING_STOP, { set: { minSize: 0, run: ({ dmaLogging }) => act(dmaLogging, (logging) => logging.stop()) } }],
  [Feature.DMA_LOGGING_REPORT, { get: { minSize: MinSize.FEATURE_DMA_LOGGING_REPORT, run: reportLogging } }],
  [
    Feature.SYSTEM_SLEEP,
    {
      set: {
        minSize: 8,
        run: ({ sleepNotice }, { sinks }) => act(sleepNotice, (notice) => notice.arm(sinks?.[0] ?? null, sinks?.[1] ?? null)),
      },
    },
  ],
  [
    Feature.SYSTEM_SLEEP_ACK,
    {
      set: {
        minSize: 0,
        run: ({ sleepNotice }, { data }) =>
          act(sleepNotice, (notice) => notice.acknowledge(data.length < 8 ? undefined : viewOf(data).getBigUint64(0, true))),
      },
    },
  ],
  [Feature.DMA_BUF, { get: { minSize: MinSize.FEATURE_DMA_BUF, run: exportDmaBuf } }],
]);

/** Whether a feature is a member of `Device`. */
export function isMember(feature: number): boolean {
  return operations.has(feature);
}

/**
 * @returns bytes of `data` that a get has filled, 0 otherwise
 * @throws VfioError as `Device.feature` and the members; EINVAL data too short
 */
export function featureBytes(device: Device, request: FeatureBytes): number {
  const { feature, probe = false, get = false, set = false, data } = request ?? {};
  const operation = probe || get === set ? undefined : operations.get(feature)?.[get ? 'get' : 'set'];
  if (operation === undefined || !(data instanceof Uint8Array) || data.length < operation.minSize) return device.feature(request);
  return operation.run(device, request) ?? device.feature(request);
}

function getState({ migration }: Device, { data }: FeatureBytes): number | null {
  if (migration === undefined) return null;
  FeatureMigState.encode(viewOf(data), 0, { device_state: migration.state, data_fd: -1 });
  return FeatureMigState.structSize;
}

function setState({ migration }: Device, { data, onDataStream }: FeatureBytes): number | null {
  if (migration === undefined) return null;
  const view = viewOf(data);
  FeatureMigState.data_fd.set(view, 0, -1);
  const stream = migration.setState(FeatureMigState.device_state.get(view, 0));
  if (stream === null) return 0;
  if (onDataStream === undefined) {
    stream.close();
    throw new VfioError('EINVAL', 'MIG_DEVICE_STATE made a stream of data, and the request has no onDataStream to take it');
  }
  onDataStream(stream);
  return 0;
}

function startLogging({ dmaLogging }: Device, request: FeatureBytes): number | null {
  if (dmaLogging === undefined) return null;
  const control = viewOf(request.data);
  const { page_size: pageSize, num_ranges: count } = FeatureDmaLoggingControl.decode(control);
  FeatureDmaLoggingControl.page_size.set(
    control,
    0,
    dmaLogging.start(
      dmaRanges(count, () => request.ranges ?? EMPTY),
      pageSize,
    ),
  );
  return 0;
}

/**
 * The array of DMA_LOGGING_START, `count` elements long. `bytes` is looked at with the first
 * element.
 *
 * @throws VfioError `missing`, from an element that is not there
 */
export function dmaRanges(count: number, bytes: () => Uint8Array, missing: 'EFAULT' | 'EINVAL' = 'EFAULT'): ArrayLike<DmaRange> {
  const size = FeatureDmaLoggingRange.structSize;
  let found: Uint8Array | null = null;
  const ranges = { length: count };
  for (let i = 0; i < Math.min(count, DMA_LOGGING_MAX_RANGES); i++) {
    Object.defineProperty(ranges, i, {
      get() {
        found ??= bytes();
        if ((i + 1) * size > found.length) throw new VfioError(missing, `DMA_LOGGING_START: range ${i} of ${count} is not there`);
        return FeatureDmaLoggingRange.decode(viewOf(found), i * size);
      },
    });
  }
  return ranges;
}

function reportLogging({ dmaLogging }: Device, request: FeatureBytes): number | null {
  if (dmaLogging === undefined) return null;
  const { iova, length, page_size: pageSize } = FeatureDmaLoggingReport.decode(viewOf(request.data));
  dmaLogging.report({
    iova,
    length,
    pageSize,
    get bitmap() {
      return request.bitmap ?? EMPTY;
    },
  });
  return FeatureDmaLoggingReport.structSize;
}

/** Linux copies the ranges with kmalloc(), which gives 4 MiB at most (mm/util.c, memdup_user()). */
export const DMA_BUF_RANGES_MAX = 2 ** 22 / DmaBufRange.structSize;

function exportDmaBuf(device: Device, { data, onDmaBuf }: FeatureBytes): number | null {
  if (device.exportDmaBuf === undefined) return null;
  const { region_index: region, flags, nr_ranges: count } = FeatureDmaBuf.decode(viewOf(data));
  // A buffer has at least one range, and no flags: EINVAL, like every request that no member
  // takes.
  if (count === 0 || flags !== 0) return null;
  const buffer = device.exportDmaBuf({
    region,
    get ranges() {
      if (count > DMA_BUF_RANGES_MAX) {
        throw new VfioError('ENOMEM', `DMA_BUF: ${count} ranges, and a request holds at most ${DMA_BUF_RANGES_MAX}`);
      }
      const needed = FeatureDmaBuf.structSize + count * DmaBufRange.structSize;
      if (needed > data.length) throw new VfioError('EFAULT', `DMA_BUF: ${count} ranges need ${needed} bytes, ${data.length} were given`);
      return Array.from({ length: count }, (_, i) =>
        DmaBufRange.decode(viewOf(data), FeatureDmaBuf.structSize + i * DmaBufRange.structSize),
      );
    },
  });
  if (onDmaBuf === undefined) {
    buffer[Symbol.dispose]();
    throw new VfioError('EINVAL', 'DMA_BUF makes a buffer, and the request has no onDmaBuf to take it');
  }
  onDmaBuf(buffer);
  return 0;
}
