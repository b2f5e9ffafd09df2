/**
 * The requests of a group file.
 *
 * @see linux/drivers/vfio/group.c, vfio_group_fops_unl_ioctl()
 */
import { GroupFlags, GroupIoctl } from '../abi/vfio.ts';
import { GroupStatus, MinSize } from '../abi/vfio-structs.ts';
import { VfioError } from '../base/errno.ts';
import type { DeviceFile } from '../engine/device/device-file.ts';
import type { GroupFile } from '../engine/machine/group-file.ts';
import { checkArgsz, describeFile, type Handler } from './caller.ts';
import { OpenFile } from './file-table.ts';

type GroupHandler = Handler<GroupFile>;

/** B.4 GET_STATUS: EFAULT, argsz EINVAL, group gone ENODEV. */
const getStatus: GroupHandler = (group, _caller, user) => {
  const view = user.viewIn(0, MinSize.GROUP_STATUS);
  checkArgsz(GroupStatus.argsz.get(view, 0), MinSize.GROUP_STATUS, 'GROUP_GET_STATUS');
  GroupStatus.flags.set(view, 0, group.status());
  user.copyOut(0, new Uint8Array(view.buffer));
  return 0;
};

/**
 * B.4 SET_CONTAINER: EFAULT, EBADF, then the group's own state, then the kind of the given file.
 */
const setContainer: GroupHandler = (group, caller, user) => {
  const fd = user.viewIn(0, 4).getInt32(0, true);
  const file = caller.files.get(fd);
  if (file.body.kind === 'iommufd') {
    group.setIommufd(file.body.iommufd);
    return 0;
  }
  if (file.body.kind !== 'container') {
    if ((group.status() & GroupFlags.CONTAINER_SET) !== 0) throw new VfioError('EINVAL', 'the group has a container already');
    throw new VfioError('EBADFD', `descriptor ${fd} is not a container but ${describeFile(file)}`);
  }
  group.setContainer(file.body.container);
  return 0;
};

const unsetContainer: GroupHandler = (group) => {
  group.unsetContainer();
  return 0;
};

/**
 * Programs do not know SYSTEM_SLEEP. Unless a program has armed it, the engine announces suspend by
 * REQ, the one eventfd by which the host asks something of a program, and the machine does not wait
 * for the program (S2-42).
 */
export function hearOfSleep(device: DeviceFile): void {
  device.on(
    (event) => {
      if (event.kind !== 'suspend') return;
      if (!device.hearsOfSleep) device.device.openState.interrupts.signalRequest();
      event.acknowledge();
    },
    ['suspend'],
  );
}

/** B.4 GET_DEVICE_FD: the string may take a page, NUL included. The descriptor closes on exec. */
const getDeviceFd: GroupHandler = (group, caller, user) => {
  const name = user.stringIn(caller.process.pageSize);
  const device = group.openDevice(name, caller.process, () => caller.files.reserve());
  device.keepAfterExit();
  hearOfSleep(device);
  return caller.files.install(new OpenFile({ kind: 'device', device }, () => device.close()), true);
};

export const groupIoctls: ReadonlyMap<number, GroupHandler> = new Map([
  [GroupIoctl.GET_STATUS, getStatus],
  [GroupIoctl.SET_CONTAINER, setContainer],
  [GroupIoctl.UNSET_CONTAINER, unsetContainer],
  [GroupIoctl.GET_DEVICE_FD, getDeviceFd],
]);
