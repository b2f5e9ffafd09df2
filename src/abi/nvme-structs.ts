/**
 * Data structures of NVM Express 1.4 that commands carry: Identify data, log pages, descriptors.
 * Field names are the specification's, in lower case.
 */
import { bit, bits, checkFields } from '../base/bit-fields.ts';
import { arrayOf, byteArray, cString, type LayoutValue, layout, text, u8, u16, u32, u64, u128 } from '../base/layout.ts';
import { struct } from '../base/struct.ts';

/**
 * Identify Controller (5.15.2.2, figure 247). `psd` (see `PowerState`) and vendor-specific bytes
 * are not among the fields.
 */
export const IdentifyController = layout('Identify Controller', 4096, {
  vid: u16(0),
  ssvid: u16(2),
  sn: text(4, 20),
  mn: text(24, 40),
  fr: text(64, 8),
  rab: u8(72),
  ieee: byteArray(73, 3),
  cmic: u8(76),
  /** Power of two, in units of the minimum memory page size; 0: no limit. */
  mdts: u8(77),
  cntlid: u16(78),
  ver: u32(80),
  /** Microseconds. */
  rtd3r: u32(84),
  rtd3e: u32(88),
  oaes: u32(92),
  ctratt: u32(96),
  rrls: u16(100),
  /** 1: I/O controller. */
  cntrltype: u8(111),
  fguid: byteArray(112, 16),
  crdt1: u16(128),
  crdt2: u16(130),
  crdt3: u16(132),
  oacs: u16(256),
  /** Abort Command Limit, zero-based. */
  acl: u8(258),
  /** Asynchronous Event Request Limit, zero-based. */
  aerl: u8(259),
  frmw: u8(260),
  lpa: u8(261),
  /** Error Log Page Entries, zero-based. */
  elpe: u8(262),
  /** Number of Power States Support, zero-based. */
  npss: u8(263),
  avscc: u8(264),
  apsta: u8(265),
  /** Kelvin. */
  wctemp: u16(266),
  cctemp: u16(268),
  mtfa: u16(270),
  hmpre: u32(272),
  hmmin: u32(276),
  /** Bytes. */
  tnvmcap: u128(280),
  unvmcap: u128(296),
  rpmbs: u32(312),
  edstt: u16(316),
  dsto: u8(318),
  fwug: u8(319),
  kas: u16(320),
  hctma: u16(322),
  mntmt: u16(324),
  mxtmt: u16(326),
  sanicap: u32(328),
  hmminds: u32(332),
  hmmaxd: u16(336),
  nsetidmax: u16(338),
  endgidmax: u16(340),
  anatt: u8(342),
  anacap: u8(343),
  anagrpmax: u32(344),
  nanagrpid: u32(348),
  pels: u32(352),
  /** Required in 3:0, maximum in 7:4. */
  sqes: u8(512),
  cqes: u8(513),
  maxcmd: u16(514),
  nn: u32(516),
  oncs: u16(520),
  fuses: u16(522),
  fna: u8(524),
  vwc: u8(525),
  awun: u16(526),
  awupf: u16(528),
  nvscc: u8(530),
  nwpc: u8(531),
  acwu: u16(532),
  sgls: u32(536),
  mnan: u32(540),
  subnqn: cString(768, 256),
});
export type IdentifyController = LayoutValue<typeof IdentifyController>;

/** Where the power state descriptors stand in Identify Controller; 32 of them. */
export const POWER_STATES_OFFSET = 2048;

/** Power State Descriptor (figure 248). */
export const PowerState = layout('Power State Descriptor', 32, {
  /** Centiwatts, unless bit 0 of `flags` (MXPS): then 0.1 mW. */
  mp: u16(0),
  /** MXPS in bit 0, NOPS (non-operational) in bit 1. */
  flags: u8(3),
  /** Microseconds. */
  enlat: u32(4),
  exlat: u32(8),
  rrt: u8(12),
  rrl: u8(13),
  rwt: u8(14),
  rwl: u8(15),
  idlp: u16(16),
  ips: u8(18),
  actp: u16(20),
  aps: u8(22),
});

/** Identify Namespace (5.15.2.1, figure 245). */
export const IdentifyNamespace = layout('Identify Namespace', 4096, {
  /** Logical blocks. */
  nsze: u64(0),
  ncap: u64(8),
  nuse: u64(16),
  nsfeat: u8(24),
  /** Number of LBA Formats, zero-based. */
  nlbaf: u8(25),
  /** Formatted LBA Size: the index of its format in 3:0. */
  flbas: u8(26),
  mc: u8(27),
  dpc: u8(28),
  dps: u8(29),
  nmic: u8(30),
  rescap: u8(31),
  fpi: u8(32),
  dlfeat: u8(33),
  nawun: u16(34),
  nawupf: u16(36),
  nacwu: u16(38),
  nabsn: u16(40),
  nabo: u16(42),
  nabspf: u16(44),
  noiob: u16(46),
  nvmcap: u128(48),
  npwg: u16(64),
  npwa: u16(66),
  npdg: u16(68),
  npda: u16(70),
  nows: u16(72),
  anagrpid: u32(92),
  nsattr: u8(99),
  nvmsetid: u16(100),
  endgid: u16(102),
  nguid: byteArray(104, 16),
  eui64: byteArray(120, 8),
  lbaf: arrayOf(128, 16, u32),
});
export type IdentifyNamespace = LayoutValue<typeof IdentifyNamespace>;

