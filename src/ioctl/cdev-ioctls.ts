/**
 * The requests that only files of /dev/vfio/devices have: BIND, ATTACH and DETACH.
 *
 * @see linux/drivers/vfio/device_cdev.c
 */
import { VF_TOKEN_BYTES } from '../abi/vf-token.ts';
import { DeviceIoctl, IommufdPtFlags } from '../abi/vfio.ts';
import { DeviceAttachIommufdPt, DeviceBindIommufd, DeviceDetachIommufdPt, MinSize } from '../abi/vfio-structs.ts';
import { VfioError } from '../base/errno.ts';
import type { CdevFile } from '../engine/machine/cdev-file.ts';
import { decodeBind } from './bind-iommufd.ts';
import { checkArgsz, checkFlags, describeFile, type Handler } from './caller.ts';
import { hearOfSleep } from './group-ioctls.ts';
import type { UserBuffer } from './user-buffer.ts';

type CdevHandler = Handler<CdevFile>;

const bind: CdevHandler = (cdev, caller, user) => {
  const { iommufd: fd, token } = decodeBind(user, cdev.linux);
  const devid = cdev.bind({
    process: caller.process,
    token: token === null ? undefined : () => caller.memory.copyIn(token, VF_TOKEN_BYTES),
    iommufd: () => {
      const file = caller.files.get(fd);
      if (file.body.kind === 'iommufd') return file.body.iommufd;
      throw new VfioError('EBADFD', `descriptor ${fd} is not an iommufd but ${describeFile(file)}`, { fix: 'Open /dev/iommu.' });
    },
  });
  cdev.device.keepAfterExit();
  hearOfSleep(cdev.device);
  const view = user.viewIn(0, DeviceBindIommufd.out_devid.end);
  DeviceBindIommufd.out_devid.set(view, 0, devid);
  user.copyOut(0, new Uint8Array(view.buffer));
  return 0;
};

/** @returns the PASID, which the newer structure has behind the older one; null without the flag */
function pasidOf(
  user: UserBuffer,
  argsz: number,
  flags: number,
  field: { end: number; get(view: DataView, at: number): number },
  what: string,
): number | null {
  checkFlags(flags, IommufdPtFlags.PASID, what);
  if ((flags & IommufdPtFlags.PASID) === 0) return null;
  checkArgsz(argsz, field.end, what);
  return field.get(user.viewIn(0, field.end), 0);
}

const attach: CdevHandler = (cdev, _caller, user) => {
  // Before BIND there is no other request.
  void cdev.device;
  const what = 'DEVICE_ATTACH_IOMMUFD_PT';
  const view = user.viewIn(0, MinSize.DEVICE_ATTACH_IOMMUFD_PT);
  const [argsz, flags] = [DeviceAttachIommufdPt.argsz.get(view, 0), DeviceAttachIommufdPt.flags.get(view, 0)];
  checkArgsz(argsz, MinSize.DEVICE_ATTACH_IOMMUFD_PT, what);
  const pasid = pasidOf(user, argsz, flags, DeviceAttachIommufdPt.pasid, what);
  DeviceAttachIommufdPt.pt_id.set(view, 0, cdev.attach(DeviceAttachIommufdPt.pt_id.get(view, 0), pasid));
  user.copyOut(0, new Uint8Array(view.buffer));
  return 0;
};

const detach: CdevHandler = (cdev, _caller, user) => {
  void cdev.device;
  const what = 'DEVICE_DETACH_IOMMUFD_PT';
  const view = user.viewIn(0, MinSize.DEVICE_DETACH_IOMMUFD_PT);
  const [argsz, flags] = [DeviceDetachIommufdPt.argsz.get(view, 0), DeviceDetachIommufdPt.flags.get(view, 0)];
  checkArgsz(argsz, MinSize.DEVICE_DETACH_IOMMUFD_PT, what);
  cdev.detach(pasidOf(user, argsz, flags, DeviceDetachIommufdPt.pasid, what));
  return 0;
};

export const cdevIoctls: ReadonlyMap<number, CdevHandler> = new Map([
  [DeviceIoctl.BIND_IOMMUFD, bind],
  [DeviceIoctl.ATTACH_IOMMUFD_PT, attach],
  [DeviceIoctl.DETACH_IOMMUFD_PT, detach],
]);
