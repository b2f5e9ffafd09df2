/** What encoders and decoders of payloads have in common. */
import { type Command, commandName } from '../../abi/vfio-user.ts';
import { VfioError } from '../../base/errno.ts';

export const NOTHING = new Uint8Array(0);

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function tooShort(command: Command, size: number, least: number): VfioError {
  return new VfioError('EINVAL', `${commandName(command)}: ${size} bytes, ${least} at least`);
}

/** @throws VfioError EINVAL when `payload` has fewer than `least` bytes */
export function check(command: Command, payload: Uint8Array, least: number): DataView {
  if (payload.length < least) throw tooShort(command, payload.length, least);
  return viewOf(payload);
}

/** @throws VfioError EINVAL when the first word, argsz, is below `least` */
export function checkArgsz(command: Command, view: DataView, least: number): number {
  const argsz = view.getUint32(0, true);
  if (argsz < least) throw new VfioError('EINVAL', `${commandName(command)}: argsz ${argsz}, ${least} at least`);
  return argsz;
}

export function made(size: number): { payload: Uint8Array<ArrayBuffer>; view: DataView<ArrayBuffer> } {
  const payload = new Uint8Array(size);
  return { payload, view: new DataView(payload.buffer) };
}
