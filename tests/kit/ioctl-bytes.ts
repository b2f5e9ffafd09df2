/** Arguments of ioctls as bytes, and answers as words: for tests of the ioctl door. */
import { errnoName } from '../../src/base/errno.ts';

interface Encoder<V> {
  readonly structSize: number;
  encode(view: DataView, base: number, values: V): void;
}

/** The structure with `values`, and the bytes after it. */
export function bytesOf<V>(layout: Encoder<V>, values: V, behind: ArrayLike<number> = []): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(layout.structSize + behind.length);
  layout.encode(new DataView(bytes.buffer), 0, values);
  bytes.set(behind, layout.structSize);
  return bytes;
}

/** Descriptors as they follow a structure. */
export function fdBytes(...fds: number[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new Int32Array(fds).buffer);
}

/** The errno's name for a negative result, else the result. */
export function said(result: number): string | number {
  return result < 0 ? (errnoName(result) ?? `errno ${-result}`) : result;
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
