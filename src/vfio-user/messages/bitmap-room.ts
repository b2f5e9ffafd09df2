/** Room for a bitmap of dirty pages in a reply. */
import { VfioError } from '../../base/errno.ts';

/**
 * @param fixed bytes before the bitmap
 * @param size of the bitmap, in bytes
 * @throws VfioError EINVAL when argsz, or the reply, has no room for it
 */
export function checkBitmapRoom(what: string, argsz: number, fixed: number, size: bigint, maxBytes: number): void {
  if (size > BigInt(maxBytes - fixed)) throw new VfioError('EINVAL', `${what}: a bitmap of ${size} bytes; at most ${maxBytes - fixed} fit`);
  if (BigInt(argsz - fixed) < size) throw new VfioError('EINVAL', `${what}: argsz ${argsz} leaves no room for a bitmap of ${size} bytes`);
}
