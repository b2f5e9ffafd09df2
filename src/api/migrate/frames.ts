/**
 * The frames of a move: a head of 12 bytes {payload size u32, kind u32, CRC32C u32}, little-endian,
 * then the payload. The checksum covers the head's first 8 bytes and the payload. docs/moving.md
 * has the whole conversation.
 */

import { VfioError } from '../../base/errno.ts';
import { crc32c } from '../../sys/crc32c.ts';

export const Kind = {
  /** Client of the door: its request. JSON. */
  HELLO: 1,
  /** Server: the answer to a request. JSON. */
  STATUS: 2,
  /** Source: the device to move. JSON. */
  OFFER: 3,
  /** Destination: ready for the device. JSON. */
  READY: 4,
  /** Source: further pieces of memory, by number. */
  EXTENTS: 5,
  /** Source: contents of pages. */
  PAGES: 6,
  /** Source: pages that are all zeroes again. */
  ZEROES: 7,
  /** Source: the device's own data, as its migration stream gives it. */
  DEVICE: 8,
  /** Source: progress. JSON. */
  PROGRESS: 9,
  /** Source: the device stands still. JSON. */
  STOPPED: 10,
  /** Source: the I/O addresses at which the device reaches each memory. */
  MAPPINGS: 11,
  /** Source: the end of the data. JSON. */
  END: 12,
  /** Destination: all data has arrived, and the device has loaded it and stands still. JSON. */
  LOADED: 13,
  /** Source: the device is the destination's, and from here on does not run at the source. JSON. */
  GO: 14,
  /** Destination: the device runs. JSON. */
  RUNNING: 15,
  /** Source, at the very end: figures. JSON. */
  FIGURES: 16,
  /** Either side: refusal. JSON {code, message, fix}. */
  ABORT: 17,
  /** Administrator: a request. JSON, docs/admin.md. */
  ADMIN: 18,
  /** Server: the result of the request. JSON. */
  DONE: 19,
  /** Client of a machine: a program wants to run on it. JSON, api/exec-desk.ts. */
  PROGRAM: 20,
  /** Server: the machine as the program is to see it. JSON. */
  MOUNTS: 21,
  /** Client: the program has started; the listener of its filter comes with this frame. JSON. */
  LISTENER: 22,
} as const;
export type Kind = (typeof Kind)[keyof typeof Kind];

const names = new Map<number, string>(Object.entries(Kind).map(([name, kind]) => [kind, name]));

export const kindName = (kind: number): string => names.get(kind) ?? `kind ${kind}`;

export const HEAD_BYTES = 12;
/** The largest payload. */
export const PAYLOAD_MAX = 1 << 20;
/** The largest JSON payload of most kinds. */
const JSON_MAX = 65_536;
/** The largest status of a whole machine, which may have hundreds of functions. */
const whole = new Set<number>([Kind.STATUS, Kind.DONE, Kind.MOUNTS]);

export interface Frame {
  readonly kind: number;
  /** Valid until the next frame is received. */
  readonly payload: Uint8Array;
}

/**
 * Put the head before a payload that is in `frame` from byte 12 on.
 *
 * @returns bytes of the frame
 */
export function sealFrame(frame: Uint8Array, kind: number, size: number): number {
  const view = new DataView(frame.buffer, frame.byteOffset, HEAD_BYTES);
  view.setUint32(0, size, true);
  view.setUint32(4, kind, true);
  view.setUint32(8, crc32c(frame, HEAD_BYTES, HEAD_BYTES + size, crc32c(frame, 0, 8)), true);
  return HEAD_BYTES + size;
}

/**
 * Bytes of the frame that begins at `at`; 0 while its head is incomplete.
 *
 * @throws VfioError EPROTO for a head that is not a frame's
 */
export function frameSize(bytes: Uint8Array, at: number, end: number): number {
  if (end - at < HEAD_BYTES) return 0;
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, HEAD_BYTES);
  const size = view.getUint32(0, true);
  const kind = view.getUint32(4, true);
  if (size > PAYLOAD_MAX || !names.has(kind))
    throw new VfioError('EPROTO', `a frame of kind ${kind} with ${size} bytes is not part of a move`);
  return HEAD_BYTES + size;
}

/**
 * A whole frame.
 *
 * @throws VfioError EPROTO when the checksum is wrong
 */
export function openFrame(bytes: Uint8Array, at: number, size: number): Frame {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, HEAD_BYTES);
  const kind = view.getUint32(4, true);
  if (crc32c(bytes, at + HEAD_BYTES, at + size, crc32c(bytes, at, at + 8)) !== view.getUint32(8, true)) {
    throw new VfioError('EPROTO', `a frame ${kindName(kind)} was changed in transit: its checksum is wrong`);
  }
  return { kind, payload: bytes.subarray(at + HEAD_BYTES, at + size) };
}

/** @throws VfioError EFBIG for more than a frame holds */
export function encodeJson(body: object): Uint8Array {
  const bytes = new TextEncoder().encode(JSON.stringify(body));
  if (bytes.length > PAYLOAD_MAX) throw new VfioError('EFBIG', `an answer of ${bytes.length} bytes; a frame holds ${PAYLOAD_MAX}`);
  return bytes;
}

/** @throws VfioError EPROTO for a payload that is not a JSON object */
export function decodeJson({ kind, payload }: Frame): Record<string, unknown> {
  const what = `a frame ${kindName(kind)}`;
  if (payload.length > JSON_MAX && !whole.has(kind)) throw new VfioError('EPROTO', `${what} of ${payload.length} bytes`);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(payload));
  } catch (cause) {
    throw new VfioError('EPROTO', `${what} cannot be read`, { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new VfioError('EPROTO', `${what} is not an object`);
  return value as Record<string, unknown>;
}
