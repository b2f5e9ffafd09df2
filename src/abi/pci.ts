/**
 * Numbers of PCI and PCI Express configuration space: the one place that holds register offsets and bits (S2-20).
 * Names follow linux/pci_regs.h without its prefixes, so that either can be found from the other.
 *
 * @see PCI Local Bus 3.0 chapter 6 and appendix H/I, PCI Express Base 6.0 chapter 7
 */

/** Bytes of conventional and of PCI Express configuration space, and of the header both start with. */
export const CFG_SPACE_SIZE = 256;
export const CFG_SPACE_EXP_SIZE = 4096;
export const HEADER_SIZE = 64;

/** Registers of the header. Those of bridges (type 1) carry the prefix `BRIDGE_`. */
export const Config = {
  VENDOR_ID: 0x00,
  DEVICE_ID: 0x02,
  COMMAND: 0x04,
  STATUS: 0x06,
  REVISION_ID: 0x08,
  CLASS_PROG: 0x09,
  CLASS_DEVICE: 0x0a,
  CACHE_LINE_SIZE: 0x0c,
  LATENCY_TIMER: 0x0d,
  HEADER_TYPE: 0x0e,
  BIST: 0x0f,
  BASE_ADDRESS_0: 0x10,
  BASE_ADDRESS_1: 0x14,
  BASE_ADDRESS_2: 0x18,
  BASE_ADDRESS_3: 0x1c,
  BASE_ADDRESS_4: 0x20,
  BASE_ADDRESS_5: 0x24,
  CARDBUS_CIS: 0x28,
  SUBSYSTEM_VENDOR_ID: 0x2c,
  SUBSYSTEM_ID: 0x2e,
  ROM_ADDRESS: 0x30,
  CAPABILITY_LIST: 0x34,
  INTERRUPT_LINE: 0x3c,
  INTERRUPT_PIN: 0x3d,
  MIN_GNT: 0x3e,
  MAX_LAT: 0x3f,
  BRIDGE_PRIMARY_BUS: 0x18,
  BRIDGE_SECONDARY_BUS: 0x19,
  BRIDGE_SUBORDINATE_BUS: 0x1a,
  BRIDGE_SEC_LATENCY_TIMER: 0x1b,
  BRIDGE_IO_BASE: 0x1c,
  BRIDGE_IO_LIMIT: 0x1d,
  BRIDGE_SEC_STATUS: 0x1e,
  BRIDGE_MEMORY_BASE: 0x20,
  BRIDGE_MEMORY_LIMIT: 0x22,
  BRIDGE_PREF_MEMORY_BASE: 0x24,
  BRIDGE_PREF_MEMORY_LIMIT: 0x26,
  BRIDGE_PREF_BASE_UPPER32: 0x28,
  BRIDGE_PREF_LIMIT_UPPER32: 0x2c,
  BRIDGE_IO_BASE_UPPER16: 0x30,
  BRIDGE_IO_LIMIT_UPPER16: 0x32,
  BRIDGE_ROM_ADDRESS: 0x38,
  BRIDGE_CONTROL: 0x3e,
} as const;

/** Where header type 2, a CardBus bridge, differs from type 1 (PC Card Standard 8.0, vol. 2, 5.4). */
export const Cardbus = {
  CAPABILITY_LIST: 0x14,
  SEC_STATUS: 0x16,
  PRIMARY_BUS: 0x18,
  CARD_BUS: 0x19,
  SUBORDINATE_BUS: 0x1a,
  LATENCY_TIMER: 0x1b,
  /** Base and limit of a window; the second one follows 8 bytes later. */
  MEMORY_BASE_0: 0x1c,
  IO_BASE_0: 0x2c,
  /** In an I/O base: both registers have 32 bits. */
  IO_32: 0x1,
  BRIDGE_CONTROL: 0x3e,
  PREFETCH_0: 0x100,
  SUBSYSTEM_VENDOR_ID: 0x40,
  SUBSYSTEM_ID: 0x42,
  LEGACY_MODE_BASE: 0x44,
} as const;

