/**
 * Requests whose first word is their size, as iommufd's are. A request may be shorter than the
 * structure that this kernel knows (the rest is zero then), down to its first version; behind the
 * structure there may only be zeroes.
 *
 * @see linux/drivers/iommu/iommufd/main.c, iommufd_fops_ioctl(); copy_struct_from_user()
 */
import { VfioError } from '../base/errno.ts';
import type { UserBuffer } from './user-buffer.ts';

/** The most bytes that are looked at: the first page. */
const LOOKED_AT = 4096;

export interface SizedRequest {
  /** The structure, zeroes where the caller's is shorter. */
  readonly view: DataView<ArrayBuffer>;
  /** Write the structure back, as far as the caller's goes. */
  answer(): void;
}

/**
 * @param least the end of the structure's first version
 * @param known the bytes of the structure
 * @throws VfioError EFAULT; EINVAL when it is shorter than its first version; E2BIG when bytes that
 * this kernel does not know are not zero
 */
export function sizedRequest(user: UserBuffer, least: number, known: number, what: string): SizedRequest {
  const size = user.viewIn(0, 4).getUint32(0, true);
  if (size < least) throw new VfioError('EINVAL', `${what}: its size is ${size}, at least ${least} are needed`);
  const own = Math.min(size, known);
  if (size > known) {
    const there = user.readable(Math.min(size, Math.max(LOOKED_AT, known)));
    const tail = user.copyIn(known, Math.max(there - known, 0));
    if (tail.some((byte) => byte !== 0))
      throw new VfioError('E2BIG', `${what}: ${size} bytes, of which this kernel knows ${known}, and the others are not zero`);
  }
  const bytes = new Uint8Array(known);
  bytes.set(user.copyIn(0, own));
  return { view: new DataView(bytes.buffer), answer: () => user.copyOut(0, bytes.subarray(0, own)) };
}
