/**
 * Intel's 82576 as software sees it: offsets of the registers in BAR 0, and their bits. Names and
 * sections are the datasheet's. Descriptors stand in 82576-descriptors.ts, messages between a
 * physical function and its virtual functions in 82576-mailbox.ts, registers of the PHY and words
 * of the EEPROM in 82576-phy.ts, statistics in 82576-statistics.ts.
 *
 * A register of an array has the offset of element 0 here; the comment names the distance.
 *
 * Longer than 400 lines because it is one table of registers, which readers look up.
 *
 * @see Intel 82576EB Gigabit Ethernet Controller Datasheet, revision 2.63, chapter 8
 */

export const INTEL_VENDOR = 0x8086;
/** The physical function: 1000BASE-T. */
export const I82576_DEVICE = 0x10c9;
export const I82576_VF_DEVICE = 0x10ca;

/** Receive queues, and transmit queues (7.1.1, 7.2.1). */
export const I82576_QUEUES = 16;
/** Pools of the switch; pool `n` has queues `n` and `n + 8` (4.5.3, 7.8.2). */
export const I82576_POOLS = 8;
/** Bytes of BAR 0 of a physical function, and of a virtual one. */
export const I82576_BAR_BYTES = 0x2_0000;
export const I82576_VF_BAR_BYTES = 0x4000;
/** Messages in the MSI-X table of a physical function, and of a virtual one (7.3.1.1). */
export const I82576_VECTORS = 25;
export const I82576_VF_VECTORS = 3;
/** The longest frame that is received, with its frame check sequence (7.1.4.3). */
export const I82576_FRAME_MAX = 9728;

/** From a register of queue 0 to that of queue 1. */
export const QUEUE_STRIDE = 0x40;
/** The same for the first addresses of queues 0 to 3, and for the queues of a virtual function. */
export const QUEUE_ALIAS_STRIDE = 0x100;
/** Where RDBAL and TDBAL of queue 0 have their first addresses: queues 0 to 3 have both. */
export const RX_ALIAS = 0x2800;
export const TX_ALIAS = 0x3800;