export const Command = {
  IO: 0x1,
  MEMORY: 0x2,
  MASTER: 0x4,
  SPECIAL: 0x8,
  INVALIDATE: 0x10,
  VGA_PALETTE: 0x20,
  PARITY: 0x40,
  WAIT: 0x80,
  SERR: 0x100,
  FAST_BACK: 0x200,
  INTX_DISABLE: 0x400,
} as const;

export const Status = {
  IMM_READY: 0x1,
  INTERRUPT: 0x8,
  CAP_LIST: 0x10,
  MHZ_66: 0x20,
  FAST_BACK: 0x80,
  PARITY: 0x100,
  DEVSEL_MASK: 0x600,
  SIG_TARGET_ABORT: 0x800,
  REC_TARGET_ABORT: 0x1000,
  REC_MASTER_ABORT: 0x2000,
  SIG_SYSTEM_ERROR: 0x4000,
  DETECTED_PARITY: 0x8000,
  /** All bits that software clears by writing one. */
  ERRORS: 0xf900,
} as const;

export const HeaderType = { NORMAL: 0, BRIDGE: 1, CARDBUS: 2, MASK: 0x7f, MULTIFUNCTION: 0x80 } as const;

/** Bits of a base address register. */
export const Bar = {
  COUNT: 6,
  SPACE_IO: 0x1,
  MEM_TYPE_MASK: 0x6,
  MEM_TYPE_64: 0x4,
  MEM_PREFETCH: 0x8,
  /** Address bits, as masks that leave the type bits out. */
  MEM_MASK: 0xfffffff0,
  IO_MASK: 0xfffffffc,
  ROM_ENABLE: 0x1,
  ROM_MASK: 0xfffff800,
} as const;

/** Every capability starts with its id and the offset of the next one. */
export const CapHeader = { ID: 0, NEXT: 1, SIZE: 4 } as const;

export const CapId = {
  NULL: 0x00,
  PM: 0x01,
  AGP: 0x02,
  VPD: 0x03,
  SLOTID: 0x04,
  MSI: 0x05,
  CHSWP: 0x06,
  PCIX: 0x07,
  HT: 0x08,
  VNDR: 0x09,
  DBG: 0x0a,
  CCRC: 0x0b,
  SHPC: 0x0c,
  SSVID: 0x0d,
  AGP3: 0x0e,
  SECDEV: 0x0f,
  EXP: 0x10,
  MSIX: 0x11,
  SATA: 0x12,
  AF: 0x13,
  EA: 0x14,
  FPB: 0x15,
} as const;

export const ExtCapId = {
  NULL: 0x00,
  ERR: 0x01,
  VC: 0x02,
  DSN: 0x03,
  PWR: 0x04,
  RCLD: 0x05,
  RCILC: 0x06,
  RCEC: 0x07,
  MFVC: 0x08,
  VC9: 0x09,
  RCRB: 0x0a,
  VNDR: 0x0b,
  CAC: 0x0c,
  ACS: 0x0d,
  ARI: 0x0e,
  ATS: 0x0f,
  SRIOV: 0x10,
  MRIOV: 0x11,
  MCAST: 0x12,
  PRI: 0x13,
  AMD_XXX: 0x14,
  REBAR: 0x15,
  DPA: 0x16,
  TPH: 0x17,
  LTR: 0x18,
  SECPCI: 0x19,
  PMUX: 0x1a,
  PASID: 0x1b,
  LN: 0x1c,
  DPC: 0x1d,
  L1SS: 0x1e,
  PTM: 0x1f,
  MPHY: 0x20,
  FRS: 0x21,
  RTR: 0x22,
  DVSEC: 0x23,
  VF_REBAR: 0x24,
  DLF: 0x25,
  PL_16GT: 0x26,
  LMR: 0x27,
  HIERARCHY: 0x28,
  NPEM: 0x29,
  PL_32GT: 0x2a,
  DOE: 0x2e,
  DEV3: 0x2f,
  IDE: 0x30,
  PL_64GT: 0x31,
  FLIT_LOGGING: 0x32,
  FLIT_ERROR_INJECTION: 0x34,
  MRBL: 0x36,
} as const;

