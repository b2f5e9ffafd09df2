/**
 * Headers of a frame that is offloaded: where they lie, and the sum of the pseudo header, which the
 * card expects in place of the checksum (7.2.5.1, 7.2.4.6).
 */
import { TxContext } from '../../abi/82576-descriptors.ts';

const ETHER_IPV4 = 0x0800;
const ETHER_IPV6 = 0x86dd;
const ETHER_VLAN = 0x8100;
const ETHER_SERVICE_VLAN = 0x88a8;
const PROTOCOL_TCP = 6;
const PROTOCOL_UDP = 17;
const PROTOCOL_SCTP = 132;
/** MACLEN has 7 bits, and IPLEN 9 (7.2.2.4). */
const MAC_MAX = 127;
const IP_MAX = 511;
const IPV6_HEADER = 40;
/** IPv6 extension headers that may stand before L4: hop-by-hop, routing, destination options. */
const IPV6_EXTENSIONS: readonly number[] = [0, 43, 60];

/** Where the headers of a frame lie. One object serves many frames. */
export class FrameHeaders {
  /** Bytes of MAC's header, with tags. */
  mac = 0;
  ip = 0;
  /** 0: the card does not offload this protocol. */
  l4 = 0;
  /** `TxContext.IPV4`, `L4T_TCP` and the like. */
  tucmd = 0;
  ipv4 = false;
  tcp = false;
  /** Where the checksum of L4 is, from the start of L4's header. */
  checksumAt = 0;

  /** @returns false where there is no IP header that the card could offload */
  find(bytes: Uint8Array, offset: number, length: number): boolean {
    this.l4 = this.ip = 0;
    let at = 12;
    let type = word(bytes, offset + at);
    while ((type === ETHER_VLAN || type === ETHER_SERVICE_VLAN) && at + 6 <= length) {
      at += 4;
      type = word(bytes, offset + at);
    }
    this.mac = at + 2;
    if (this.mac > MAC_MAX) return false;
    let protocol = -1;
    if (type === ETHER_IPV4 && this.mac + 20 <= length) {
      const start = offset + this.mac;
      this.ipv4 = true;
      this.ip = (bytes[start]! & 15) * 4;
      // Of a fragment, L4's checksum is not known here.
      if ((word(bytes, start + 6) & 0x3fff) === 0) protocol = bytes[start + 9]!;
    } else if (type === ETHER_IPV6 && this.mac + IPV6_HEADER <= length) {
      this.ipv4 = false;
      protocol = bytes[offset + this.mac + 6]!;
      this.ip = IPV6_HEADER;
      while (IPV6_EXTENSIONS.includes(protocol) && this.mac + this.ip + 8 <= length) {
        const extension = offset + this.mac + this.ip;
        protocol = bytes[extension]!;
        this.ip += (bytes[extension + 1]! + 1) * 8;
      }
    }
    if (this.ip < 20 || this.ip > IP_MAX || this.mac + this.ip > length) return false;
    this.tucmd = this.ipv4 ? TxContext.IPV4 : 0;
    this.tcp = protocol === PROTOCOL_TCP;
    this.#findL4(bytes, offset + this.mac + this.ip, length - this.mac - this.ip, protocol);
    return true;
  }

  #findL4(bytes: Uint8Array, at: number, left: number, protocol: number): void {
    if (protocol === PROTOCOL_TCP && left >= 20) {
      this.l4 = (bytes[at + 12]! >>> 4) * 4;
      this.tucmd |= TxContext.L4T_TCP;
      this.checksumAt = 16;
    } else if (protocol === PROTOCOL_UDP && left >= 8) {
      this.l4 = 8;
      this.checksumAt = 6;
    } else if (protocol === PROTOCOL_SCTP && left >= 12) {
      this.l4 = 12;
      this.tucmd |= TxContext.L4T_SCTP;
      this.checksumAt = 8;
    }
    if (this.l4 > left) this.l4 = 0;
  }

  /**
   * Puts the sum of the pseudo header where L4's checksum goes, and zero where IPv4's goes. For
   * segmentation the sum has no length, and neither has IPv4's header: the card puts each segment's
   * (7.2.4.6).
   */
  prepare(bytes: Uint8Array, offset: number, length: number, segmented: boolean): void {
    const ip = offset + this.mac;
    if (this.ipv4) {
      bytes[ip + 10] = bytes[ip + 11] = 0;
      if (segmented) bytes[ip + 2] = bytes[ip + 3] = 0;
    } else if (segmented) {
      bytes[ip + 4] = bytes[ip + 5] = 0;
    }
    if (this.l4 === 0) return;
    const at = ip + this.ip + this.checksumAt;
    if ((this.tucmd & TxContext.L4T) === TxContext.L4T_SCTP) {
      bytes.fill(0, at, at + 4);
      return;
    }
    const addresses = this.ipv4 ? ip + 12 : ip + 8;
    let sum = this.tcp ? PROTOCOL_TCP : PROTOCOL_UDP;
    for (let i = 0; i < (this.ipv4 ? 8 : 32); i += 2) sum += word(bytes, addresses + i);
    if (!segmented) sum += length - this.mac - this.ip;
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
    bytes[at] = sum >>> 8;
    bytes[at + 1] = sum;
  }
}

function word(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}