/** Offsets of registers in BAR 0 of the physical function. */
export const Reg = {
  // General (8.2)
  CTRL: 0x0000,
  /** An alias of CTRL. */
  CTRL_DUP: 0x0004,
  STATUS: 0x0008,
  CTRL_EXT: 0x0018,
  MDIC: 0x0020,
  SERDESCTL: 0x0024,
  FCAL: 0x0028,
  FCAH: 0x002c,
  FCT: 0x0030,
  CONNSW: 0x0034,
  VET: 0x0038,
  LEDCTL: 0x0e00,
  I2CCMD: 0x1028,
  I2CPARAMS: 0x102c,

  // Packet buffers (8.3)
  RXPBS: 0x2404,
  TXPBS: 0x3404,
  SWPBS: 0x3004,
  PBRWAC: 0x24e8,

  // EEPROM and flash (8.4)
  EECD: 0x0010,
  EERD: 0x0014,
  FLA: 0x001c,
  EEMNGCTL: 0x1010,
  EEMNGDATA: 0x1014,
  FLMNGCTL: 0x1018,
  FLMNGDATA: 0x101c,
  FLMNGCNT: 0x1020,
  EEARBC: 0x1024,
  FLASHOP: 0x103c,
  VPDDIAG: 0x1060,

  // Flow control (8.5)
  FCTTV: 0x0170,
  FCRTL0: 0x2160,
  FCRTH0: 0x2168,
  FCRTV: 0x2460,
  FCSTS0: 0x2464,

  // PCI Express (8.6)
  GCR: 0x5b00,
  FUNCTAG: 0x5b08,
  GSCL_1: 0x5b10,
  GSCL_2: 0x5b14,
  GSCL_3: 0x5b18,
  GSCL_4: 0x5b1c,
  GSCN_0: 0x5b20,
  GSCN_1: 0x5b24,
  GSCN_2: 0x5b28,
  GSCN_3: 0x5b2c,
  FACTPS: 0x5b30,
  GIOANACTL0: 0x5b34,
  GIOANACTL1: 0x5b38,
  GIOANACTL2: 0x5b3c,
  GIOANACTL3: 0x5b40,
  GIOANACTLALL: 0x5b44,
  CCMCTL: 0x5b48,
  SCCTL: 0x5b4c,
  MREVID: 0x5b64,

  // Semaphores (8.7)
  SWSM: 0x5b50,
  FWSM: 0x5b54,
  SW_FW_SYNC: 0x5b5c,

  // Interrupts (8.8)
  ICR: 0x1500,
  ICS: 0x1504,
  IMS: 0x1508,
  IMC: 0x150c,
  IAM: 0x1510,
  /** The same five registers at their first addresses. */
  ICR_ALIAS: 0x00c0,
  ICS_ALIAS: 0x00c8,
  IMS_ALIAS: 0x00d0,
  IMC_ALIAS: 0x00d8,
  IAM_ALIAS: 0x00e0,
  GPIE: 0x1514,
  EICS: 0x1520,
  EIMS: 0x1524,
  EIMC: 0x1528,
  EIAC: 0x152c,
  EIAM: 0x1530,
  EICR: 0x1580,
  /** 25, 4 bytes apart. */
  EITR: 0x1680,
  /** 8, 4 bytes apart: queues `n` and `n + 8`. */
  IVAR0: 0x1700,
  IVAR_MISC: 0x1740,
  PBACL: 0x5b68,
  /** Immediate interrupts: 8, 4 bytes apart. */
  IMIR: 0x5a80,
  IMIREXT: 0x5aa0,
  IMIRVP: 0x5ac0,

  // Receive (8.10)
  RCTL: 0x0100,
  QDE: 0x2408,
  /** Registers of a queue: 16, `QUEUE_STRIDE` apart. Queues 0 to 3 are at `RX_ALIAS` too. */
  RDBAL: 0xc000,
  RDBAH: 0xc004,
  RDLEN: 0xc008,
  SRRCTL: 0xc00c,
  RDH: 0xc010,
  RXCTL: 0xc014,
  RDT: 0xc018,
  RXDCTL: 0xc028,
  RQDPC: 0xc030,
  /** 8 pools, `QUEUE_STRIDE` apart. */
  DVMOLR: 0xc038,
  RXCSUM: 0x5000,
  RLPML: 0x5004,
  RFCTL: 0x5008,
  /** 128, 4 bytes apart. */
  MTA: 0x5200,
  MTA_ALIAS: 0x0200,
  /** 16 pairs, 8 bytes apart; the next 8 pairs are at RAL2. */
  RAL: 0x5400,
  RAH: 0x5404,
  RAL2: 0x54e0,
  RAH2: 0x54e4,
  RA_ALIAS: 0x0040,
  /** 8 pools, 4 bytes apart. */
  PSRTYPE: 0x5480,
  /** 128, 4 bytes apart. */
  VFTA: 0x5600,
  VFTA_ALIAS: 0x0600,
  MRQC: 0x5818,
  VT_CTL: 0x581c,
  /** 32, 4 bytes apart: 128 entries of a byte. */
  RETA: 0x5c00,
  /** 10, 4 bytes apart: 40 bytes. */
  RSSRK: 0x5c80,
  RPLOLR: 0x5af0,

  // Filters (8.11): 8 of each, 4 bytes apart
  SAQF: 0x5980,
  DAQF: 0x59a0,
  SPQF: 0x59c0,
  FTQF: 0x59e0,
  SYNQF: 0x55fc,
  ETQF: 0x5cb0,

  // Transmit (8.12)
  TCTL: 0x0400,
  TCTL_EXT: 0x0404,
  TIPG: 0x0410,
  DTXTCPFLGL: 0x359c,
  DTXTCPFLGH: 0x35a0,
  DTXMXSZRQ: 0x3540,
  DTXCTL: 0x3590,
  /** Registers of a queue: 16, `QUEUE_STRIDE` apart. Queues 0 to 3 are at `TX_ALIAS` too. */
  TDBAL: 0xe000,
  TDBAH: 0xe004,
  TDLEN: 0xe008,
  TDH: 0xe010,
  TXCTL: 0xe014,
  TDT: 0xe018,
  TXDCTL: 0xe028,
  TDWBAL: 0xe038,
  TDWBAH: 0xe03c,

  // Direct cache access (8.13)
  DCA_ID: 0x5b70,
  DCA_CTRL: 0x5b74,

  // Virtualization (8.14)
  /** 8 functions, 4 bytes apart: P2VMAILBOX. */
  PFMAILBOX: 0x0c00,
  /** 8 functions, 64 bytes apart. */
  VMBMEM: 0x0800,
  MBVFICR: 0x0c80,
  MBVFIMR: 0x0c84,
  VFLRE: 0x0c88,
  VFRE: 0x0c8c,
  VFTE: 0x0c90,
  DTXSWC: 0x3500,
  WVBR: 0x3554,
  /** 8 pools, 4 bytes apart. */
  VMVIR: 0x3700,
  TXSWC: 0x5acc,
  /** 8 pools, 4 bytes apart. */
  VMOLR: 0x5ad0,
  /** 32, 4 bytes apart. */
  VLVF: 0x5d00,
  /** 128, 4 bytes apart. */
  UTA: 0xa000,
  IOVCTL: 0x5bbc,
  /** 4 of each, 4 bytes apart. */
  VMRCTL: 0x5d80,
  VMRVLAN: 0x5d90,
  VMRVM: 0x5da0,
  SCCRL: 0x5db0,
  SCSTS: 0x5db4,
  BSCTRH: 0x5db8,
  MSCTRH: 0x5dbc,
  BSCCNT: 0x5dc0,
  MSCCNT: 0x5dc4,
  SCTC: 0x5dc8,
  SCBI: 0x5dcc,
  /** Registers of a virtual function, as the physical function reaches them: 0x100 apart (8.26). */
  PVTCTRL: 0x1_0000,
  PVFGPRC: 0x1_0010,
  PVFGPTC: 0x1_0014,
  PVFGORC: 0x1_0018,
  PVTEICS: 0x1_0020,
  PVTEIMS: 0x1_0024,
  PVTEIMC: 0x1_0028,
  PVTEIAC: 0x1_002c,
  PVTEIAM: 0x1_0030,
  PVFGOTC: 0x1_0034,
  PVFMPRC: 0x1_003c,
  PVFGPRLBC: 0x1_0040,
  PVFGPTLBC: 0x1_0044,
  PVFGORLBC: 0x1_0048,
  PVFGOTLBC: 0x1_0050,
  PVTEICR: 0x1_0080,
  /** 8 of each, 4 bytes apart: VTIVAR and VTIVAR_MISC of a function. */
  VTIVAR: 0x1_1700,
  VTIVAR_MISC: 0x1_1720,

  // Timers (8.15)
  WDSTP: 0x1040,
  SWDSTS: 0x1044,
  FRTIMER: 0x1048,
  TCPTIMER: 0x104c,

  // Time (8.16)
  SYSTIML: 0xb600,
  SYSTIMH: 0xb604,
  TIMINCA: 0xb608,
  TIMADJL: 0xb60c,
  TIMADJH: 0xb610,
  TSYNCTXCTL: 0xb614,
  TXSTMPL: 0xb618,
  TXSTMPH: 0xb61c,
  TSYNCRXCTL: 0xb620,
  RXSTMPL: 0xb624,
  RXSTMPH: 0xb628,
  RXSATRL: 0xb62c,
  RXSATRH: 0xb630,
  TSAUXC: 0xb640,
  TRGTTIML0: 0xb644,
  TRGTTIMH0: 0xb648,
  TRGTTIML1: 0xb64c,
  TRGTTIMH1: 0xb650,
  AUXSTMPL0: 0xb65c,
  AUXSTMPH0: 0xb660,
  AUXSTMPL1: 0xb664,
  AUXSTMPH1: 0xb668,
  TSYNCRXCFG: 0x5f50,

  // PCS (8.17)
  PCS_CFG: 0x4200,
  PCS_LCTL: 0x4208,
  PCS_LSTS: 0x420c,
  PCS_ANADV: 0x4218,
  PCS_LPAB: 0x421c,
  PCS_NPTX: 0x4220,
  PCS_LPABNP: 0x4224,

  // Wake-up (8.20)
  WUC: 0x5800,
  WUFC: 0x5808,
  WUS: 0x5810,
  IPAV: 0x5838,
  /** 4, 8 bytes apart. */
  IP4AT: 0x5840,
  /** 4, 4 bytes apart. */
  IP6AT: 0x5880,
  WUPL: 0x5900,
  /** 32, 4 bytes apart. */
  WUPM: 0x5a00,
  FHFT: 0x9000,

  // Manageability (8.21)
  MANC: 0x5820,
  MFVAL: 0x5824,
  MANC2H: 0x5860,
  MDEF: 0x5890,

  // Receive and transmit data FIFOs, for diagnosis (8.23)
  RDFH: 0x2410,
  RDFT: 0x2418,
  RDFHS: 0x2420,
  RDFTS: 0x2428,
  RDFPC: 0x2430,
  TDFH: 0x3410,
  TDFT: 0x3418,
  TDFHS: 0x3420,
  TDFTS: 0x3428,
  TDFPC: 0x3430,
} as const;