/** Header of an extended capability: a dword of id (15:0), version (19:16) and next (31:20, dword-aligned). */
export const ExtCapHeader = { ID_MASK: 0xffff, VERSION_SHIFT: 16, VERSION_MASK: 0xf, NEXT_SHIFT: 20, NEXT_MASK: 0xffc, SIZE: 4 } as const;

/** Power management (PCI PM 1.2). */
export const Pm = {
  PMC: 2,
  PMC_VERSION_MASK: 0x0007,
  PMC_PME_CLOCK: 0x0008,
  /** Immediate_Readiness_on_Return_to_D0. */
  PMC_IMM_READY: 0x0010,
  PMC_DSI: 0x0020,
  /** Aux_Current: an index into 0, 55, 100, 160, 220, 270, 320, 375 mA. */
  PMC_AUX_SHIFT: 6,
  PMC_D1: 0x0200,
  PMC_D2: 0x0400,
  PMC_PME_MASK: 0xf800,
  /** Shifted by the power state: D0, D1, D2, D3hot, D3cold (4). */
  PMC_PME_SHIFT: 11,
  CTRL: 4,
  CTRL_STATE_MASK: 0x0003,
  CTRL_NO_SOFT_RESET: 0x0008,
  CTRL_PME_ENABLE: 0x0100,
  CTRL_PME_STATUS: 0x8000,
  PPB_EXTENSIONS: 6,
  DATA: 7,
  SIZE: 8,
} as const;

/** Values of Pm.CTRL_STATE_MASK. */
export const PowerState = { D0: 0, D1: 1, D2: 2, D3HOT: 3 } as const;

export const Agp = { SIZE: 12 } as const;

/** Vital product data. */
export const Vpd = { ADDR: 2, ADDR_MASK: 0x7fff, ADDR_F: 0x8000, DATA: 4, SIZE: 8 } as const;

export const Msi = {
  FLAGS: 2,
  FLAGS_ENABLE: 0x0001,
  /** Messages the device can send, as log2. */
  FLAGS_QMASK: 0x000e,
  FLAGS_QMASK_SHIFT: 1,
  /** Messages software has given it, as log2. */
  FLAGS_QSIZE: 0x0070,
  FLAGS_QSIZE_SHIFT: 4,
  FLAGS_64BIT: 0x0080,
  FLAGS_MASKBIT: 0x0100,
  ADDRESS_LO: 4,
  ADDRESS_HI: 8,
  DATA_32: 8,
  DATA_64: 12,
  MASK_32: 12,
  MASK_64: 16,
  PENDING_32: 16,
  PENDING_64: 20,
  SIZE_32: 10,
  SIZE_64: 14,
  SIZE_32_MASKED: 20,
  SIZE_64_MASKED: 24,
  MAX_VECTORS: 32,
} as const;

export const Msix = {
  FLAGS: 2,
  /** Vectors minus one. */
  FLAGS_QSIZE: 0x07ff,
  FLAGS_MASKALL: 0x4000,
  FLAGS_ENABLE: 0x8000,
  TABLE: 4,
  PBA: 8,
  /** In TABLE and PBA: which BAR. The rest is the offset in it. */
  BIR_MASK: 0x7,
  SIZE: 12,
  MAX_VECTORS: 2048,
  ENTRY_SIZE: 16,
  ENTRY_ADDRESS_LO: 0,
  ENTRY_ADDRESS_HI: 4,
  ENTRY_DATA: 8,
  ENTRY_CONTROL: 12,
  ENTRY_CONTROL_MASKBIT: 1,
} as const;

/** PCI-X. */
export const Pcix = { CMD: 2, CMD_VERSION_SHIFT: 12, CMD_VERSION_MASK: 0x3, STATUS: 4, ECC_CSR: 8, SIZE_V0: 8, SIZE_V2: 24 } as const;

/** HyperTransport: the type is bits 7:5 (some types take 7:3). */
export const Ht = { FLAGS_HIGH: 3, TYPE3_MASK: 0xe0, SIZE_SHORT: 24, SIZE_LONG: 28 } as const;

/** Vendor-specific: the length follows the header. */
export const Vndr = { LENGTH: 2 } as const;

