/**
 * Frames that commands generate: UDP datagrams over IPv4 to port 9, which discards them (RFC 863),
 * each with its number. Addresses are of the block for measurements of devices (RFC 2544, C.2.2).
 */
import { internetChecksum } from '../../base/internet-checksum.ts';
import { ETHERNET_BYTES, EtherType, FRAME_MIN, IpProtocol, Ipv4, MAC_BYTES, Udp, write16 } from './protocols.ts';

const SOURCE_IP = [198, 18, 0, 1];
const DESTINATION_IP = [198, 19, 0, 1];
const PORT = 9;
const TTL = 64;
const UDP_AT = ETHERNET_BYTES + Ipv4.BYTES;
/** Where the payload begins: the number of the frame, 32 bits, big-endian. */
export const NUMBER_AT = UDP_AT + Udp.BYTES;
const NUMBER_BYTES = 4;

/** A frame of `size` bytes without frame check sequence. Its datagram has no checksum (RFC 768). */
export function generatedFrame(size: number, from: Uint8Array, to: Uint8Array): Uint8Array {
  const frame = new Uint8Array(size);
  frame.set(to, 0);
  frame.set(from, MAC_BYTES);
  write16(frame, 12, EtherType.IPV4);
  const ip = ETHERNET_BYTES;
  frame[ip] = 0x45;
  write16(frame, ip + Ipv4.TOTAL_LENGTH, size - ETHERNET_BYTES);
  frame[ip + Ipv4.TTL] = TTL;
  frame[ip + Ipv4.PROTOCOL] = IpProtocol.UDP;
  frame.set(SOURCE_IP, ip + Ipv4.SOURCE);
  frame.set(DESTINATION_IP, ip + Ipv4.DESTINATION);
  write16(frame, ip + Ipv4.CHECKSUM, internetChecksum(frame, ip, ip + Ipv4.BYTES));
  write16(frame, UDP_AT + Udp.SOURCE, PORT);
  write16(frame, UDP_AT + Udp.DESTINATION, PORT);
  write16(frame, UDP_AT + Udp.LENGTH, size - UDP_AT);
  for (let at = NUMBER_AT + NUMBER_BYTES; at < size; at++) frame[at] = at & 0xff;
  return frame;
}

/** Gives a generated frame its number. @param at of the frame's first byte */
export function numberFrame(bytes: Uint8Array, at: number, number: number): void {
  bytes[at + NUMBER_AT] = number >>> 24;
  bytes[at + NUMBER_AT + 1] = number >>> 16;
  bytes[at + NUMBER_AT + 2] = number >>> 8;
  bytes[at + NUMBER_AT + 3] = number;
}

/** The number of a generated frame; -1 for any other frame. */
export function numberOf(bytes: Uint8Array, at: number, length: number): number {
  if (length < FRAME_MIN || bytes[at + ETHERNET_BYTES] !== 0x45 || bytes[at + ETHERNET_BYTES + Ipv4.PROTOCOL] !== IpProtocol.UDP) return -1;
  if (bytes[at + UDP_AT + Udp.DESTINATION] !== 0 || bytes[at + UDP_AT + Udp.DESTINATION + 1] !== PORT) return -1;
  const from = at + NUMBER_AT;
  return ((bytes[from]! << 24) | (bytes[from + 1]! << 16) | (bytes[from + 2]! << 8) | bytes[from + 3]!) >>> 0;
}