/** Offsets of registers in BAR 0 of a virtual function (8.26). */
export const VfReg = {
  /** CTRL: one bit, RST. */
  VTCTRL: 0x0000,
  /** STATUS, of the port. */
  STATUS: 0x0008,
  /** 16 words. */
  VMBMEM: 0x0800,
  /** V2PMAILBOX. */
  VFMAILBOX: 0x0c40,
  VTPBACL: 0x0f04,
  PSRTYPE: 0x0f0c,
  VFGPRC: 0x0f10,
  VFGPTC: 0x0f14,
  VFGORC: 0x0f18,
  VFGOTC: 0x0f34,
  VFMPRC: 0x0f3c,
  VFGPRLBC: 0x0f40,
  VFGPTLBC: 0x0f44,
  VFGORLBC: 0x0f48,
  VFGOTLBC: 0x0f50,
  VTFRTIMER: 0x1048,
  VTEICS: 0x1520,
  VTEIMS: 0x1524,
  VTEIMC: 0x1528,
  VTEIAC: 0x152c,
  VTEIAM: 0x1530,
  VTEICR: 0x1580,
  /** 3, 4 bytes apart. */
  EITR: 0x1680,
  VTIVAR: 0x1700,
  VTIVAR_MISC: 0x1740,
  /** Registers of a queue: 2, `QUEUE_ALIAS_STRIDE` apart. */
  RDBAL: 0x2800,
  RDBAH: 0x2804,
  RDLEN: 0x2808,
  SRRCTL: 0x280c,
  RDH: 0x2810,
  RXCTL: 0x2814,
  RDT: 0x2818,
  RXDCTL: 0x2828,
  RQDPC: 0x2830,
  TDBAL: 0x3800,
  TDBAH: 0x3804,
  TDLEN: 0x3808,
  TDH: 0x3810,
  TXCTL: 0x3814,
  TDT: 0x3818,
  TXDCTL: 0x3828,
  TDWBAL: 0x3838,
  TDWBAH: 0x383c,
} as const;