/** Subsystem ids of a bridge. */
export const Ssvid = { VENDOR_ID: 4, DEVICE_ID: 6, SIZE: 8 } as const;

/** PCI Express capability. */
export const PciExp = {
  FLAGS: 2,
  FLAGS_VERS: 0x000f,
  FLAGS_TYPE: 0x00f0,
  FLAGS_TYPE_SHIFT: 4,
  FLAGS_FLIT: 0x8000,
  FLAGS_SLOT: 0x0100,
  FLAGS_IRQ: 0x3e00,
  DEVCAP: 4,
  DEVCAP_PAYLOAD: 0x7,
  DEVCAP_PHANTOM: 0x18,
  DEVCAP_EXT_TAG: 0x20,
  DEVCAP_RBER: 0x8000,
  DEVCAP_FLR: 0x10000000,
  DEVCTL: 8,
  DEVCTL_CERE: 0x0001,
  DEVCTL_NFERE: 0x0002,
  DEVCTL_FERE: 0x0004,
  DEVCTL_URRE: 0x0008,
  DEVCTL_RELAX_EN: 0x0010,
  DEVCTL_PAYLOAD: 0x00e0,
  DEVCTL_PAYLOAD_SHIFT: 5,
  DEVCTL_EXT_TAG: 0x0100,
  DEVCTL_PHANTOM: 0x0200,
  DEVCTL_AUX_PME: 0x0400,
  DEVCTL_NOSNOOP_EN: 0x0800,
  DEVCTL_READRQ: 0x7000,
  DEVCTL_READRQ_SHIFT: 12,
  DEVCTL_BCR_FLR: 0x8000,
  DEVSTA: 0x0a,
  DEVSTA_ERRORS: 0x000f,
  LNKCAP: 0x0c,
  LNKCAP_SPEED: 0xf,
  /** Data_Link_Layer_Link_Active_Reporting_Capable. */
  LNKCAP_DLLLARC: 0x0010_0000,
  LNKCTL: 0x10,
  LNKSTA: 0x12,
  /** Data_Link_Layer_Link_Active. */
  LNKSTA_DLLLA: 0x2000,
  SLTCAP: 0x14,
  SLTCTL: 0x18,
  SLTSTA: 0x1a,
  RTCTL: 0x1c,
  RTCAP: 0x1e,
  RTSTA: 0x20,
  DEVCAP2: 0x24,
  DEVCTL2: 0x28,
  DEVCTL2_ARI: 0x0020,
  DEVCTL2_EETLPPB: 0x8000,
  DEVSTA2: 0x2a,
  LNKCAP2: 0x2c,
  LNKCTL2: 0x30,
  LNKSTA2: 0x32,
  SLTCAP2: 0x34,
  SLTCTL2: 0x38,
  SLTSTA2: 0x3a,
  /** Sizes by version and by whether there is a link (a root-complex integrated endpoint has none). */
  SIZE_V1: 0x14,
  SIZE_V1_NO_LINK: 0x0c,
  SIZE_V2: 0x34,
  SIZE_V2_NO_LINK: 0x2c,
  SIZE_V2_FULL: 0x3c,
} as const;

export const PciExpType = {
  ENDPOINT: 0,
  LEG_END: 1,
  ROOT_PORT: 4,
  UPSTREAM: 5,
  DOWNSTREAM: 6,
  PCI_BRIDGE: 7,
  PCIE_BRIDGE: 8,
  RC_END: 9,
  RC_EC: 10,
} as const;

export const Sata = { REGS: 4, REGS_MASK: 0xf, REGS_INLINE: 0xf, SIZE_SHORT: 8, SIZE_LONG: 16 } as const;

/** Advanced features: function-level reset for conventional PCI. */
export const Af = { LENGTH: 2, CAP: 3, CAP_TP: 0x01, CAP_FLR: 0x02, CTRL: 4, CTRL_FLR: 0x01, STATUS: 5, STATUS_TP: 0x01, SIZE: 6 } as const;

