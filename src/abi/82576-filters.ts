/**
 * Bits of the 82576's filters that choose a queue by EtherType, by the SYN flag and by five values,
 * and of the rules that mirror traffic to a pool.
 *
 * @see Intel 82576EB Gigabit Ethernet Controller Datasheet, revision 2.63, 7.1.2, 8.11, 8.14
 */

/** EType Queue Filter: 8 of them (8.11.5). */
export const Etqf = {
  ETYPE: 0xffff,
  QUEUE_SHIFT: 16,
  QUEUE: 0x7_0000,
  FILTER_ENABLE: 0x400_0000,
  IMM_INT: 0x2000_0000,
  TIME_STAMP_1588: 0x4000_0000,
  QUEUE_ENABLE: 0x8000_0000,
} as const;
export const ETQF_ENTRIES = 8;

/** SYN Packet Queue Filter (8.11.6). */
export const Synqf = { QUEUE_ENABLE: 0x1, QUEUE_SHIFT: 1, QUEUE: 0xe } as const;

/** Five-tuple Queue Filter: 8 of them; a bit of the mask leaves its value out (8.11.4). */
export const Ftqf = {
  PROTOCOL: 0xff,
  QUEUE_ENABLE: 0x100,
  VF: 0xe00,
  VF_MASK: 0x8000,
  QUEUE_SHIFT: 16,
  QUEUE: 0xf_0000,
  TIME_STAMP_1588: 0x800_0000,
  MASK_PROTOCOL: 0x1000_0000,
  MASK_SOURCE: 0x2000_0000,
  MASK_DESTINATION: 0x4000_0000,
  MASK_SOURCE_PORT: 0x8000_0000,
} as const;
export const FTQF_ENTRIES = 8;

/** Immediate Interrupt Rx: destination port and priority of five-tuple filter `n` (8.8). */
export const Imir = { PORT: 0xffff, PORT_IM_EN: 0x1_0000, PORT_BP: 0x2_0000, PRIORITY_SHIFT: 29 } as const;

/** Virtual Mirror Rule Control: 4 rules (8.14). */
export const Vmrctl = {
  /** Mirrored by the rule: pools of VMRVM, frames of the wire, frames to it, VLANs of VMRVLAN. */
  VPME: 0x1,
  UPME: 0x2,
  DPME: 0x4,
  VLME: 0x8,
  /** The pool that gets the copies. */
  MP_SHIFT: 8,
  MP: 0x700,
} as const;
export const MIRROR_RULES = 4;