/** Device Control (8.2.1). */
export const Ctrl = {
  FD: 0x1,
  /** GIO Master Disable: no new DMA; STATUS.GIO_MASTER_EN follows when the last one has ended. */
  GIO_MASTER_DISABLE: 0x4,
  LRST: 0x8,
  SLU: 0x40,
  ILOS: 0x80,
  SPEED: 0x300,
  SPEED_1000: 0x200,
  FRCSPD: 0x800,
  FRCDPLX: 0x1000,
  SDP0_DATA: 0x4_0000,
  SDP1_DATA: 0x8_0000,
  ADVD3WUC: 0x10_0000,
  SDP0_IODIR: 0x40_0000,
  SDP1_IODIR: 0x80_0000,
  RST: 0x400_0000,
  RFCE: 0x800_0000,
  TFCE: 0x1000_0000,
  VME: 0x4000_0000,
  PHY_RST: 0x8000_0000,
} as const;

/** Device Status (8.2.2). */
export const Status = {
  FD: 0x1,
  LU: 0x2,
  LAN_ID: 0xc,
  TXOFF: 0x10,
  SPEED: 0xc0,
  SPEED_100: 0x40,
  SPEED_1000: 0x80,
  ASDV: 0x300,
  PHYRA: 0x400,
  /** Bits 17:14: how many virtual functions are enabled. */
  NUM_VFS_SHIFT: 14,
  NUM_VFS: 0x3_c000,
  IOV_MODE: 0x4_0000,
  GIO_MASTER_EN: 0x8_0000,
  PF_RST_DONE: 0x20_0000,
  MAC_CLK_GATED: 0x8000_0000,
} as const;

