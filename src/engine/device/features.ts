/**
 * VFIO_DEVICE_FEATURE: the dispatcher with its order of errnos (B.7), and the features that a
 * software device has: low power (B.10) and DMA_BUF. A feature that a device does not have is
 * ENOTTY, whatever else the request says.
 *
 * @see linux/drivers/vfio/vfio_main.c, vfio_ioctl_device_feature(); include/linux/vfio.h,
 * vfio_check_feature()
 */
import type { FeatureRequest } from '../../abi/device.ts';
import { VF_TOKEN_BYTES } from '../../abi/vf-token.ts';
import { Feature, FeatureFlags } from '../../abi/vfio.ts';
import { MinSize } from '../../abi/vfio-structs.ts';
import { VfioError } from '../../base/errno.ts';
import type { EngineContext } from '../context.ts';
import { sinkAt } from '../interrupts/interrupt-request.ts';
import type { DeviceMigration } from '../migration/device-migration.ts';
import { deviceState, getDataSize, getFlags, reportLogging, startLogging, stopLogging } from '../migration/features.ts';
import { type ExportingDevice, exportDmaBuf } from './dma-buf.ts';
import type { DevicePower } from './power.ts';
import type { SleepNotice } from './sleep-notice.ts';
import type { VfToken } from './vf-token.ts';

/** The device whose features a request names; `VfioPciDevice` is one. */
export interface FeatureDevice extends ExportingDevice {
  readonly ctx: Pick<EngineContext, 'log' | 'pageSize'>;
  readonly token: VfToken | null;
  readonly power: DevicePower;
  readonly openState: { readonly migration: DeviceMigration | null };
  /** @throws VfioError EBUSY while the machine sleeps */
  checkAwake(): void;
}

/** The file through which the request came. */
export interface FeatureFile {
  readonly sleepNotice: SleepNotice;
}

interface FeatureRow {
  readonly name: string;
  readonly op: 'get' | 'set' | 'both';
  /** Bytes of the fixed part of its data. */
  readonly minSize: number;
  /** The devices that have the feature. Default: all. */
  readonly has?: (device: FeatureDevice) => boolean;
  /** A set moves the device: EBUSY while the machine sleeps. */
  readonly awake?: true;
  /** Returns the bytes of `data` that a get has filled. */
  run(device: FeatureDevice, request: FeatureRequest, file: FeatureFile): number;
}

/**
 * As on Linux, where a driver that knows the device does this: a device that can be moved can
 * report its writes.
 */
const migrates = (device: FeatureDevice) => device.openState.migration !== null;

