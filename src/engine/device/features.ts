/**
 * Which features a device has, and the order of errnos in which the kernel looks (B.7). A device
 * answers ENOTTY for a feature that it does not have, whatever else the request says.
 *
 * @see linux/drivers/vfio/vfio_main.c, vfio_ioctl_device_feature(); include/linux/vfio.h,
 * vfio_check_feature()
 */
import type { FeatureRequest } from '../../abi/device.ts';
import type { EventDetails } from '../../abi/event.ts';
import { Feature, FeatureFlags, MigrationFlags } from '../../abi/vfio.ts';
import { VfioError } from '../../base/errno.ts';
import type { LinuxRules } from '../linux-version.ts';
import type { DeviceMigration } from '../migration/device-migration.ts';
import type { VfToken } from './vf-token.ts';

/** The device whose features a request names; `VfioPciDevice` is one. */
export interface FeatureDevice {
  readonly bdf: string;
  readonly ctx: { readonly linux: LinuxRules };
  readonly token: VfToken | null;
  readonly openState: { readonly migration: DeviceMigration | null };
  /** @throws VfioError EBUSY while the machine sleeps */
  checkAwake(): void;
}

export type FeatureOp = 'get' | 'set';

interface FeatureRow {
  readonly name: string;
  readonly op: FeatureOp | 'both';
  /** The member of `Device` that is this feature. */
  readonly member: string;
  /** Whether the device has it. Default: every device has. */
  readonly has?: (device: FeatureDevice) => boolean;
  /** Without it the device answers EINVAL, whatever the request asks. Default: none. */
  readonly needs?: { readonly what: string; met(device: FeatureDevice): boolean };
  /** A set moves the device: EBUSY while the machine sleeps. */
  readonly awake?: true;
}

/**
 * As on Linux, where a driver that knows the device does this: a device that can be moved can
 * report its writes.
 */
const migrates = (device: FeatureDevice) => device.openState.migration !== null;
const hasDmaBuf = (device: FeatureDevice) => device.ctx.linux.dmaBuf;
const hasPrecopyV2 = (device: FeatureDevice) => device.ctx.linux.precopyInfoV2;
const precopies = {
  what: 'PRE_COPY',
  met: ({ openState }: FeatureDevice) => ((openState.migration?.flags ?? 0) & MigrationFlags.PRE_COPY) !== 0,
};
const hasToken = (device: FeatureDevice) => device.token !== null;

/** BUS_MASTER is for CDX: no device here has it. */
const rows: ReadonlyMap<number, FeatureRow> = new Map<number, FeatureRow>([
  [Feature.PCI_VF_TOKEN, { name: 'PCI_VF_TOKEN', op: 'set', member: 'setVfToken', has: hasToken }],
  [Feature.LOW_POWER_ENTRY, { name: 'LOW_POWER_ENTRY', op: 'set', member: 'lowPower', awake: true }],
  [Feature.LOW_POWER_ENTRY_WITH_WAKEUP, { name: 'LOW_POWER_ENTRY_WITH_WAKEUP', op: 'set', member: 'lowPower', awake: true }],
  [Feature.LOW_POWER_EXIT, { name: 'LOW_POWER_EXIT', op: 'set', member: 'lowPower', awake: true }],
  [Feature.MIGRATION, { name: 'MIGRATION', op: 'get', member: 'migration', has: migrates }],
  [Feature.MIG_DEVICE_STATE, { name: 'MIG_DEVICE_STATE', op: 'both', member: 'migration', has: migrates, awake: true }],
  [Feature.MIG_DATA_SIZE, { name: 'MIG_DATA_SIZE', op: 'get', member: 'migration', has: migrates }],
  [
    Feature.MIG_PRECOPY_INFO_V2,
    { name: 'MIG_PRECOPY_INFOv2', op: 'set', member: 'migration.readPrecopyFlags', has: hasPrecopyV2, needs: precopies },
  ],
  [Feature.DMA_LOGGING_START, { name: 'DMA_LOGGING_START', op: 'set', member: 'dmaLogging', has: migrates }],
  [Feature.DMA_LOGGING_STOP, { name: 'DMA_LOGGING_STOP', op: 'set', member: 'dmaLogging', has: migrates }],
  [Feature.DMA_LOGGING_REPORT, { name: 'DMA_LOGGING_REPORT', op: 'get', member: 'dmaLogging', has: migrates }],
  [Feature.SYSTEM_SLEEP, { name: 'SYSTEM_SLEEP', op: 'set', member: 'sleepNotice' }],
  [Feature.SYSTEM_SLEEP_ACK, { name: 'SYSTEM_SLEEP_ACK', op: 'set', member: 'sleepNotice' }],
  [Feature.DMA_BUF, { name: 'DMA_BUF', op: 'get', member: 'exportDmaBuf', has: hasDmaBuf }],
]);