/** Extended Device Control (8.2.3). */
export const CtrlExt = {
  /** Does nothing here: its home is GPIE.NSICR. */
  NSICR: 0x1,
  EE_RST: 0x2000,
  /** PF Reset Done: virtual functions see RSTD of their mailbox, and go on. */
  PFRSTD: 0x4000,
  SPD_BYPS: 0x8000,
  RO_DIS: 0x2_0000,
  LINK_MODE: 0xc0_0000,
  EIAME: 0x100_0000,
  /** Frames have an outer VLAN tag, of VET's upper half (7.4.5). */
  EXT_VLAN: 0x400_0000,
  DRV_LOAD: 0x1000_0000,
} as const;

/** MDI Control (8.2.4). */
export const Mdic = {
  DATA: 0xffff,
  REGADD_SHIFT: 16,
  REGADD: 0x1f_0000,
  PHYADD_SHIFT: 21,
  PHYADD: 0x3e0_0000,
  OP_WRITE: 0x400_0000,
  OP_READ: 0x800_0000,
  OP: 0xc00_0000,
  R: 0x1000_0000,
  I: 0x2000_0000,
  E: 0x4000_0000,
  DESTINATION: 0x8000_0000,
} as const;

/** EEPROM/Flash Control (8.4.1). */
export const Eecd = {
  SK: 0x1,
  CS: 0x2,
  DI: 0x4,
  DO: 0x8,
  FWE: 0x30,
  REQ: 0x40,
  GNT: 0x80,
  PRES: 0x100,
  AUTO_RD: 0x200,
  EE_SIZE_SHIFT: 11,
  EE_SIZE: 0x7800,
  EE_BLOCKED: 0x8000,
  EE_ABORT: 0x1_0000,
  EE_RD_TIMEOUT: 0x2_0000,
  EE_CLR_ERR: 0x4_0000,
} as const;

/** EEPROM Read (8.4.2). */
export const Eerd = { START: 0x1, DONE: 0x2, ADDR_SHIFT: 2, ADDR: 0xfffc, DATA_SHIFT: 16 } as const;

/** Software Semaphore, firmware semaphore, and who owns which shared part (8.7). */
export const Swsm = { SMBI: 0x1, SWESMBI: 0x2, WMNG: 0x4, EEUR: 0x8 } as const;
export const SwFwSync = { EEP: 0x1, PHY0: 0x2, PHY1: 0x4, CSR: 0x8, FW_SHIFT: 16 } as const;
/** Function Active and Power State to management (8.6). */
export const Factps = { FUNC0_AUX_EN: 0x8, LAN0_VALID: 0x4, PM_STATE_CHANGED: 0x8000_0000 } as const;

