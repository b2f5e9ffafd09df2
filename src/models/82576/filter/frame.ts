/**
 * A received frame, taken apart: addresses, tag, headers of the network and the transport (7.1.3,
 * 7.1.11). One object is filled again for each frame, and nothing is allocated.
 *
 * Numbers of 32 bits are signed, which keeps them small integers of the JavaScript engine.
 */

/** Kinds of the transport's header. NONE: there is none, or it lies in another fragment. */
export const L4 = { NONE: 0, TCP: 1, UDP: 2, SCTP: 3 } as const;
export type L4Kind = (typeof L4)[keyof typeof L4];

const EtherType = { IPV4: 0x0800, IPV6: 0x86dd } as const;
const Protocol = { HOP_BY_HOP: 0, IPV4: 4, TCP: 6, UDP: 17, IPV6: 41, ROUTING: 43, FRAGMENT: 44, DESTINATION: 60, SCTP: 132 } as const;
/** Extension headers of one packet; more are a packet without a transport. */
const EXTENSIONS = 16;

export class Frame {
  bytes: Uint8Array = new Uint8Array(0);
  /** Of the destination address, and behind the last byte. */
  start = 0;
  end = 0;

  /** The destination address, bytes 0 to 3 and 4 to 5 as RAL and RAH have them. */
  low = 0;
  high = 0;
  multicast = false;
  broadcast = false;

  /** The tag that filters look at; -1: untagged. `tagOffset` is its place from the start. */
  tag = -1;
  tagOffset = 0;
  /** There is an outer tag (CTRL_EXT.EXT_VLAN, 7.4.5). */
  outer = false;
  etherType = 0;

  /** Place of the network's header, from the start; 0 where there is none. */
  l3 = 0;
  /** 4, 6, or 0. */
  ip = 0;
  /** IPv4 with options, IPv6 with extension headers. */
  extended = false;
  fragment = false;
  /** An IPv6 packet in an IPv4 packet: addresses and transport are those of the IPv6 packet. */
  tunnel = false;
  /** The IPv4 header, of the outer packet of a tunnel; 0: none. */
  ipv4 = 0;
  /** Place of the transport's header from the start, where `l4` is not NONE. */
  l4Offset = 0;
  l4: L4Kind = L4.NONE;
  /** Behind the last byte of the network's packet: a short frame has padding behind that. */
  l3End = 0;
  /** Source and destination for the hash, where extension headers have others (7.1.1.7.1). */
  sourceAt = 0;
  destinationAt = 0;

  /** Addresses and tags: enough to filter. @returns false for a frame that has no header at all */
  parseLink(bytes: Uint8Array, offset: number, length: number, tagType: number, outerType: number): boolean {
    this.bytes = bytes;
    this.start = offset;
    this.end = offset + length;
    if (length < 14) return false;
    const first = bytes[offset]!;
    this.low = first | (bytes[offset + 1]! << 8) | (bytes[offset + 2]! << 16) | (bytes[offset + 3]! << 24);
    this.high = bytes[offset + 4]! | (bytes[offset + 5]! << 8);
    this.multicast = (first & 1) !== 0;
    this.broadcast = this.low === -1 && this.high === 0xffff;
    let at = offset + 12;
    let type = (bytes[at]! << 8) | bytes[at + 1]!;
    this.tag = -1;
    this.outer = false;
    if (outerType !== 0) {
      // Double VLAN: each frame has an outer tag, which filters and stripping leave alone.
      this.outer = type === outerType && at + 6 <= this.end;
      if (this.outer) {
        at += 4;
        type = (bytes[at]! << 8) | bytes[at + 1]!;
      }
    }
    if (type === tagType && at + 6 <= this.end) {
      this.tagOffset = at - offset;
      this.tag = (bytes[at + 2]! << 8) | bytes[at + 3]!;
      at += 4;
      type = (bytes[at]! << 8) | bytes[at + 1]!;
    }
    at += 2;
    // A length in place of a type, and a SNAP header with the type behind it (RFC 1042).
    if (type <= 1500 && at + 8 <= this.end && bytes[at] === 0xaa && bytes[at + 1] === 0xaa && bytes[at + 2] === 3) {
      type = (bytes[at + 6]! << 8) | bytes[at + 7]!;
      at += 8;
    }
    this.etherType = type;
    this.l3 = at - offset;
    return true;
  }

  /** Network and transport, after `parseLink`. */
  parseNetwork(): void {
    this.ip = 0;
    this.l4 = L4.NONE;
    this.extended = false;
    this.fragment = false;
    this.tunnel = false;
    this.ipv4 = 0;
    const at = this.start + this.l3;
    if (this.etherType === EtherType.IPV4) this.#parseIpv4(at);
    else if (this.etherType === EtherType.IPV6) this.#parseIpv6(at, this.end);
  }