/** Changes of the migration state, and VF tokens: they have events of their own. */
const seenElsewhere: readonly number[] = [Feature.MIG_DEVICE_STATE, Feature.PCI_VF_TOKEN];

/** The event of a request; null where it has another one, or names no feature. */
export function featureEvent(request: FeatureRequest): EventDetails<'feature'> | null {
  if (typeof request !== 'object' || request === null || seenElsewhere.includes(request.feature)) return null;
  const { feature, probe, set } = request;
  if (typeof feature !== 'number') return null;
  const name = rows.get(feature)?.name ?? `feature ${feature}`;
  return { name, op: probe === true ? 'probe' : set === true ? 'set' : 'get' };
}

/**
 * Before a member is used.
 *
 * @throws VfioError ENOTTY a feature the device does not have; EINVAL without a thing that the
 * feature needs; EBUSY while the machine sleeps
 */
export function checkFeature(device: FeatureDevice, feature: number, op: FeatureOp): void {
  const row = rowOf(device, feature);
  if (op === 'set' && row.awake === true) device.checkAwake();
}

/**
 * `Device.feature`: a probe. Every feature here is a member of `Device`, so nothing else is done.
 *
 * @throws VfioError EINVAL flags that do not exist or exclude each other; ENOTTY a feature the
 * device does not have; EINVAL an operation it does not have, or no probe
 */
export function probeFeature(device: FeatureDevice, request: FeatureRequest): number {
  const { bdf } = device;
  if (typeof request !== 'object' || request === null) throw new VfioError('EINVAL', `${bdf}: FEATURE without a request`);
  const { feature, data } = request;
  const probe = request.probe === true;
  const get = request.get === true;
  const set = request.set === true;
  if (!Number.isInteger(feature) || feature < 0 || feature > FeatureFlags.MASK) {
    throw new VfioError('EINVAL', `${bdf}: feature number ${String(feature)} does not fit 16 bits`);
  }
  if (data !== undefined && !(data instanceof Uint8Array))
    throw new VfioError('EFAULT', `${bdf}: data of feature ${feature} is not a Uint8Array`);
  if (get && set && !probe) throw new VfioError('EINVAL', `${bdf}: feature ${feature}: get and set exclude each other, except in a probe`);
  const row = rowOf(device, feature);
  if ((get && row.op === 'set') || (set && row.op === 'get')) {
    throw new VfioError('EINVAL', `${bdf}: ${row.name} has no ${get && row.op === 'set' ? 'get' : 'set'}`);
  }
  if (probe) return 0;
  if (!get && !set) throw new VfioError('EINVAL', `${bdf}: ${row.name}: neither get, set nor probe`);
  if (set && row.awake === true) device.checkAwake();
  throw new VfioError('EINVAL', `${bdf}: ${row.name} with ${data?.length ?? 0} bytes of data`, {
    fix: `Use \`${row.member}\` of the device.`,
  });
}

function rowOf(device: FeatureDevice, feature: number): FeatureRow {
  const row = rows.get(feature);
  if (row === undefined || row.has?.(device) === false) throw new VfioError('ENOTTY', `${device.bdf} does not have feature ${feature}`);
  if (row.needs?.met(device) === false) throw new VfioError('EINVAL', `${device.bdf} has no ${row.needs.what}, which ${row.name} is about`);
  return row;
}