/** Interrupt causes: ICR, ICS, IMS, IMC (8.8). */
export const Icr = {
  TXDW: 0x1,
  LSC: 0x4,
  RXSEQ: 0x8,
  RXDMT0: 0x10,
  MACSEC: 0x20,
  RXO: 0x40,
  RXDW: 0x80,
  /** A mailbox, or the reset of a virtual function. */
  VMMB: 0x100,
  GPHY: 0x400,
  GPI_SDP0: 0x800,
  GPI_SDP1: 0x1000,
  GPI_SDP2: 0x2000,
  GPI_SDP3: 0x4000,
  PTRAP: 0x8000,
  MNG: 0x4_0000,
  /** Time sync. */
  TS: 0x8_0000,
  OMED: 0x10_0000,
  FER: 0x40_0000,
  NFER: 0x80_0000,
  CSRTO: 0x100_0000,
  SCE: 0x200_0000,
  SWD: 0x400_0000,
  DOUTSYNC: 0x1000_0000,
  DRSTA: 0x4000_0000,
  INTA: 0x8000_0000,
} as const;

/** General Purpose Interrupt Enable (8.8). */
export const Gpie = {
  NSICR: 0x1,
  MULTIPLE_MSIX: 0x10,
  LL_INTERVAL_SHIFT: 7,
  LL_INTERVAL: 0xf80,
  EIAME: 0x4000_0000,
  PBA_SUPPORT: 0x8000_0000,
} as const;

/** Extended causes without MSI-X: 16 of queues, and two (8.8). */
export const Eicr = { QUEUES: 0xffff, TCP_TIMER: 0x4000_0000, OTHER: 0x8000_0000, VECTORS: 0x1ff_ffff } as const;

/** Extended Interrupt Throttle: the interval in microseconds, at bits 14:2 (8.8). */
export const Eitr = {
  INTERVAL: 0x7ffc,
  INTERVAL_SHIFT: 2,
  LLI_EN: 0x8000,
  LL_COUNTER: 0x1f_0000,
  MODERATION_COUNTER: 0x7fe0_0000,
  MODERATION_COUNTER_SHIFT: 21,
  CNT_INGR: 0x8000_0000,
} as const;

/**
 * Interrupt Vector Allocation (8.8, 7.3.2): bytes 0 and 1 are the receive and the transmit queue
 * `n`, bytes 2 and 3 those of `n + 8`. IVAR_MISC: byte 0 is the TCP timer, byte 1 other causes. Of
 * a virtual function: bytes 0 and 1 are queue 0, bytes 2 and 3 are queue 1; byte 0 of VTIVAR_MISC
 * is its mailbox.
 */
export const Ivar = { VECTOR: 0x1f, VALID: 0x80 } as const;

/** Receive Control (8.10.1). */
export const Rctl = {
  RXEN: 0x2,
  SBP: 0x4,
  UPE: 0x8,
  MPE: 0x10,
  LPE: 0x20,
  LBM: 0xc0,
  LBM_MAC: 0x40,
  LBM_PHY: 0xc0,
  MO_SHIFT: 12,
  MO: 0x3000,
  BAM: 0x8000,
  BSIZE_SHIFT: 16,
  BSIZE: 0x3_0000,
  VFE: 0x4_0000,
  CFIEN: 0x8_0000,
  CFI: 0x10_0000,
  PSP: 0x20_0000,
  DPF: 0x40_0000,
  PMCF: 0x80_0000,
  BSEX: 0x200_0000,
  SECRC: 0x400_0000,
} as const;

/** Split and Replication Receive Control (8.10.2). */
export const Srrctl = {
  /** In KiB. 0: RCTL.BSIZE holds. */
  BSIZEPACKET: 0x7f,
  /** In units of 64 bytes, at bits 13:8. */
  BSIZEHEADER: 0x3f00,
  BSIZEHEADER_SHIFT: 8,
  RDMTS_SHIFT: 20,
  RDMTS: 0x1f0_0000,
  DESCTYPE: 0xe00_0000,
  DESCTYPE_SHIFT: 25,
  LEGACY: 0x0,
  ADV_ONE_BUFFER: 0x200_0000,
  ADV_SPLIT: 0x400_0000,
  ADV_REPLICATION: 0x600_0000,
  ADV_REPLICATION_LARGE: 0x800_0000,
  ADV_SPLIT_ALWAYS: 0xa00_0000,
  TIMESTAMP: 0x4000_0000,
  DROP_EN: 0x8000_0000,
} as const;

