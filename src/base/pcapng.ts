/**
 * Blocks of a pcapng file, which Wireshark reads. The length of a section is not stated, so a
 * capture can be written as it comes, and read while it is written.
 *
 * @see draft-ietf-opsawg-pcapng
 */
import { printable } from './printable.ts';

export const PcapngBlock = { SECTION: 0x0a0d0d0a, INTERFACE: 1, SIMPLE_PACKET: 3, STATISTICS: 5, PACKET: 6 } as const;

export const PcapngOption = {
  END: 0,
  COMMENT: 1,
  /** Of a packet: its direction, among others. */
  PACKET_FLAGS: 2,
  /** Of an interface. */
  IF_NAME: 2,
  IF_MAC_ADDRESS: 6,
  IF_SPEED: 8,
  IF_TSRESOL: 9,
  /** Of a section: the program that writes it. */
  SHB_USERAPPL: 4,
  /** Of statistics: packets that the interface has received, and those that it has dropped. */
  ISB_IFRECV: 4,
  ISB_IFDROP: 5,
} as const;

/** The lowest bits of `PACKET_FLAGS`. */
export const PacketDirection = { UNKNOWN: 0, INBOUND: 1, OUTBOUND: 2 } as const;

export const SECTION_MAGIC = 0x1a2b3c4d;

const utf8 = new TextEncoder();
const nothing = new Uint8Array(0);

/** A section's header. @param program that writes the file */
export function sectionBlock(program: string): Uint8Array {
  const head = new Uint8Array(16);
  const view = new DataView(head.buffer);
  view.setUint32(0, SECTION_MAGIC, true);
  view.setUint16(4, 1, true);
  // Its length is not known beforehand.
  view.setBigInt64(8, -1n, true);
  return block(PcapngBlock.SECTION, [head, textOption(PcapngOption.SHB_USERAPPL, program), endOfOptions]);
}

/** An interface, whose packets have times in nanoseconds. Interfaces number themselves from 0. */
export function interfaceBlock(linkType: number, snapBytes: number, options: readonly Uint8Array[]): Uint8Array {
  const head = new Uint8Array(8);
  const view = new DataView(head.buffer);
  view.setUint16(0, linkType, true);
  view.setUint32(4, snapBytes, true);
  const nanoseconds = option(PcapngOption.IF_TSRESOL, new Uint8Array([9]));
  return block(PcapngBlock.INTERFACE, [head, ...options, nanoseconds, endOfOptions]);
}

/** The head of a block that begins with an interface and a time: nanoseconds since 1970. */
export function timedHead(bytes: number, number: number, timeNs: bigint): Uint8Array {
  const head = new Uint8Array(bytes);
  const view = new DataView(head.buffer);
  const time = BigInt.asUintN(64, timeNs);
  view.setUint32(0, number, true);
  view.setUint32(4, Number(time >> 32n), true);
  view.setUint32(8, Number(time & 0xffff_ffffn), true);
  return head;
}

/** @param length of the whole packet, of which `captured` may be a part */
export function packetBlock(
  number: number,
  timeNs: bigint,
  captured: readonly Uint8Array[],
  length: number,
  options: readonly Uint8Array[],
): Uint8Array {
  const bytes = captured.reduce((sum, part) => sum + part.length, 0);
  const head = timedHead(20, number, timeNs);
  const view = new DataView(head.buffer);
  view.setUint32(12, bytes, true);
  view.setUint32(16, Math.max(length, bytes), true);
  const padding = new Uint8Array(padded(bytes) - bytes);
  return block(PcapngBlock.PACKET, [head, ...captured, padding, ...options, endOfOptions]);
}

export function block(type: number, parts: readonly Uint8Array[]): Uint8Array {
  const ends = new Uint8Array(8);
  const out = concat([ends, ...parts, ends.subarray(4)]);
  const view = new DataView(out.buffer);
  view.setUint32(0, type, true);
  view.setUint32(4, out.length, true);
  view.setUint32(out.length - 4, out.length, true);
  return out;
}

export function option(code: number, value: Uint8Array): Uint8Array {
  const out = new Uint8Array(4 + padded(value.length));
  const view = new DataView(out.buffer);
  view.setUint16(0, code, true);
  view.setUint16(2, value.length, true);
  out.set(value, 4);
  return out;
}

/** @param value of at most some kilobytes: an option has a length of 16 bits */
export function textOption(code: number, value: string): Uint8Array {
  return option(code, utf8.encode(printable(value)));
}

export const endOfOptions = option(PcapngOption.END, nothing);

/** Blocks and options end at 4 bytes. */
function padded(length: number): number {
  return Math.ceil(length / 4) * 4;
}

export function concat(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
