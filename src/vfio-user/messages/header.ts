/** The header that every message has, and the error in the header of a reply. */

import { HEADER_BYTES, Header, HeaderFlags } from '../../abi/vfio-user.ts';
import { viewOf } from '../../base/data-view.ts';
import { type ErrnoName, errnoName, VfioError } from '../../base/errno.ts';
import { NOTHING } from './payload.ts';

/** Writes a header in place. Allocates nothing. */
export function putHeader(view: DataView, at: number, id: number, command: number, size: number, flags: number, error = 0): void {
  view.setUint16(at, id, true);
  view.setUint16(at + 2, command, true);
  view.setUint32(at + 4, size, true);
  view.setUint32(at + 8, flags, true);
  view.setUint32(at + 12, error, true);
}

/** A whole message. */
export function encodeMessage(id: number, command: number, payload: Uint8Array = NOTHING, flags = 0, error = 0): Uint8Array<ArrayBuffer> {
  const message = new Uint8Array(HEADER_BYTES + payload.length);
  putHeader(viewOf(message), 0, id, command, message.length, flags, error);
  message.set(payload, HEADER_BYTES);
  return message;
}

/** A reply that carries an error: a header alone. @param error positive errno */
export function encodeError(id: number, command: number, error: number): Uint8Array<ArrayBuffer> {
  return encodeMessage(id, command, NOTHING, HeaderFlags.REPLY | HeaderFlags.ERROR, error);
}

/**
 * The error that a reply carries; null for a success. 0, and a number that is no errno, become
 * EINVAL, as libvfio-user reads them. An errno without a name here is EIO.
 */
export function replyError(view: DataView, at: number, what: string): VfioError | null {
  if ((Header.flags.get(view, at) & HeaderFlags.ERROR) === 0) return null;
  const value = Header.error.get(view, at);
  const code: ErrnoName = value === 0 || value > 4095 ? 'EINVAL' : (errnoName(value) ?? 'EIO');
  return new VfioError(code, `${what}: the peer answered ${errnoName(value) ?? `errno ${value}`}`);
}
