/**
 * Helpers that encoders and decoders of payloads share. A payload is the part of a message after
 * the header.
 */
import { viewOf } from '../../base/data-view.ts';
import { VfioError } from '../../base/errno.ts';

export const NOTHING = new Uint8Array(0);

export function tooShort(message: string, size: number, least: number): VfioError {
  return new VfioError('EINVAL', `${message}: ${size} bytes, ${least} at least`);
}

/** @throws VfioError EINVAL when `payload` has fewer than `least` bytes */
export function check(message: string, payload: Uint8Array, least: number): DataView {
  if (payload.length < least) throw tooShort(message, payload.length, least);
  return viewOf(payload);
}

/** @throws VfioError EINVAL when the first word, argsz, is below `least` */
export function checkArgsz(message: string, view: DataView, least: number): number {
  const argsz = view.getUint32(0, true);
  if (argsz < least) throw new VfioError('EINVAL', `${message}: argsz ${argsz}, ${least} at least`);
  return argsz;
}

export function made(size: number): { payload: Uint8Array<ArrayBuffer>; view: DataView<ArrayBuffer> } {
  const payload = new Uint8Array(size);
  return { payload, view: new DataView(payload.buffer) };
}
