/**
 * Reset of a whole bus or slot: the devices that it hits (HOT_RESET_INFO), the groups that a caller
 * must own (HOT_RESET), and the retry for devices that could not be reset alone when they were
 * closed (S2-31).
 *
 * @see linux/drivers/vfio/pci/vfio_pci_core.c, vfio_pci_dev_set_hot_reset(),
 * vfio_pci_dev_set_try_reset()
 */
import type { HotResetDependent } from '../../abi/device.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import type { EngineContext } from '../context.ts';
import type { BoundDevice, HostedFunction } from './hosted-function.ts';
import { checkLink, quiesce, seenReset } from './reset.ts';

/** A group file as HOT_RESET takes it: proof that the caller owns the devices of that group. */
export interface OwnedGroup {
  readonly group: { readonly id: number } | null;
}

/** An iommufd, as proof that its user owns the devices that are bound to it. */
export interface DeviceIds {
  /**
   * The number of the device; 0 when another device of its group is bound; -1 otherwise.
   *
   * @see linux/drivers/vfio/iommufd.c, vfio_iommufd_get_dev_id()
   */
  idOf(bdf: string, group: object | null): number;
}

/**
 * vfio's device set: the devices under vfio-pci whose resets concern each other. On a root bus a
 * device is alone in it.
 */
function deviceSet(device: BoundDevice): readonly BoundDevice[] {
  const { fn } = device;
  // A VF is alone in its set even behind a bridge, so that no bus with VFs on it can be reset
  // through vfio.
  if (fn.inBusReset() === null || device.isVirtualFunction) return [device];
  return fn
    .onSameBus()
    .filter((f) => f.physical == null)
    .map((f) => f.vfio)
    .filter((d) => d !== null);
}

function membersOrEnodev(device: BoundDevice): readonly HostedFunction[] {
  const members = device.fn.inBusReset();
  if (members === null) {
    throw new VfioError('ENODEV', `${device.bdf} sits on a root bus, which cannot be reset`, { fix: 'Put the device behind a root port.' });
  }
  return members;
}

/**
 * @param ids the iommufd that the device is bound to; null for a device of a group file
 * @throws VfioError ENODEV on a root bus; EPERM when one of the devices has no group
 */
export function hotResetInfo(device: BoundDevice, ids: DeviceIds | null): readonly HotResetDependent[] {
  const set = deviceSet(device);
  return membersOrEnodev(device).map((fn) => {
    if (fn.group === null) throw new VfioError('EPERM', `${fn.bdf} is on the bus of ${device.bdf} and has no group`);
    const found = { bdf: fn.bdf, groupId: fn.group.id };
    if (ids === null) return found;
    return { ...found, deviceId: set.some((d) => d.fn === fn) ? ids.idOf(fn.bdf, fn.group) : -1 };
  });
}

/**
 * The checks of PCI_HOT_RESET before it looks at a descriptor.
 *
 * @param byIds whether the device is bound to an iommufd, which says what its user owns
 * @throws VfioError EINVAL for no group file, or more group files than devices; for any group file
 * of a device that is bound to an iommufd; ENODEV on a root bus
 */
export function checkHotReset(device: BoundDevice, count: number, byIds = false): void {
  if (byIds && count !== 0) {
    throw new VfioError('EINVAL', `hot reset of ${device.bdf}, which is bound to an iommufd, takes no files; ${String(count)} given`);
  }
  if (!byIds && (!Number.isInteger(count) || count <= 0)) {
    throw new VfioError('EINVAL', `hot reset of ${device.bdf} needs the group files that own its bus; ${String(count)} given`);
  }
  const members = membersOrEnodev(device);
  if (count > members.length) {
    throw new VfioError('EINVAL', `hot reset of ${device.bdf}: ${count} group files for ${members.length} devices`);
  }
}

/**
 * @throws VfioError EINVAL, ENODEV as `checkHotReset`; EINVAL when a device on the bus is not
 * under vfio-pci, or its group is not among `groups`, or it is not of the iommufd `ids`; EBUSY
 * when one of the devices is being reset; EAGAIN when the device lock of one is held; ENOTTY from
 * `checkLink`: the reset has happened
 */
export function hotReset(device: BoundDevice, groups: readonly OwnedGroup[], ids: DeviceIds | null, ctx: EngineContext): void {
  checkHotReset(device, Array.isArray(groups) ? groups.length : 0, ids !== null);
  const members = membersOrEnodev(device);
  const set = deviceSet(device);
  for (const fn of members) {
    if (!set.some((d) => d.fn === fn)) {
      throw new VfioError('EINVAL', `hot reset of ${device.bdf} would hit ${fn.bdf}, which is not under vfio-pci`, {
        culprits: [{ bdf: fn.bdf, driver: fn.driver, why: 'it would be reset too', fix: fn.bindCommand('vfio-pci') }],
      });
    }
  }
  for (const { fn } of set) {
    if (ids !== null) {
      if (ids.idOf(fn.bdf, fn.group) >= 0) continue;
      throw new VfioError('EINVAL', `hot reset of ${device.bdf} would hit ${fn.bdf}, which is not bound to the same iommufd`, {
        culprits: [{ bdf: fn.bdf, driver: fn.driver, why: 'it would be reset too', fix: `bind ${fn.bdf} to the same iommufd` }],
      });
    }
    if (!groups.some((file) => file?.group != null && file.group.id === fn.group?.id)) {
      throw new VfioError('EINVAL', `hot reset of ${device.bdf} would hit ${fn.bdf} of group ${fn.group?.id}, which was not given`, {
        culprits: [{ bdf: fn.bdf, driver: fn.driver, why: 'it would be reset too', fix: `open group ${fn.group?.id} and pass it` }],
      });
    }
  }
  for (const other of set) {
    if (other.resetting) throw new VfioError('EBUSY', `${other.bdf} is being reset`);
  }
  resetBus(members, set, ctx);
}

/**
 * Reset all of `members`; the devices of `set` hear of the reset before and after it.
 *
 * @throws VfioError EAGAIN, nothing changed; ENOTTY from `checkLink`: the reset has happened
 */
export function resetBus(members: readonly HostedFunction[], set: readonly BoundDevice[], ctx: EngineContext): void {
  using locks = new Cleanup();
  for (const fn of members) locks.use(fn.host.lock('a bus reset'));
  ctx.faults.step('device.bus-reset');
  for (const device of set) device.beginReset();
  try {
    const saved = members.map((fn) => fn.config.save());
    for (const fn of members) quiesce(fn);
    // A PF's reset takes its VFs along.
    for (const fn of members) if (fn.physical == null) seenReset(fn, 'bus', () => fn.host.functionReset(), 'bus');
    for (const [i, fn] of members.entries()) fn.config.restore(saved[i]!);
    checkLink(members[0]!);
  } finally {
    for (const device of set) device.endReset();
  }
}

/**
 * The last device of its set was closed. When one of them still needs a reset, the bus may be reset
 * now that it has no user. A failure is no error: the devices still need the reset.
 */
export function tryResetSet(device: BoundDevice, ctx: EngineContext): void {
  const set = deviceSet(device);
  if (!set.some((d) => d.needsReset) || set.some((d) => d.openCount > 0)) return;
  const members = device.fn.inBusReset();
  if (members === null || !members.every((fn) => set.some((d) => d.fn === fn))) return;
  try {
    resetBus(members, set, ctx);
  } catch (error) {
    device.fn.host.events.note('info', 'bus reset', `${device.bdf}: its bus could not be reset: ${String(error)}`);
    return;
  }
  for (const each of set) each.needsReset = false;
}
