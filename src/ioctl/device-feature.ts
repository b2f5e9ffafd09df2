/**
 * VFIO_DEVICE_FEATURE: the caller's memory and descriptors to a `FeatureBytes` (B.7 FEATURE
 * dispatcher).
 *
 * @see linux/drivers/vfio/vfio_main.c, vfio_ioctl_device_feature(), vfio_check_feature()
 */
import type { InterruptSink } from '../abi/device.ts';
import { Feature, FeatureFlags } from '../abi/vfio.ts';
import { DeviceFeature, DmaBufRange, FeatureDmaBuf, LowPowerEntryWithWakeup, MinSize } from '../abi/vfio-structs.ts';
import { VfioError } from '../base/errno.ts';
import { DMA_BUF_RANGES_MAX, type FeatureBytes, featureBytes } from '../device/feature-bytes.ts';
import type { DeviceFile } from '../engine/device/device-file.ts';
import { type Caller, checkArgsz, checkFlags, eventTarget, type Handler } from './caller.ts';
import { OpenFile } from './file-table.ts';
import { migrationFeatures } from './migration-file.ts';
import { OpenFlags } from './posix.ts';
import type { UserBuffer } from './user-buffer.ts';

/**
 * Bytes of data that are read from the caller: by a SET, and by a GET whose data is a question.
 * Features that are not listed read none.
 */
const inputSizes: Record<'get' | 'set', ReadonlyMap<number, number>> = {
  get: new Map<number, number>([
    [Feature.MIG_DEVICE_STATE, MinSize.FEATURE_MIG_STATE],
    [Feature.DMA_LOGGING_REPORT, MinSize.FEATURE_DMA_LOGGING_REPORT],
    [Feature.DMA_BUF, MinSize.FEATURE_DMA_BUF],
  ]),
  set: new Map<number, number>([
    [Feature.PCI_VF_TOKEN, 16],
    [Feature.MIG_DEVICE_STATE, MinSize.FEATURE_MIG_STATE],
    [Feature.LOW_POWER_ENTRY_WITH_WAKEUP, MinSize.LOW_POWER_ENTRY_WITH_WAKEUP],
    [Feature.DMA_LOGGING_START, MinSize.FEATURE_DMA_LOGGING_CONTROL],
    [Feature.SYSTEM_SLEEP, 8],
    [Feature.SYSTEM_SLEEP_ACK, 8],
  ]),
};

/**
 * No feature has more data than a page in its fixed part: argsz is the caller's word, memory is
 * ours.
 */
const DATA_MAX = 4096;

export const feature: Handler<DeviceFile> = (device, caller, user) => {
  const header = user.viewIn(0, MinSize.DEVICE_FEATURE);
  const argsz = DeviceFeature.argsz.get(header, 0);
  const flags = DeviceFeature.flags.get(header, 0);
  checkArgsz(argsz, MinSize.DEVICE_FEATURE, 'DEVICE_FEATURE');
  checkFlags(flags, FeatureFlags.MASK | FeatureFlags.GET | FeatureFlags.SET | FeatureFlags.PROBE, 'DEVICE_FEATURE');
  const get = (flags & FeatureFlags.GET) !== 0;
  const set = (flags & FeatureFlags.SET) !== 0;
  const probe = (flags & FeatureFlags.PROBE) !== 0;
  const id = flags & FeatureFlags.MASK;
  const data = new Uint8Array(Math.min(argsz - MinSize.DEVICE_FEATURE, DATA_MAX));
  let request: FeatureBytes = { feature: id, probe, get, set, data };
  if (!probe && get !== set) {
    const needed = inputSizes[get ? 'get' : 'set'].get(id) ?? 0;
    if (needed > 0 && data.length >= needed) {
      // Whether the device has the feature, and this operation of it, is said before the data is
      // looked at.
      device.feature({ feature: id, probe: true, get, set });
      data.set(user.copyIn(MinSize.DEVICE_FEATURE, needed));
      const special = migrationFeatures.get(id);
      if (special !== undefined) return special(device, caller, user, request);
      if (id === Feature.LOW_POWER_ENTRY_WITH_WAKEUP) request = { ...request, sinks: [wakeupSink(caller, data)] };
      if (id === Feature.SYSTEM_SLEEP) request = { ...request, sinks: sleepSinks(caller, data) };
    }
  }
  if (id === Feature.DMA_BUF && get && !probe && data.length >= MinSize.FEATURE_DMA_BUF) return exportDmaBuf(device, caller, user, request);
  const used = featureBytes(device, request);
  if (get && !probe) user.copyOut(MinSize.DEVICE_FEATURE, data.subarray(0, used));
  return 0;
};

/** The ranges follow the fixed part, argsz or not; the new descriptor is what ioctl returns. */
function exportDmaBuf(device: DeviceFile, caller: Caller, user: UserBuffer, request: FeatureBytes): number {
  const fixed = new DataView(request.data.buffer);
  const ranges = Math.min(FeatureDmaBuf.nr_ranges.get(fixed, 0), DMA_BUF_RANGES_MAX) * DmaBufRange.structSize;
  const bytes = Math.min(
    FeatureDmaBuf.structSize + ranges,
    user.readable(MinSize.DEVICE_FEATURE + FeatureDmaBuf.structSize + ranges) - MinSize.DEVICE_FEATURE,
  );
  const data = user.copyIn(MinSize.DEVICE_FEATURE, bytes);
  caller.files.reserve();
  let fd = -1;
  featureBytes(device, {
    ...request,
    data,
    onDmaBuf: (buffer) => {
      const closeOnExec = (FeatureDmaBuf.open_flags.get(fixed, 0) & OpenFlags.O_CLOEXEC) !== 0;
      fd = caller.files.install(new OpenFile({ kind: 'dmabuf', buffer }, () => buffer[Symbol.dispose]()), closeOnExec);
    },
  });
  return fd;
}

/** The eventfds of suspend and resume; -1: none. @throws VfioError EBADF, EINVAL */
function sleepSinks(caller: Caller, data: Uint8Array<ArrayBuffer>): (InterruptSink | null)[] {
  const view = new DataView(data.buffer);
  return [0, 4].map((at) => {
    const fd = view.getInt32(at, true);
    return fd === -1 ? null : eventTarget(caller, fd);
  });
}

function wakeupSink(caller: Caller, data: Uint8Array<ArrayBuffer>): InterruptSink {
  const fd = LowPowerEntryWithWakeup.wakeup_eventfd.get(new DataView(data.buffer), 0);
  if (fd < 0) throw new VfioError('EINVAL', `LOW_POWER_ENTRY_WITH_WAKEUP: ${fd} is not a descriptor`);
  return eventTarget(caller, fd);
}
