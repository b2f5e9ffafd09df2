/**
 * Numbers of PCI and PCI Express configuration space (S2-20): the header, the ids of capabilities,
 * and the capabilities that clients of vfio-user program themselves. The registers of other
 * capabilities stand in pci/capabilities/, beside their builders and decoders. Names follow
 * linux/pci_regs.h without its prefixes, so that a reader can search for one by the other.
 *
 * @see PCI Local Bus 3.0 chapter 6 and appendix H/I, PCI Express Base 6.0 chapter 7
 */

/**
 * Bytes of conventional and of PCI Express configuration space, and of the header both start with.
 */
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

/**
 * Where header type 2, a CardBus bridge, differs from type 1 (PC Card Standard 8.0, vol. 2, 5.4).
 */
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

/**
 * Header of an extended capability: a dword of id (15:0), version (19:16) and next (31:20,
 * dword-aligned).
 */
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
