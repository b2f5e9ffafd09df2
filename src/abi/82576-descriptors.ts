/**
 * Descriptors of Intel's 82576: 16 bytes each, little-endian. An offset is that of a field within
 * its descriptor; words are those of 32 bits.
 *
 * @see Intel 82576EB Gigabit Ethernet Controller Datasheet, revision 2.63, 7.1.4, 7.1.5, 7.2.2
 */

export const DESCRIPTOR_BYTES = 16;
/** A ring has up to 32 KiB of descriptors, and a multiple of 128 bytes (8.10.7, 8.12). */
export const RING_ENTRIES_MAX = 2048;
export const RING_ENTRIES_UNIT = 8;

/** The receive descriptor as a driver writes it, of the advanced format (7.1.5.1). */
export const RxRead = { packet: 0, header: 8 } as const;

/** The receive descriptor as the device writes it back, of the advanced format (7.1.5.2). */
export const RxWriteBack = {
  /** Word 0: bits 3:0 RSS type, 16:4 packet type, 30:21 header length, 31 split. */
  info: 0,
  /** RSS hash; with RXCSUM.PCSD clear: fragment checksum (31:16) and IP identification (15:0). */
  hash: 4,
  /** Bits 19:0 status, 31:20 errors. */
  statusErrors: 8,
  /** 16 bits: bytes in the packet buffer. */
  length: 12,
  /** 16 bits. */
  vlan: 14,
} as const;

/** The first word of an advanced receive descriptor that is written back (7.1.5.2). */
export const RxInfo = {
  RSS_TYPE: 0xf,
  PACKET_TYPE_SHIFT: 4,
  PACKET_TYPE: 0x1_fff0,
  HDR_LEN_SHIFT: 21,
  HDR_LEN: 0x7fe0_0000,
  SPH: 0x8000_0000,
} as const;

/** RDESC.RSSTYPE: which fields the hash has (7.1.1.7). */
export const RssType = {
  NONE: 0,
  TCP_IPV4: 1,
  IPV4: 2,
  TCP_IPV6: 3,
  IPV6_EX: 4,
  IPV6: 5,
  TCP_IPV6_EX: 6,
  UDP_IPV4: 7,
  UDP_IPV6: 8,
  UDP_IPV6_EX: 9,
} as const;

/** RDESC.PKTTYPE, after the shift: bits of headers that were found. */
export const PacketType = {
  IPV4: 0x1,
  /** IPv4 with options. */
  IPV4_EX: 0x2,
  IPV6: 0x4,
  /** IPv6 with extensions. */
  IPV6_EX: 0x8,
  TCP: 0x10,
  UDP: 0x20,
  SCTP: 0x40,
  NFS: 0x80,
  IPSEC_ESP: 0x100,
  IPSEC_AH: 0x200,
  MACSEC: 0x400,
  /** Bits 2:0 are then the number of the EtherType filter. */
  ETQF: 0x800,
  /** The frame had a VLAN tag. */
  VLAN: 0x1000,
} as const;

/** RDESC.STATUS and RDESC.ERRORS of the advanced write-back, in the word `statusErrors`. */
export const RxStatus = {
  DD: 0x1,
  EOP: 0x2,
  /** The frame had a VLAN tag, which was stripped: it is in the field `vlan`. */
  VP: 0x8,
  UDPCS: 0x10,
  L4CS: 0x20,
  IPCS: 0x40,
  PIF: 0x80,
  VEXT: 0x200,
  UDPV: 0x400,
  LLINT: 0x800,
  SECP: 0x2_0000,
  /** The frame comes from another pool of the same card (7.8.3). */
  LB: 0x4_0000,
  TS: 0x1_0000,
  /** Header buffer overflow. */
  HBO: 0x80_0000,
  L4E: 0x2000_0000,
  IPE: 0x4000_0000,
  RXE: 0x8000_0000,
} as const;

/** The receive descriptor of the legacy format (7.1.4). */
export const RxLegacy = {
  /** 64 bits; a driver writes it. The rest is the device's. */
  address: 0,
  /** 16 bits each. */
  length: 8,
  checksum: 10,
  /** 8 bits each. */
  status: 12,
  errors: 13,
  /** 16 bits. */
  vlan: 14,
} as const;
export const RxLegacyStatus = { DD: 0x1, EOP: 0x2, VP: 0x8, UDPCS: 0x10, L4CS: 0x20, IPCS: 0x40, PIF: 0x80 } as const;
export const RxLegacyError = { L4E: 0x20, IPE: 0x40, RXE: 0x80 } as const;

/** The transmit data descriptor, of the advanced format (7.2.2.3). */
export const TxData = {
  /** 64 bits. */
  address: 0,
  /** Bits 15:0 length, 23:20 type, 31:24 command. */
  command: 8,
  /** Bits 3:0 status, 7:4 context, 13:8 options, 31:14 length of the payload. */
  status: 12,
} as const;

/** The word `command` of advanced descriptors: DTYP and DCMD. */
export const TxCommand = {
  LENGTH: 0xffff,
  /** The frame's time is sampled (1588). */
  MAC_TSTAMP: 0x8_0000,
  DTYP: 0xf0_0000,
  DTYP_CONTEXT: 0x20_0000,
  DTYP_DATA: 0x30_0000,
  EOP: 0x100_0000,
  IFCS: 0x200_0000,
  RS: 0x800_0000,
  /** Extended: 0 is the legacy format. */
  DEXT: 0x2000_0000,
  VLE: 0x4000_0000,
  TSE: 0x8000_0000,
} as const;

/** The word `status` of advanced data descriptors. */
export const TxStatus = {
  DD: 0x1,
  IDX_SHIFT: 4,
  IDX: 0x70,
  /** Insert the checksum of IP; insert that of TCP, UDP or SCTP. */
  IXSM: 0x100,
  TXSM: 0x200,
  IPSEC: 0x400,
  PAYLEN_SHIFT: 14,
} as const;

/** The transmit context descriptor (7.2.2.4): how the frames that follow are offloaded. */
export const TxContext = {
  /** Bits 8:0 length of IP's header, 15:9 of MAC's, 31:16 VLAN tag. */
  lengths: 0,
  sequence: 4,
  /** Bits 19:9 TUCMD, 23:20 type, 29 DEXT. */
  command: 8,
  /** Bits 6:4 context (bits 38:36), 15:8 length of L4's header, 31:16 MSS. */
  segments: 12,
  IPLEN: 0x1ff,
  MACLEN_SHIFT: 9,
  MACLEN: 0xfe00,
  VLAN_SHIFT: 16,
  SNAP: 0x200,
  IPV4: 0x400,
  L4T: 0x1800,
  L4T_UDP: 0x0,
  L4T_TCP: 0x800,
  L4T_SCTP: 0x1000,
  IDX_SHIFT: 4,
  IDX: 0x70,
  L4LEN_SHIFT: 8,
  L4LEN: 0xff00,
  MSS_SHIFT: 16,
} as const;

/** The transmit descriptor of the legacy format (7.2.2.1). */
export const TxLegacy = {
  address: 0,
  /** Bits 15:0 length, 23:16 CSO, 31:24 command. */
  command: 8,
  /** Bits 3:0 status, 15:8 CSS, 31:16 VLAN. */
  status: 12,
  CSO_SHIFT: 16,
  EOP: 0x100_0000,
  IFCS: 0x200_0000,
  IC: 0x400_0000,
  RS: 0x800_0000,
  DEXT: 0x2000_0000,
  VLE: 0x4000_0000,
  CSS_SHIFT: 8,
  VLAN_SHIFT: 16,
} as const;