  #parseIpv4(at: number): void {
    const { bytes, end } = this;
    if (at + 20 > end || bytes[at]! >>> 4 !== 4) return;
    const header = (bytes[at]! & 0xf) * 4;
    const total = (bytes[at + 2]! << 8) | bytes[at + 3]!;
    // A packet that is longer than its frame, or than its header says, has no header to trust.
    if (header < 20 || total < header || at + total > end) return;
    this.ip = 4;
    this.ipv4 = this.l3;
    this.l3End = at + total;
    this.extended = header > 20;
    this.sourceAt = at + 12;
    this.destinationAt = at + 16;
    // More fragments, or an offset.
    this.fragment = (bytes[at + 6]! & 0x3f) !== 0 || bytes[at + 7] !== 0;
    if (this.fragment) return;
    const protocol = bytes[at + 9]!;
    if (protocol === Protocol.IPV6) this.#parseTunnel(at + header);
    else this.#parseTransport(protocol, at + header);
  }

  #parseTunnel(at: number): void {
    const { extended } = this;
    this.tunnel = this.#parseIpv6(at, this.l3End);
    if (this.tunnel) this.l3 = at - this.start;
    else {
      this.ip = 4;
      this.extended = extended;
    }
  }

  #parseIpv6(at: number, end: number): boolean {
    const { bytes } = this;
    if (at + 40 > end || bytes[at]! >>> 4 !== 6) return false;
    const total = 40 + ((bytes[at + 4]! << 8) | bytes[at + 5]!);
    if (at + total > end) return false;
    this.ip = 6;
    this.l3End = at + total;
    this.sourceAt = at + 8;
    this.destinationAt = at + 24;
    const protocol = bytes[at + 6]!;
    if (protocol === Protocol.TCP || protocol === Protocol.UDP) this.#parseTransport(protocol, at + 40);
    else this.#parseExtensions(protocol, at + 40);
    return true;
  }

  #parseExtensions(protocol: number, from: number): void {
    const { bytes, l3End } = this;
    let next = protocol;
    let at = from;
    for (let count = 0; count < EXTENSIONS; count++) {
      if (next === Protocol.FRAGMENT) {
        if (at + 8 > l3End) return;
        this.extended = true;
        this.fragment = (((bytes[at + 2]! << 8) | bytes[at + 3]!) & 0xfff9) !== 0;
        if (this.fragment) return;
        next = bytes[at]!;
        at += 8;
        continue;
      }
      if (next !== Protocol.HOP_BY_HOP && next !== Protocol.ROUTING && next !== Protocol.DESTINATION) break;
      if (at + 8 > l3End) return;
      const length = 8 + bytes[at + 1]! * 8;
      if (at + length > l3End) return;
      this.extended = true;
      if (next === Protocol.ROUTING && bytes[at + 2] === 2 && bytes[at + 3] === 1 && length === 24) this.destinationAt = at + 8;
      else if (next === Protocol.DESTINATION) this.#findHomeAddress(at + 2, at + length);
      next = bytes[at]!;
      at += length;
    }
    this.#parseTransport(next, at);
  }

  /** The Home Address option (RFC 6275, 6.3): the hash takes it as the source (7.1.1.7.1). */
  #findHomeAddress(from: number, to: number): void {
    const { bytes } = this;
    let at = from;
    while (at + 1 < to) {
      if (bytes[at] === 0) {
        at++;
        continue;
      }
      if (bytes[at] === 0xc9 && bytes[at + 1] === 16 && at + 18 <= to) this.sourceAt = at + 2;
      at += 2 + bytes[at + 1]!;
    }
  }

  #parseTransport(protocol: number, at: number): void {
    const { l3End } = this;
    this.l4Offset = at - this.start;
    if (protocol === Protocol.TCP) {
      const header = at + 20 <= l3End ? (this.bytes[at + 12]! >>> 4) * 4 : 0;
      if (header >= 20 && at + header <= l3End) this.l4 = L4.TCP;
    } else if (protocol === Protocol.UDP) {
      if (at + 8 <= l3End) this.l4 = L4.UDP;
    } else if (protocol === Protocol.SCTP) {
      if (at + 12 <= l3End) this.l4 = L4.SCTP;
    }
  }

  /** Bytes of all headers up to the payload of the transport, where `l4` is TCP or UDP. */
  get l4Payload(): number {
    return this.l4 === L4.TCP ? this.l4Offset + (this.bytes[this.start + this.l4Offset + 12]! >>> 4) * 4 : this.l4Offset + 8;
  }
}
