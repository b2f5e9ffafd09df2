/**
 * Registers of the PHY of an 82576, and words of its EEPROM.
 *
 * @see Intel 82576EB Gigabit Ethernet Controller Datasheet, revision 2.63, 8.25, chapter 6; IEEE
 *   802.3, 22.2.4
 */

/** Registers that MDIC reaches (8.25). */
export const Phy = {
  PCTRL: 0,
  PSTATUS: 1,
  PHYID1: 2,
  PHYID2: 3,
  ANA: 4,
  ANLPA: 5,
  ANE: 6,
  NPT: 7,
  LPN: 8,
  GCON: 9,
  GSTATUS: 10,
  ESTATUS: 15,
  PCONF: 16,
  PSTAT: 17,
  PCONT: 18,
  LINK: 19,
  PFIFO: 20,
  CHAN: 21,
  PHY_PAGE: 31,
} as const;

/** The PHY's address on MDIO. */
export const PHY_ADDRESS = 1;
/** IGP03E1000: the PHY that Intel's drivers expect in an 82576. */
export const PHY_ID = { high: 0x02a8, low: 0x0391 } as const;

/** PHY Control (8.25). */
export const Pctrl = {
  SPEED_1000: 0x40,
  COLLISION_TEST: 0x80,
  DUPLEX: 0x100,
  RESTART_AN: 0x200,
  ISOLATE: 0x400,
  POWER_DOWN: 0x800,
  AN_ENABLE: 0x1000,
  SPEED_100: 0x2000,
  LOOPBACK: 0x4000,
  RESET: 0x8000,
} as const;

/** PHY Status. */
export const Pstatus = {
  EXTENDED: 0x1,
  JABBER: 0x2,
  /** Latched: reads as 0 once after a loss. */
  LINK: 0x4,
  AN_ABLE: 0x8,
  REMOTE_FAULT: 0x10,
  AN_COMPLETE: 0x20,
  PREAMBLE: 0x40,
  ESTATUS: 0x100,
  SPEEDS: 0x7800,
} as const;

/** Auto-negotiation advertisement, and the partner's ability. */
export const Ana = {
  SELECTOR: 0x1f,
  HALF_10: 0x20,
  FULL_10: 0x40,
  HALF_100: 0x80,
  FULL_100: 0x100,
  PAUSE: 0x400,
  ASM_DIR: 0x800,
  REMOTE_FAULT: 0x2000,
  ACKNOWLEDGE: 0x4000,
  NEXT_PAGE: 0x8000,
} as const;

/** 1000BASE-T control, and status. */
export const Gcon = { HALF: 0x100, FULL: 0x200 } as const;
export const Gstatus = { HALF: 0x400, FULL: 0x800, REMOTE_OK: 0x1000, LOCAL_OK: 0x2000, MASTER: 0x4000 } as const;

/** Words of the EEPROM (6.1). */
export const EepromWord = {
  MAC: 0x00,
  COMPATIBILITY: 0x03,
  PBA_0: 0x08,
  PBA_1: 0x09,
  INIT_CONTROL_1: 0x0a,
  SUBSYSTEM_ID: 0x0b,
  SUBSYSTEM_VENDOR_ID: 0x0c,
  DEVICE_ID: 0x0d,
  INIT_CONTROL_2: 0x0f,
  INIT_CONTROL_3: 0x24,
  CHECKSUM: 0x3f,
} as const;
/** Words 0 to 0x3f add up to this. */
export const EEPROM_SUM = 0xbaba;
/** Words of an EEPROM of 32 KiB. */
export const EEPROM_WORDS = 0x4000;
