/**
 * The mailbox between a physical function of the 82576 and its virtual functions: 16 words of
 * memory, a register on either side, and messages as Intel's drivers have agreed them. A message
 * stands in word 0: its number, 8 bits of information, and flags of an answer.
 *
 * @see Intel 82576EB Gigabit Ethernet Controller Datasheet, revision 2.63, 7.8.2.9, 8.14
 * @see linux/drivers/net/ethernet/intel/igb/e1000_mbx.h, igbvf/mbx.h; DPDK base/e1000_mbx.h
 */

/** Words of the mailbox's memory. */
export const MAILBOX_WORDS = 16;

/** VFMAILBOX, as the virtual function sees it (V2PMAILBOX). */
export const VfMailbox = {
  /** Written: a message waits for the PF. Reads as 0. */
  REQ: 0x1,
  /** Written: the PF's message was read. Reads as 0. */
  ACK: 0x2,
  /** The virtual function owns the memory. */
  VFU: 0x4,
  PFU: 0x8,
  /** The PF has written a message. A read clears it, and the next two bits. */
  PFSTS: 0x10,
  PFACK: 0x20,
  /** The PF is in reset. */
  RSTI: 0x40,
  /** The PF's reset has ended. A read clears it. */
  RSTD: 0x80,
  READ_CLEARS: 0xb0,
} as const;

/** PFMAILBOX, as the physical function sees it (P2VMAILBOX). */
export const PfMailbox = {
  /** Written: a message waits for the VF. Reads as 0. */
  STS: 0x1,
  /** Written: the VF's message was read. Reads as 0. */
  ACK: 0x2,
  VFU: 0x4,
  /** The physical function owns the memory. */
  PFU: 0x8,
  /** Written: takes the memory from a virtual function that keeps it. */
  RVFU: 0x10,
} as const;

/** Flags of an answer, in word 0. */
export const MessageFlag = {
  ACK: 0x8000_0000,
  NACK: 0x4000_0000,
  /** Clear To Send: the PF knows the VF, whose reset it has answered. */
  CTS: 0x2000_0000,
} as const;

/** Bits 23:16 of word 0. */
export const MESSAGE_INFO_SHIFT = 16;
export const MESSAGE_INFO = 0xff_0000;

/** Messages of a VF, and one of the PF: bits 15:0 of word 0. */
export const Message = {
  /** Answer: ACK, with the address of the VF in words 1 and 2; NACK without an address. */
  RESET: 0x01,
  /** Words 1 and 2: an address. The information is a `MacFilter`. */
  SET_MAC_ADDR: 0x02,
  /** Information: how many hashes of 12 bits follow, two in a word, and `MULTICAST_OVERFLOW`. */
  SET_MULTICAST: 0x03,
  /** Word 1: a VLAN. Information: 1 adds it, 0 removes it. */
  SET_VLAN: 0x04,
  /** Word 1: the longest frame. */
  SET_LPE: 0x05,
  /** Information: a set of `Promiscuity`. */
  SET_PROMISC: 0x06,
  /** Of the PF: something has changed, as the link, or CTS was lost. */
  PF_CONTROL: 0x0100,
} as const;
export type Message = (typeof Message)[keyof typeof Message];

/** Information of SET_MAC_ADDR: 0 sets the address of the function (Linux's igb). */
export const MacFilter = { CLEAR: 0x1, ADD: 0x2 } as const;
/** Information of SET_MULTICAST. */
export const MULTICAST_COUNT = 0x1f;
export const MULTICAST_OVERFLOW = 0x80;
/** Hashes that fit behind word 0. */
export const MULTICAST_HASHES = 30;
/** Information of SET_PROMISC. */
export const Promiscuity = { UNICAST: 0x1, MULTICAST: 0x2 } as const;