/**
 * LBA Format (figure 246): metadata bytes, data size as a power of two, relative performance (0
 * best).
 */
export const Lbaf = { MS: bits(15, 0), LBADS: bits(23, 16), RP: bits(25, 24) } as const;
checkFields('LBA Format', 32, Lbaf);

/** Error Information log entry (5.14.1.1, figure 193). */
export const ErrorLogEntry = layout('Error Information Log Entry', 64, {
  /** Number of this error since the first one; 0: no entry. */
  errorCount: u64(0),
  /** FFFFh: the error concerns no command. */
  sqid: u16(8),
  cid: u16(10),
  /** Status field as in the completion, with the phase tag in bit 0. */
  status: u16(12),
  /** Byte in 7:0, bit in 10:8; FFFFh: the error concerns no particular field. */
  parameterErrorLocation: u16(14),
  lba: u64(16),
  nsid: u32(24),
  vendorInformation: u8(28),
  trtype: u8(29),
  commandSpecific: u64(32),
  transportSpecific: u16(40),
});
export type ErrorLogEntry = LayoutValue<typeof ErrorLogEntry>;

/** SMART / Health Information log (5.14.1.2, figure 194). */
export const SmartLog = layout('SMART / Health Information', 512, {
  criticalWarning: u8(0),
  /** Kelvin. */
  compositeTemperature: u16(1),
  /** Percent. */
  availableSpare: u8(3),
  availableSpareThreshold: u8(4),
  percentageUsed: u8(5),
  enduranceGroupWarning: u8(6),
  /** Thousands of 512-byte units, rounded up. */
  dataUnitsRead: u128(32),
  dataUnitsWritten: u128(48),
  hostReadCommands: u128(64),
  hostWriteCommands: u128(80),
  /** Minutes. */
  controllerBusyTime: u128(96),
  powerCycles: u128(112),
  powerOnHours: u128(128),
  unsafeShutdowns: u128(144),
  mediaErrors: u128(160),
  errorLogEntries: u128(176),
  /** Minutes. */
  warningTemperatureTime: u32(192),
  criticalTemperatureTime: u32(196),
  /** Kelvin; 0: no such sensor. */
  temperatureSensors: arrayOf(200, 8, u16),
  thermalTransitions1: u32(216),
  thermalTransitions2: u32(220),
  thermalTime1: u32(224),
  thermalTime2: u32(228),
});
export type SmartLog = LayoutValue<typeof SmartLog>;

/** Firmware Slot Information log (5.14.1.3, figure 195). */
export const FirmwareSlotLog = layout('Firmware Slot Information', 512, {
  /** Active slot in 2:0, slot of the next reset in 6:4. */
  afi: u8(0),
  frs1: text(8, 8),
  frs2: text(16, 8),
  frs3: text(24, 8),
  frs4: text(32, 8),
  frs5: text(40, 8),
  frs6: text(48, 8),
  frs7: text(56, 8),
});
export type FirmwareSlotLog = LayoutValue<typeof FirmwareSlotLog>;

/**
 * Changed Namespace List log (5.14.1.4): NSIDs in order, at most 1024; the one entry FFFFFFFFh says
 * that there are more.
 */
export const CHANGED_NAMESPACES_MAX = 1024;

/** Commands Supported and Effects log (5.14.1.5): 256 admin dwords, then 256 I/O dwords. */
export const COMMANDS_SUPPORTED_SIZE = 4096;
export const COMMANDS_SUPPORTED_IO = 1024;
export const CommandEffects = {
  /** Supported. */
  CSUPP: bit(0),
  /**
   * Logical Block Content Change, Namespace Capability, Namespace Inventory, Controller Capability
   * Change.
   */
  LBCC: bit(1),
  NCC: bit(2),
  NIC: bit(3),
  CCC: bit(4),
  /** Command Submission and Execution: 0 with others, 1 alone on its namespace, 2 alone. */
  CSE: bits(18, 16),
  UUID: bit(19),
} as const;
checkFields('Commands Supported and Effects', 32, CommandEffects);

/** Dataset Management range (6.7.1, figure 368). */
export const DsmRange = struct('Dataset Management Range', 16, { contextAttributes: 'u32', length: 'u32', slba: 'u64' });

/**
 * Namespace Identification Descriptor (5.15.2.4, figure 249): this head, then `nidl` bytes. An NIDT
 * of 0 ends the list.
 */
export const NamespaceDescriptor = struct('Namespace Identification Descriptor', 4, { nidt: 'u8', nidl: 'u8', reserved: 'u16' });

/**
 * Timestamp feature's data (5.21.1.14): milliseconds since 1970 or since the last reset in 47:0,
 * how it was set in 51:49.
 */
export const Timestamp = {
  SIZE: 8,
  VALUE_MASK: 0xffff_ffff_ffffn,
  SYNCH: 1n << 48n,
  /** Timestamp Origin, bits 51:49: 0 cleared by a reset, 1 set by the host. */
  ORIGIN_HOST: 1n << 49n,
} as const;
