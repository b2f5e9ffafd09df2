/** Offsets and numbers of the protocols in Ethernet frames, as far as commands know them. */

/** Bytes of an address. */
export const MAC_BYTES = 6;
/** Two addresses and a type. */
export const ETHERNET_BYTES = 14;
/** The shortest frame without its frame check sequence (IEEE 802.3, 3.2.8). */
export const FRAME_MIN = 60;
export const VLAN_BYTES = 4;

export const EtherType = { IPV4: 0x0800, ARP: 0x0806, VLAN: 0x8100, IPV6: 0x86dd } as const;
export const IpProtocol = { ICMP: 1, TCP: 6, UDP: 17, ICMPV6: 58 } as const;

/** From the first byte of an ARP packet for IPv4 on Ethernet (RFC 826). */
export const Arp = { OPERATION: 6, SENDER_MAC: 8, SENDER_IP: 14, TARGET_MAC: 18, TARGET_IP: 24, BYTES: 28, REQUEST: 1, REPLY: 2 } as const;

/** From the first byte of an IPv4 header (RFC 791). */
export const Ipv4 = { TOTAL_LENGTH: 2, FRAGMENT: 6, TTL: 8, PROTOCOL: 9, CHECKSUM: 10, SOURCE: 12, DESTINATION: 16, BYTES: 20 } as const;

/** From the first byte of an IPv6 header (RFC 8200). */
export const Ipv6 = { NEXT_HEADER: 6, SOURCE: 8, DESTINATION: 24, BYTES: 40 } as const;

/** From the first byte of an ICMP message (RFC 792). */
export const Icmp = { TYPE: 0, CHECKSUM: 2, BYTES: 8, ECHO_REPLY: 0, ECHO_REQUEST: 8 } as const;

export const Udp = { SOURCE: 0, DESTINATION: 2, LENGTH: 4, CHECKSUM: 6, BYTES: 8 } as const;

export function read16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}

export function write16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value & 0xff;
}

export function sameBytes(a: Uint8Array, at: number, b: Uint8Array, from: number, length: number): boolean {
  for (let i = 0; i < length; i++) if (a[at + i] !== b[from + i]) return false;
  return true;
}
