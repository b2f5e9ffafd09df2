/**
 * Captures that Wireshark reads: pcapng blocks with one message each, link type USER0.
 * tools/vfio-user.lua dissects them.
 *
 * @see draft-ietf-opsawg-pcapng: section header, interface description and enhanced packet blocks
 */

import { printable } from '../../base/printable.ts';

/** LINKTYPE_USER0: for private use. */
export const LINKTYPE_USER0 = 147;
/**
 * Longest packet that Wireshark takes (WTAP_MAX_PACKET_SIZE_STANDARD). Of longer messages the
 * beginning is kept.
 */
export const SNAP_BYTES = 262_144;

const Block = { SECTION: 0x0a0d0d0a, INTERFACE: 1, PACKET: 6 } as const;
const Option = { END: 0, COMMENT: 1, PACKET_FLAGS: 2, IF_NAME: 2, IF_TSRESOL: 9, SHB_USERAPPL: 4 } as const;

/** From the server's side: what a client sends comes in. */
export type Direction = 'to server' | 'to client';

/**
 * The blocks before the first packet: who wrote it, and one interface whose times are in
 * nanoseconds.
 */
export function captureHeader(name: string): Uint8Array {
  const section = new Uint8Array(16);
  const view = new DataView(section.buffer);
  view.setUint32(0, 0x1a2b3c4d, true);
  view.setUint16(4, 1, true);
  // Its length is not known beforehand.
  view.setBigInt64(8, -1n, true);
  const interfaceBody = new Uint8Array(8);
  const at = new DataView(interfaceBody.buffer);
  at.setUint16(0, LINKTYPE_USER0, true);
  at.setUint32(4, SNAP_BYTES, true);
  return concat([
    block(Block.SECTION, [section, text(Option.SHB_USERAPPL, 'vfio-ts'), option(Option.END, [])]),
    block(Block.INTERFACE, [interfaceBody, text(Option.IF_NAME, name), option(Option.IF_TSRESOL, [9]), option(Option.END, [])]),
  ]);
}

/**
 * @param timeNs nanoseconds since 1970
 * @param comment shown beside the packet: descriptors, which do not travel as bytes
 */
export function capturedPacket(message: Uint8Array, direction: Direction, timeNs: bigint, comment = ''): Uint8Array {
  const kept = message.subarray(0, SNAP_BYTES);
  const head = new Uint8Array(20);
  const view = new DataView(head.buffer);
  view.setUint32(4, Number(timeNs >> 32n), true);
  view.setUint32(8, Number(timeNs & 0xffff_ffffn), true);
  view.setUint32(12, kept.length, true);
  view.setUint32(16, message.length, true);
  const options = [option(Option.PACKET_FLAGS, [direction === 'to server' ? 1 : 2, 0, 0, 0])];
  if (comment !== '') options.push(text(Option.COMMENT, comment));
  options.push(option(Option.END, []));
  return block(Block.PACKET, [head, padded(kept), ...options]);
}

function block(type: number, parts: readonly Uint8Array[]): Uint8Array {
  const body = concat(parts);
  const out = new Uint8Array(body.length + 12);
  const view = new DataView(out.buffer);
  view.setUint32(0, type, true);
  view.setUint32(4, out.length, true);
  out.set(body, 8);
  view.setUint32(out.length - 4, out.length, true);
  return out;
}

function option(code: number, value: readonly number[] | Uint8Array): Uint8Array {
  const out = new Uint8Array(4 + Math.ceil(value.length / 4) * 4);
  const view = new DataView(out.buffer);
  view.setUint16(0, code, true);
  view.setUint16(2, value.length, true);
  out.set(value, 4);
  return out;
}

const text = (code: number, value: string) => option(code, new TextEncoder().encode(printable(value)).subarray(0, 0xffff));

function padded(bytes: Uint8Array): Uint8Array {
  if (bytes.length % 4 === 0) return bytes;
  const out = new Uint8Array(Math.ceil(bytes.length / 4) * 4);
  out.set(bytes);
  return out;
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, p) => sum + p.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