/** Packet Split Receive Type: which headers are split off (8.10.3). */
export const Psrtype = {
  /** L2 alone is bit 0. */
  L2: 0x1,
  IPV4: 0x2,
  IPV4_TCP: 0x4,
  IPV4_UDP: 0x8,
  IPV4_IPV6: 0x10,
  IPV4_IPV6_TCP: 0x20,
  IPV4_IPV6_UDP: 0x40,
  IPV6: 0x80,
  IPV6_TCP: 0x100,
  IPV6_UDP: 0x200,
  IPV4_TCP_NFS: 0x800,
  IPV4_UDP_NFS: 0x1000,
  IPV4_IPV6_TCP_NFS: 0x4000,
  IPV4_IPV6_UDP_NFS: 0x8000,
  IPV6_TCP_NFS: 0x2_0000,
  IPV6_UDP_NFS: 0x4_0000,
} as const;

/** Receive and Transmit Descriptor Control (8.10.10, 8.12). */
export const Xdctl = {
  PTHRESH: 0x1f,
  HTHRESH_SHIFT: 8,
  HTHRESH: 0x1f00,
  WTHRESH_SHIFT: 16,
  WTHRESH: 0x1f_0000,
  ENABLE: 0x200_0000,
  SWFLUSH: 0x400_0000,
  /** TXDCTL alone. */
  PRIORITY: 0x800_0000,
} as const;

/** TDWBAL: the head is written to memory in place of descriptors (7.2.3). */
export const Tdwbal = { HEAD_WB_EN: 0x1, SEQUENCE_WB_EN: 0x2, ADDRESS: 0xffff_fffc } as const;

/** Receive Checksum Control (8.10). */
export const Rxcsum = { PCSS: 0xff, IPOFLD: 0x100, TUOFLD: 0x200, CRCOFL: 0x800, IPPCSE: 0x1000, PCSD: 0x2000 } as const;

/** Receive Filter Control (8.10). */
export const Rfctl = {
  ISCSI_DIS: 0x1,
  NFSW_DIS: 0x40,
  NFSR_DIS: 0x80,
  NFS_VER: 0x300,
  IPV6_DIS: 0x400,
  IPV6_XSUM_DIS: 0x800,
  IPFRSP_DIS: 0x4000,
  IPV6_EX_DIS: 0x1_0000,
  LEF: 0x4_0000,
} as const;

/** Receive Address High (8.10): the last two bytes of an address, and which pools have it. */
export const Rah = {
  ADDRESS: 0xffff,
  ASEL: 0x3_0000,
  ASEL_SOURCE: 0x1_0000,
  POOLSEL_SHIFT: 18,
  POOLSEL: 0x3fc_0000,
  QSEL_ENABLE: 0x1000_0000,
  AV: 0x8000_0000,
} as const;
/** Pairs of RAL and RAH. */
export const RAR_ENTRIES = 24;

/** Multiple Receive Queues Command (8.10). */
export const Mrqc = {
  ENABLE: 0x7,
  /** One queue for all, or DEF_Q. */
  NONE: 0,
  RSS: 2,
  VMDQ: 3,
  VMDQ_RSS: 5,
  DEF_Q: 0x38,
  TCP_IPV4: 0x1_0000,
  IPV4: 0x2_0000,
  TCP_IPV6_EX: 0x4_0000,
  IPV6_EX: 0x8_0000,
  IPV6: 0x10_0000,
  TCP_IPV6: 0x20_0000,
  UDP_IPV4: 0x40_0000,
  UDP_IPV6: 0x80_0000,
  UDP_IPV6_EX: 0x100_0000,
} as const;
export const RETA_ENTRIES = 128;
export const RSS_KEY_BYTES = 40;

/** VMDq Control (8.14). */
export const VtCtl = {
  DEF_PL_SHIFT: 7,
  DEF_PL: 0x380,
  FLP: 0x800,
  IGNORE_MAC: 0x1000_0000,
  DIS_DEF_POOL: 0x2000_0000,
  RPL_EN: 0x4000_0000,
} as const;