/** BUS_MASTER is for CDX: no device here has it. */
const features: ReadonlyMap<number, FeatureRow> = new Map<number, FeatureRow>([
  [
    // At any time, also while VFs are in use: a user who has a VF open keeps it (S3-11).
    Feature.PCI_VF_TOKEN,
    {
      name: 'PCI_VF_TOKEN',
      op: 'set',
      minSize: VF_TOKEN_BYTES,
      has: (device) => device.token !== null,
      run: ({ token }, { data }) => {
        token!.set(data);
        return 0;
      },
    },
  ],
  [
    Feature.LOW_POWER_ENTRY,
    {
      name: 'LOW_POWER_ENTRY',
      op: 'set',
      awake: true,
      minSize: 0,
      run: (device) => {
        device.power.enterLowPower(null);
        return 0;
      },
    },
  ],
  [
    Feature.LOW_POWER_ENTRY_WITH_WAKEUP,
    {
      name: 'LOW_POWER_ENTRY_WITH_WAKEUP',
      op: 'set',
      awake: true,
      minSize: 8,
      run: (device, { sinks }) => {
        const wakeup = sinkAt(device.bdf, device.ctx.log, sinks ?? [], 0);
        if (wakeup === null) throw new VfioError('EINVAL', `${device.bdf}: LOW_POWER_ENTRY_WITH_WAKEUP needs an eventfd to signal`);
        device.power.enterLowPower(wakeup);
        return 0;
      },
    },
  ],
  [
    Feature.LOW_POWER_EXIT,
    {
      name: 'LOW_POWER_EXIT',
      op: 'set',
      awake: true,
      minSize: 0,
      run: (device) => {
        device.power.exitLowPower();
        return 0;
      },
    },
  ],
  [
    Feature.MIGRATION,
    {
      name: 'MIGRATION',
      op: 'get',
      minSize: MinSize.FEATURE_MIGRATION,
      has: migrates,
      run: ({ openState }, request) => getFlags(openState.migration!, request),
    },
  ],
  [
    Feature.MIG_DEVICE_STATE,
    {
      name: 'MIG_DEVICE_STATE',
      op: 'both',
      awake: true,
      minSize: MinSize.FEATURE_MIG_STATE,
      has: migrates,
      run: ({ openState, host }, request) => {
        try {
          return deviceState(openState.migration!, request);
        } finally {
          // A caller that waits for answers hears that the device has stopped once its DMA in
          // flight has landed.
          const drained = request.get === true ? null : host.dma.drained();
          if (drained !== null && openState.migration!.draining) host.answerAfter(drained);
        }
      },
    },
  ],
  [
    Feature.MIG_DATA_SIZE,
    {
      name: 'MIG_DATA_SIZE',
      op: 'get',
      minSize: MinSize.FEATURE_MIG_DATA_SIZE,
      has: migrates,
      run: ({ openState }, request) => getDataSize(openState.migration!, request),
    },
  ],
  [
    Feature.DMA_LOGGING_START,
    {
      name: 'DMA_LOGGING_START',
      op: 'set',
      minSize: MinSize.FEATURE_DMA_LOGGING_CONTROL,
      has: migrates,
      run: ({ bdf, host }, request) => startLogging(bdf, host.dma, request),
    },
  ],
  [Feature.DMA_LOGGING_STOP, { name: 'DMA_LOGGING_STOP', op: 'set', minSize: 0, has: migrates, run: ({ host }) => stopLogging(host.dma) }],
  [
    Feature.DMA_LOGGING_REPORT,
    {
      name: 'DMA_LOGGING_REPORT',
      op: 'get',
      minSize: MinSize.FEATURE_DMA_LOGGING_REPORT,
      has: migrates,
      run: ({ bdf, host }, request) => reportLogging(bdf, host.dma, request),
    },
  ],
  [
    Feature.SYSTEM_SLEEP,
    {
      name: 'SYSTEM_SLEEP',
      op: 'set',
      minSize: 8,
      run: ({ bdf, ctx }, { sinks }, file) => {
        const [suspend, resume] = [0, 1].map((i) => sinkAt(bdf, ctx.log, sinks ?? [], i));
        file.sleepNotice.arm(suspend!, resume!);
        return 0;
      },
    },
  ],
  [
    Feature.SYSTEM_SLEEP_ACK,
    {
      name: 'SYSTEM_SLEEP_ACK',
      op: 'set',
      minSize: 0,
      run: (_device, { data }, file) => {
        const count = data.length < 8 ? undefined : new DataView(data.buffer, data.byteOffset).getBigUint64(0, true);
        file.sleepNotice.acknowledge(count);
        return 0;
      },
    },
  ],
  [Feature.DMA_BUF, { name: 'DMA_BUF', op: 'get', minSize: 16, run: exportDmaBuf }],
]);

/**
 * @returns bytes of `request.data` that a get has filled, 0 otherwise
 * @throws VfioError EINVAL flags that do not exist or exclude each other; ENOTTY a feature the
 * device does not have; EINVAL an operation it does not have, no operation at all, or data too
 * short
 */
export function deviceFeature(device: FeatureDevice, request: FeatureRequest, file: FeatureFile): number {
  const { bdf } = device;
  if (typeof request !== 'object' || request === null) throw new VfioError('EINVAL', `${bdf}: FEATURE without a request`);
  const { feature, data } = request;
  const probe = request.probe === true;
  const get = request.get === true;
  const set = request.set === true;
  if (!Number.isInteger(feature) || feature < 0 || feature > FeatureFlags.MASK) {
    throw new VfioError('EINVAL', `${bdf}: feature number ${String(feature)} does not fit 16 bits`);
  }
  if (!(data instanceof Uint8Array)) throw new VfioError('EFAULT', `${bdf}: data of feature ${feature} is not a Uint8Array`);
  if (get && set && !probe) throw new VfioError('EINVAL', `${bdf}: feature ${feature}: get and set exclude each other unless probed`);
  const row = features.get(feature);
  if (row === undefined || row.has?.(device) === false) throw new VfioError('ENOTTY', `${bdf} does not have feature ${feature}`);
  if ((get && row.op === 'set') || (set && row.op === 'get')) {
    throw new VfioError('EINVAL', `${bdf}: ${row.name} can only be ${row.op === 'get' ? 'got' : 'set'}`);
  }
  if (probe) return 0;
  if (!get && !set) throw new VfioError('EINVAL', `${bdf}: ${row.name}: neither get, set nor probe`);
  if (set && row.awake === true) device.checkAwake();
  if (data.length < row.minSize)
    throw new VfioError('EINVAL', `${bdf}: ${row.name} has ${row.minSize} bytes of data, ${data.length} were given`);
  return row.run(device, request, file);
}
