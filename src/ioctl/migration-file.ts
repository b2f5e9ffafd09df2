/**
 * Migration as a process sees it: the features whose structures point elsewhere or return a
 * descriptor, and the calls on that descriptor.
 *
 * @see linux/drivers/vfio/vfio_main.c, vfio_ioctl_device_feature_mig_device_state(),
 *   vfio_ioctl_device_feature_logging_report()
 */

import type { MigrationStream } from '../abi/device.ts';
import { bitmapBytes, DMA_LOGGING_MAX_RANGES, Feature, MigrationIoctl } from '../abi/vfio.ts';
import {
  FeatureDmaLoggingControl,
  FeatureDmaLoggingRange,
  FeatureDmaLoggingReport,
  FeatureMigState,
  MinSize,
  PrecopyInfo,
} from '../abi/vfio-structs.ts';
import { viewOf } from '../base/data-view.ts';
import { VfioError } from '../base/errno.ts';
import { type FeatureBytes, featureBytes } from '../device/feature-bytes.ts';
import type { DeviceFile } from '../engine/device/device-file.ts';
import { type Caller, checkArgsz, type Handler } from './caller.ts';
import { OpenFile } from './file-table.ts';
import type { UserMemoryWindow } from './process-memory.ts';
import type { UserBuffer } from './user-buffer.ts';

type FeatureHandler = (device: DeviceFile, caller: Caller, user: UserBuffer, request: FeatureBytes) => number;

const AT = MinSize.DEVICE_FEATURE;

/** The descriptor goes back in `data_fd`; -1 when there is none, also with an error. */
function deviceState(device: DeviceFile, caller: Caller, user: UserBuffer, request: FeatureBytes): number {
  const { data } = request;
  const view = viewOf(data);
  let failure: unknown = null;
  let fd = -1;
  try {
    featureBytes(device, {
      ...request,
      onDataStream: (stream) => {
        const file = new OpenFile({ kind: 'migration', stream }, () => stream.close());
        try {
          // A bad pointer is found before there is a descriptor: nothing can take one back from a
          // process.
          user.copyOut(AT, user.copyIn(AT, FeatureMigState.structSize));
          fd = caller.files.install(file, true);
        } catch (error) {
          stream.close();
          throw error;
        }
      },
    });
  } catch (error) {
    failure = error;
  }
  FeatureMigState.data_fd.set(view, 0, fd);
  user.copyOut(AT, data.subarray(0, FeatureMigState.structSize));
  if (failure !== null) throw failure;
  return 0;
}

/**
 * The ranges that can be read. For the first that cannot, the engine throws EFAULT, after the
 * errors of those before it.
 */
function startLogging(device: DeviceFile, caller: Caller, user: UserBuffer, request: FeatureBytes): number {
  const { data } = request;
  const control = FeatureDmaLoggingControl.decode(viewOf(data));
  featureBytes(device, {
    ...request,
    get ranges() {
      return readRanges(caller, control.ranges, Math.min(control.num_ranges, DMA_LOGGING_MAX_RANGES));
    },
  });
  user.copyOut(AT, data.subarray(0, FeatureDmaLoggingControl.structSize));
  return 0;
}

function readRanges(caller: Caller, address: bigint, count: number): Uint8Array {
  const size = FeatureDmaLoggingRange.structSize;
  const bytes = new Uint8Array(count * size);
  for (let i = 0; i < count; i++) {
    try {
      bytes.set(caller.memory.copyIn(address + BigInt(i * size), size), i * size);
    } catch (error) {
      if (!(error instanceof VfioError)) throw error;
      return bytes.subarray(0, i * size);
    }
  }
  return bytes;
}

/** The bitmap is looked up after all other checks of the engine. */
function reportLogging(device: DeviceFile, caller: Caller, _user: UserBuffer, request: FeatureBytes): number {
  const { length, page_size: pageSize, bitmap: address } = FeatureDmaLoggingReport.decode(viewOf(request.data));
  let window: UserMemoryWindow | null = null;
  featureBytes(device, {
    ...request,
    get bitmap() {
      window = caller.memory.window(address, bitmapBytes(length, pageSize));
      return window.bytes;
    },
  });
  (window as UserMemoryWindow | null)?.commit();
  return 0;
}

/** By feature: a feature has get, set or both. */
export const migrationFeatures: ReadonlyMap<number, FeatureHandler> = new Map([
  [Feature.MIG_DEVICE_STATE, deviceState],
  [Feature.DMA_LOGGING_START, startLogging],
  [Feature.DMA_LOGGING_REPORT, reportLogging],
]);

/**
 * VFIO_MIG_GET_PRECOPY_INFO. Without MIG_PRECOPY_INFOv2 the flags go back as they came.
 *
 * @see include/linux/vfio.h, vfio_check_precopy_ioctl()
 */
const precopyInfo: Handler<MigrationStream> = (stream, _caller, user) => {
  const view = user.viewIn(0, PrecopyInfo.structSize);
  checkArgsz(PrecopyInfo.argsz.get(view, 0), PrecopyInfo.structSize, 'MIG_GET_PRECOPY_INFO');
  const { initialBytes, dirtyBytes, flags = PrecopyInfo.flags.get(view, 0) } = stream.precopyInfo();
  PrecopyInfo.encode(view, 0, { flags, initial_bytes: BigInt(initialBytes), dirty_bytes: BigInt(dirtyBytes) });
  user.copyOut(0, new Uint8Array(view.buffer));
  return 0;
};

export const migrationIoctls: ReadonlyMap<number, Handler<MigrationStream>> = new Map([[MigrationIoctl.GET_PRECOPY_INFO, precopyInfo]]);

/** @throws VfioError as `MigrationStream.read`; EFAULT when the memory takes no byte */
export function migrationRead(stream: MigrationStream, into: Uint8Array | number, count: number): number {
  if (typeof into === 'number' || (into.length === 0 && count > 0)) throw new VfioError('EFAULT', 'the memory to read into is not mapped');
  return stream.read(into.subarray(0, count));
}

/** @throws VfioError as `MigrationStream.write`; EFAULT */
export function migrationWrite(stream: MigrationStream, from: Uint8Array | number, count: number): number {
  if (typeof from === 'number' || (from.length === 0 && count > 0)) throw new VfioError('EFAULT', 'the memory to write from is not mapped');
  return stream.write(from.subarray(0, count));
}