/** VM Offload (8.14): what pool `n` accepts. */
export const Vmolr = {
  RLPML: 0x3fff,
  LPE: 0x1_0000,
  RSSE: 0x2_0000,
  AUPE: 0x100_0000,
  ROMPE: 0x200_0000,
  ROPE: 0x400_0000,
  BAM: 0x800_0000,
  MPE: 0x1000_0000,
  /** Of later controllers, and of QEMU: unicast promiscuity. Reserved here. */
  UPE: 0x2000_0000,
  STRVLAN: 0x4000_0000,
  STRCRC: 0x8000_0000,
} as const;

/** DMA VM Offload (8.14). */
export const Dvmolr = { HIDVLAN: 0x2000_0000, STRVLAN: 0x4000_0000, STRCRC: 0x8000_0000 } as const;
/** Replication Offload (8.10.4): for frames that go to several pools. */
export const Rplolr = { STRVLAN: 0x4000_0000, STRCRC: 0x8000_0000 } as const;

/** VLAN VM Filter (8.14). */
export const Vlvf = {
  VLAN_ID: 0xfff,
  POOLSEL_SHIFT: 12,
  POOLSEL: 0xf_f000,
  LVLAN: 0x10_0000,
  VI_EN: 0x8000_0000,
} as const;
export const VLVF_ENTRIES = 32;

/** VM VLAN Insert (8.14). */
export const Vmvir = { PORT_VLAN: 0xffff, VLANA_DEFAULT: 0x4000_0000, VLANA_NEVER: 0x8000_0000, VLANA: 0xc000_0000 } as const;

/** DMA Tx Switch Control (8.14). */
export const Dtxswc = {
  MACAS: 0xff,
  VLANAS_SHIFT: 8,
  VLANAS: 0xff00,
  LLE_SHIFT: 16,
  LLE: 0xff_0000,
  LOOPBACK_EN: 0x8000_0000,
} as const;

/** DMA Tx Control (8.12). */
export const Dtxctl = {
  ENABLE_SPOOF_QUEUE: 0x4,
  VLAN_ADDED: 0x8,
  OUT_OF_SYNC_EN: 0x10,
  MDP_EN: 0x20,
  SPOOF_INT: 0x40,
} as const;

/** Transmit Control (8.12). */
export const Tctl = {
  EN: 0x2,
  PSP: 0x8,
  CT_SHIFT: 4,
  CT: 0xff0,
  BST: 0x3f_f000,
  BST_SHIFT: 12,
  SWXOFF: 0x40_0000,
  RTLC: 0x100_0000,
} as const;

/** FCRTL0.XONE (8.5): XON frames are sent. */
export const Fcrtl = { RTL: 0xfff0, XONE: 0x8000_0000 } as const;
export const Fcrth = { RTH: 0x1_fff0 } as const;

/** Mailbox causes at the physical function: messages, and acknowledgements (8.14). */
export const Mbvficr = { VFREQ: 0xff, VFACK_SHIFT: 16, VFACK: 0xff_0000 } as const;

/** Wake-up Control, filters, status (8.20). */
export const Wuc = { APME: 0x1, PME_EN: 0x2, PME_STATUS: 0x4, APMPME: 0x8 } as const;
export const Wufc = { LNKC: 0x1, MAG: 0x2, EX: 0x4, MC: 0x8, BC: 0x10, ARP: 0x20, IPV4: 0x40, IPV6: 0x80 } as const;

/** Time sync (8.16). */
export const Tsyncctl = { VALID: 0x1, TYPE: 0xe, EN: 0x10 } as const;
export const Timinca = { INCVALUE: 0xff_ffff, INCPERIOD_SHIFT: 24 } as const;

/** The register of queue `queue` whose element 0 is `register`: RDBAL to RQDPC, TDBAL to TDWBAH. */
export function ofQueue(register: number, queue: number): number {
  return register + queue * QUEUE_STRIDE;
}

/** RAL of pair `index`; RAH is 4 bytes on. */
export function ralOf(index: number): number {
  return index < 16 ? Reg.RAL + index * 8 : Reg.RAL2 + (index - 16) * 8;
}
