/**
 * The structure of VFIO_DEVICE_BIND_IOMMUFD, which is copied strictly: bytes that this kernel does
 * not know must be zero.
 *
 * @see linux/drivers/vfio/device_cdev.c, vfio_df_ioctl_bind_iommufd()
 */
import { BindIommufdFlags } from '../abi/vfio.ts';
import { DeviceBindIommufd, MinSize } from '../abi/vfio-structs.ts';
import { VfioError } from '../base/errno.ts';
import type { LinuxRules } from '../engine/linux-version.ts';
import { checkArgsz, checkFlags } from './caller.ts';
import type { UserBuffer } from './user-buffer.ts';

const WHAT = 'DEVICE_BIND_IOMMUFD';
const SIZE_MAX = 4096;

export interface BindIommufd {
  readonly iommufd: number;
  /** The address of the token; null: none is given. */
  readonly token: bigint | null;
}

/**
 * @param linux a kernel before the strict copy knows the first version of the structure only
 * @throws VfioError EINVAL too short, unknown flags, a negative descriptor; E2BIG more than a page,
 * or bytes that are not zero past the structure; EFAULT
 */
export function decodeBind(user: UserBuffer, linux: LinuxRules): BindIommufd {
  const argsz = user.viewIn(0, 4).getUint32(0, true);
  checkArgsz(argsz, MinSize.DEVICE_BIND_IOMMUFD, WHAT);
  if (!linux.strictBind) return decodeFirst(user);
  if (argsz > SIZE_MAX) throw new VfioError('E2BIG', `${WHAT}: ${argsz} bytes are more than a page`);
  const known = Math.min(argsz, DeviceBindIommufd.structSize);
  const bytes = new Uint8Array(DeviceBindIommufd.structSize);
  bytes.set(user.copyIn(0, known));
  const rest = user.copyIn(known, Math.max(user.readable(argsz) - known, 0));
  if (rest.some((byte) => byte !== 0)) throw new VfioError('E2BIG', `${WHAT}: bytes past the known structure are not 0`);
  if (user.readable(argsz) < argsz) throw new VfioError('EFAULT', `${WHAT}: its ${argsz} bytes are not all mapped`);
  const { flags, iommufd, token_uuid_ptr } = DeviceBindIommufd.decode(new DataView(bytes.buffer));
  checkFlags(flags, linux.cdevToken ? BindIommufdFlags.TOKEN : 0, WHAT);
  if (iommufd < 0) throw noDescriptor(iommufd);
  return { iommufd, token: (flags & BindIommufdFlags.TOKEN) === 0 ? null : token_uuid_ptr };
}

/** The first version of the structure. Bytes behind it are not looked at. */
function decodeFirst(user: UserBuffer): BindIommufd {
  const view = user.viewIn(0, MinSize.DEVICE_BIND_IOMMUFD);
  checkFlags(DeviceBindIommufd.flags.get(view, 0), 0, WHAT);
  const iommufd = DeviceBindIommufd.iommufd.get(view, 0);
  if (iommufd < 0) throw noDescriptor(iommufd);
  return { iommufd, token: null };
}

function noDescriptor(fd: number): VfioError {
  return new VfioError('EINVAL', `${WHAT}: ${fd} is no descriptor`);
}