/** Advanced error reporting. */
export const Aer = {
  UNCOR_STATUS: 0x04,
  UNCOR_INTERNAL: 0x0040_0000,
  UNCOR_MASK: 0x08,
  UNCOR_SEVER: 0x0c,
  COR_STATUS: 0x10,
  COR_RECEIVER: 0x0001,
  COR_MASK: 0x14,
  CAP: 0x18,
  CAP_FIRST_ERROR: 0x1f,
  CAP_ECRC_GENC: 0x20,
  CAP_ECRC_GENE: 0x40,
  CAP_ECRC_CHKC: 0x80,
  CAP_ECRC_CHKE: 0x100,
  HEADER_LOG: 0x1c,
  ROOT_COMMAND: 0x2c,
  ROOT_STATUS: 0x30,
  ROOT_ERR_SRC: 0x34,
  TLP_PREFIX_LOG: 0x38,
  SIZE: 0x48,
} as const;

export const Vc = {
  PORT_CAP1: 4,
  CAP1_EVCC: 0x7,
  PORT_CAP2: 8,
  CAP2_32_PHASE: 0x2,
  CAP2_64_PHASE: 0x4,
  CAP2_128_PHASE: 0x8,
  BASE_SIZE: 16,
  PER_VC_SIZE: 12,
} as const;

export const Dsn = { SERIAL_LO: 4, SERIAL_HI: 8, SIZE: 12 } as const;
export const Pwr = { DSR: 4, DATA: 8, CAP: 12, SIZE: 16 } as const;
export const Vsec = { HEADER: 4, HEADER_LENGTH_SHIFT: 20, HEADER_REV_SHIFT: 16 } as const;
export const Dvsec = { HEADER1: 4, HEADER1_LENGTH_SHIFT: 20, HEADER1_REV_SHIFT: 16, HEADER2: 8 } as const;

export const Acs = {
  CAP: 4,
  SV: 0x01,
  TB: 0x02,
  RR: 0x04,
  CR: 0x08,
  UF: 0x10,
  EC: 0x20,
  DT: 0x40,
  EGRESS_BITS: 5,
  CTRL: 6,
  EGRESS_CTL: 8,
  SIZE: 8,
} as const;

export const Ari = { CAP: 4, CAP_MFVC: 0x1, CAP_ACS: 0x2, CAP_NFN_SHIFT: 8, CTRL: 6, SIZE: 8 } as const;
export const Ats = { CAP: 4, CTRL: 6, SIZE: 8 } as const;

export const Sriov = {
  CAP: 0x04,
  CTRL: 0x08,
  CTRL_VFE: 0x01,
  CTRL_MSE: 0x08,
  CTRL_ARI: 0x10,
  STATUS: 0x0a,
  INITIAL_VF: 0x0c,
  TOTAL_VF: 0x0e,
  NUM_VF: 0x10,
  FUNC_LINK: 0x12,
  VF_OFFSET: 0x14,
  VF_STRIDE: 0x16,
  VF_DID: 0x1a,
  SUP_PGSIZE: 0x1c,
  SYS_PGSIZE: 0x20,
  BAR: 0x24,
  VFM: 0x3c,
  SIZE: 0x40,
} as const;

export const Mcast = { SIZE: 0x28 } as const;
export const Pri = { CTRL: 4, STATUS: 6, MAX_REQ: 8, ALLOC_REQ: 12, SIZE: 16 } as const;
export const Rebar = { CAP: 4, CTRL: 8, CTRL_NBAR_MASK: 0xe0, CTRL_NBAR_SHIFT: 5, HEADER_SIZE: 4, PER_BAR_SIZE: 8 } as const;
export const Dpa = { CAP: 4, CAP_SUBSTATE_MASK: 0x1f, BASE_SIZE: 16 } as const;

export const Tph = {
  CAP: 4,
  CAP_LOC_MASK: 0x600,
  LOC_CAP: 0x200,
  CAP_ST_MASK: 0x07ff0000,
  CAP_ST_SHIFT: 16,
  BASE_SIZE: 12,
} as const;

export const Ltr = { MAX_SNOOP_LAT: 4, MAX_NOSNOOP_LAT: 6, SIZE: 8 } as const;
