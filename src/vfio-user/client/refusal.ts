/** A server's refusal of a request, as the error to throw. */
import { errnoName, VfioError } from '../../base/errno.ts';
import { decodeReason } from '../messages.ts';

/**
 * @param what was asked, and of which server
 * @param payload of the error, where a reason may be; null when there is none
 */
export function refusal(what: string, errno: number, payload: Uint8Array | null): VfioError {
  const name = errnoName(errno);
  const reason = payload === null ? null : decodeReason(payload);
  if (reason === null) return new VfioError(name ?? 'EIO', `${what}: the server answered ${name ?? `errno ${errno}`}`);
  const { message, fix } = reason;
  return new VfioError(name ?? 'EIO', `${what}: ${message}`, fix === undefined ? {} : { fix });
}
