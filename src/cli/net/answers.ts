/**
 * The answer to a frame: `vfio net echo` is a station that answers ARP and ping for an IPv4
 * address, and sends all else back with its addresses swapped.
 *
 * A frame is answered in place. Swapped addresses and ports leave every checksum right, since it is
 * a sum (RFC 1071); frames whose headers are cut or unknown have their Ethernet addresses swapped.
 */
import { internetChecksum } from '../../base/internet-checksum.ts';
import {
  Arp,
  ETHERNET_BYTES,
  EtherType,
  Icmp,
  IpProtocol,
  Ipv4,
  Ipv6,
  MAC_BYTES,
  read16,
  sameBytes,
  VLAN_BYTES,
  write16,
} from './protocols.ts';

/** The kind of an answer, for its count; `ignored`: there is none. */
export type Answer = 'arp' | 'ping' | 'swapped' | 'ignored';

export interface Station {
  /** Of the port. */
  readonly mac: Uint8Array;
  /** The IPv4 address that the station answers for; null: it knows none, and swaps pings too. */
  readonly ip: Uint8Array | null;
}

/** Turns `length` bytes of `frame` into their answer. The answer is as long as the frame. */
export function answer({ mac, ip }: Station, frame: Uint8Array, length: number): Answer {
  if (length < ETHERNET_BYTES) return 'ignored';
  const own = sameBytes(frame, 0, mac, 0, MAC_BYTES);
  // Its own frames, and sources that no station can have.
  if (sameBytes(frame, MAC_BYTES, mac, 0, MAC_BYTES) || (frame[MAC_BYTES]! & 1) !== 0) return 'ignored';
  let type = read16(frame, 12);
  let at = ETHERNET_BYTES;
  while (type === EtherType.VLAN && at + VLAN_BYTES <= length) {
    type = read16(frame, at + 2);
    at += VLAN_BYTES;
  }
  if (ip !== null && type === EtherType.ARP && at + Arp.BYTES <= length) {
    if (!sameBytes(frame, at + Arp.TARGET_IP, ip, 0, 4) || read16(frame, at + Arp.OPERATION) !== Arp.REQUEST) return 'ignored';
    answerArp(frame, at, mac, ip);
    return 'arp';
  }
  // An answer to a frame for all would come from each station that swaps.
  if (!own) return 'ignored';
  turn(frame, 0, MAC_BYTES, MAC_BYTES);
  if (type === EtherType.IPV4 && at + Ipv4.BYTES <= length) return answerIpv4(frame, at, length, ip);
  if (type === EtherType.IPV6 && at + Ipv6.BYTES <= length) {
    turn(frame, at + Ipv6.SOURCE, at + Ipv6.DESTINATION, 16);
    turnPorts(frame, at + Ipv6.BYTES, length, frame[at + Ipv6.NEXT_HEADER]!);
  }
  return 'swapped';
}

function answerArp(frame: Uint8Array, at: number, mac: Uint8Array, ip: Uint8Array): void {
  write16(frame, at + Arp.OPERATION, Arp.REPLY);
  frame.copyWithin(at + Arp.TARGET_MAC, at + Arp.SENDER_MAC, at + Arp.SENDER_MAC + MAC_BYTES + 4);
  frame.set(mac, at + Arp.SENDER_MAC);
  frame.set(ip, at + Arp.SENDER_IP);
  frame.copyWithin(0, MAC_BYTES, 2 * MAC_BYTES);
  frame.set(mac, MAC_BYTES);
}

function answerIpv4(frame: Uint8Array, at: number, length: number, ip: Uint8Array | null): Answer {
  const header = (frame[at]! & 0x0f) * 4;
  const end = Math.min(length, at + read16(frame, at + Ipv4.TOTAL_LENGTH));
  const protocol = frame[at + Ipv4.PROTOCOL]!;
  const data = at + header;
  const forUs = ip !== null && sameBytes(frame, at + Ipv4.DESTINATION, ip, 0, 4);
  turn(frame, at + Ipv4.SOURCE, at + Ipv4.DESTINATION, 4);
  // More fragments, or not the first one: the ports and types stand elsewhere.
  if (header < Ipv4.BYTES || (read16(frame, at + Ipv4.FRAGMENT) & 0x3fff) !== 0) return 'swapped';
  if (forUs && protocol === IpProtocol.ICMP && data + Icmp.BYTES <= end && frame[data + Icmp.TYPE] === Icmp.ECHO_REQUEST) {
    frame[data + Icmp.TYPE] = Icmp.ECHO_REPLY;
    write16(frame, data + Icmp.CHECKSUM, 0);
    write16(frame, data + Icmp.CHECKSUM, internetChecksum(frame, data, end));
    return 'ping';
  }
  turnPorts(frame, data, end, protocol);
  return 'swapped';
}

/** Source and destination port of UDP and TCP. */
function turnPorts(frame: Uint8Array, at: number, end: number, protocol: number): void {
  if ((protocol === IpProtocol.UDP || protocol === IpProtocol.TCP) && at + 4 <= end) turn(frame, at, at + 2, 2);
}

function turn(bytes: Uint8Array, first: number, second: number, length: number): void {
  for (let i = 0; i < length; i++) {
    const byte = bytes[first + i]!;
    bytes[first + i] = bytes[second + i]!;
    bytes[second + i] = byte;
  }
}
