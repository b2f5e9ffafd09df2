/**
 * Numbers of NVM Express 1.4: controller registers, queue entries, opcodes, features, log pages.
 * Names are the specification's. Identify's numbers stand in nvme-identify.ts, status codes in
 * nvme-status.ts, data structures in nvme-structs.ts.
 *
 * @see NVM Express Base Specification, revision 1.4
 */
import { type BitField, bit, bits, checkFields, fieldMask } from '../base/bit-fields.ts';

/** Offsets of the controller's registers in BAR 0 (3.1). */
export const NvmeReg = {
  CAP: 0x00,
  CAP_HIGH: 0x04,
  VS: 0x08,
  INTMS: 0x0c,
  INTMC: 0x10,
  CC: 0x14,
  CSTS: 0x1c,
  NSSR: 0x20,
  AQA: 0x24,
  ASQ: 0x28,
  ASQ_HIGH: 0x2c,
  ACQ: 0x30,
  ACQ_HIGH: 0x34,
  CMBLOC: 0x38,
  CMBSZ: 0x3c,
  BPINFO: 0x40,
  BPRSEL: 0x44,
  BPMBL: 0x48,
  CMBMSC: 0x50,
  CMBSTS: 0x58,
  /** Controller Ready Timeouts (NVMe 2.0, 3.1.3.20): present where CAP.CRMS says so. */
  CRTO: 0x68,
  PMRCAP: 0xe00,
  PMRCTL: 0xe04,
  PMRSTS: 0xe08,
  PMREBS: 0xe0c,
  PMRSWTP: 0xe10,
  PMRMSCL: 0xe14,
  PMRMSCU: 0xe18,
  /** SQ0TDBL, the first doorbell. */
  DOORBELLS: 0x1000,
} as const;

/** Controller Capabilities (3.1.1). 64 bits: read a field with `capField`. */
export const Cap = {
  /** Maximum Queue Entries Supported, zero-based. */
  MQES: bits(15, 0, 'ro'),
  /** Contiguous Queues Required. */
  CQR: bit(16, 'ro'),
  /** Arbitration Mechanism Supported: bit 0 weighted round robin, bit 1 vendor specific. */
  AMS: bits(18, 17, 'ro'),
  /** Timeout, in units of 500 ms: how long RDY may take. */
  TO: bits(31, 24, 'ro'),
  /** Doorbell Stride: 2 ^ (2 + DSTRD) bytes. */
  DSTRD: bits(35, 32, 'ro'),
  /** NVM Subsystem Reset Supported. */
  NSSRS: bit(36, 'ro'),
  /** Command Sets Supported: bit 0 NVM, bit 7 no I/O command set. */
  CSS: bits(44, 37, 'ro'),
  /** Boot Partition Support. */
  BPS: bit(45, 'ro'),
  /** Memory Page Size Minimum and Maximum: 2 ^ (12 + n) bytes. */
  MPSMIN: bits(51, 48, 'ro'),
  MPSMAX: bits(55, 52, 'ro'),
  PMRS: bit(56, 'ro'),
  CMBS: bit(57, 'ro'),
  /** Controller Ready Modes Supported (NVMe 2.0): bit 0 with media, bit 1 independent of media. */
  CRMS: bits(60, 59, 'ro'),
} as const;

/** Controller Ready Timeouts (NVMe 2.0), in units of 500 ms. */
export const Crto = {
  /** Ready With Media. */
  CRWMT: bits(15, 0, 'ro'),
} as const;

/** Controller Configuration (3.1.5). */
export const Cc = {
  EN: bit(0),
  /** I/O Command Set Selected: 0 NVM, 7 admin only. */
  CSS: bits(6, 4),
  MPS: bits(10, 7),
  /** 0 round robin, 1 weighted round robin. */
  AMS: bits(13, 11),
  SHN: bits(15, 14),
  /** Entry sizes, as powers of two. */
  IOSQES: bits(19, 16),
  IOCQES: bits(23, 20),
} as const;

/** CC.SHN: Shutdown Notification. */
export const Shn = { NONE: 0, NORMAL: 1, ABRUPT: 2 } as const;

/** Controller Status (3.1.6). */
export const Csts = {
  RDY: bit(0, 'ro'),
  /** Controller Fatal Status. */
  CFS: bit(1, 'ro'),
  SHST: bits(3, 2, 'ro'),
  /** NVM Subsystem Reset Occurred. */
  NSSRO: bit(4, 'w1c'),
  /** Processing Paused. */
  PP: bit(5, 'ro'),
} as const;

/** CSTS.SHST: Shutdown Status. */
export const Shst = { NORMAL: 0, OCCURRING: 1, COMPLETE: 2 } as const;

/** Admin Queue Attributes (3.1.8): sizes, zero-based. */
export const Aqa = { ASQS: bits(11, 0), ACQS: bits(27, 16) } as const;

checkFields('CAP', 64, Cap);
checkFields('CC', 32, Cc);
checkFields('CSTS', 32, Csts);
checkFields('AQA', 32, Aqa);

/** A field of a register of 32 bits. */
export function regField(value: number, field: BitField): number {
  return ((value >>> field.lsb) & fieldMask(field)) >>> 0;
}

/** `value` in its field's place, to be OR-ed. */
export function regBits(field: BitField, value: number): number {
  return ((value & fieldMask(field)) << (field.lsb & 31)) >>> 0;
}

/** A field of CAP, whose halves are given. */
export function capField(low: number, high: number, field: BitField): number {
  return ((field.lsb < 32 ? low >>> field.lsb : high >>> (field.lsb - 32)) & fieldMask(field)) >>> 0;
}

/** The value that resets the NVM subsystem when it is written to NSSR: "NVMe" (3.1.7). */
export const NSSR_VALUE = 0x4e56_4d65;

/** VS of this revision (3.1.2). */
export const VERSION_1_4 = 0x0001_0400;

/** `1.4.0`. */
export function versionText(vs: number): string {
  return `${vs >>> 16}.${(vs >>> 8) & 0xff}.${vs & 0xff}`;
}

/** Submission Queue y Tail Doorbell (3.1.24): its offset in BAR 0. @param dstrd CAP.DSTRD */
export function sqDoorbell(y: number, dstrd: number): number {
  return NvmeReg.DOORBELLS + 2 * y * (4 << dstrd);
}

/** Completion Queue y Head Doorbell (3.1.25). */
export function cqDoorbell(y: number, dstrd: number): number {
  return NvmeReg.DOORBELLS + (2 * y + 1) * (4 << dstrd);
}

/**
 * Bytes of a submission queue entry and a completion queue entry; their powers of two are IOSQES
 * and IOCQES.
 */
export const SQE_SIZE = 64;
export const CQE_SIZE = 16;
export const SQES = 6;
export const CQES = 4;

/**
 * Registers have zero-based sizes; this constant counts entries. The admin queues have at most 4096
 * (3.1.8), I/O queues 65536 (3.1.1).
 */
export const ADMIN_QUEUE_MAX = 4096;

export const Psdt = { PRP: 0, SGL: 1, SGL_MPTR_SGL: 2 } as const;

/** Every namespace (6.1.2). */
export const NSID_ALL = 0xffff_ffff;

/** Admin commands (figure 139). */
export const AdminOpcode = {
  DELETE_SQ: 0x00,
  CREATE_SQ: 0x01,
  GET_LOG_PAGE: 0x02,
  DELETE_CQ: 0x04,
  CREATE_CQ: 0x05,
  IDENTIFY: 0x06,
  ABORT: 0x08,
  SET_FEATURES: 0x09,
  GET_FEATURES: 0x0a,
  ASYNC_EVENT_REQUEST: 0x0c,
  NAMESPACE_MANAGEMENT: 0x0d,
  FIRMWARE_COMMIT: 0x10,
  FIRMWARE_DOWNLOAD: 0x11,
  DEVICE_SELF_TEST: 0x14,
  NAMESPACE_ATTACHMENT: 0x15,
  KEEP_ALIVE: 0x18,
  DIRECTIVE_SEND: 0x19,
  DIRECTIVE_RECEIVE: 0x1a,
  VIRTUALIZATION_MANAGEMENT: 0x1c,
  NVME_MI_SEND: 0x1d,
  NVME_MI_RECEIVE: 0x1e,
  DOORBELL_BUFFER_CONFIG: 0x7c,
  FORMAT_NVM: 0x80,
  SECURITY_SEND: 0x81,
  SECURITY_RECEIVE: 0x82,
  SANITIZE: 0x84,
  GET_LBA_STATUS: 0x86,
} as const;

/** Commands of the NVM command set (figure 346). */
export const NvmOpcode = {
  FLUSH: 0x00,
  WRITE: 0x01,
  READ: 0x02,
  WRITE_UNCORRECTABLE: 0x04,
  COMPARE: 0x05,
  WRITE_ZEROES: 0x08,
  DATASET_MANAGEMENT: 0x09,
  VERIFY: 0x0c,
  RESERVATION_REGISTER: 0x0d,
  RESERVATION_REPORT: 0x0e,
  RESERVATION_ACQUIRE: 0x11,
  RESERVATION_RELEASE: 0x15,
} as const;

function titled(table: Readonly<Record<string, number>>): ReadonlyMap<number, string> {
  return new Map(
    Object.entries(table).map(([name, value]) => [
      value,
      name
        .split('_')
        .map((w) => (/^(SQ|CQ|NVM|NVME|MI|LBA|SMART)$/.test(w) ? w : w[0] + w.slice(1).toLowerCase()))
        .join(' '),
    ]),
  );
}

const adminNames = titled(AdminOpcode);
const nvmNames = titled(NvmOpcode);

/** `admin`, `I/O 1`. */
export function queueName(id: number): string {
  return id === 0 ? 'admin' : `I/O ${id}`;
}

/** `Read`, `Create SQ`, `opcode 0xc1`. */
export function opcodeName(opcode: number, admin: boolean): string {
  return (admin ? adminNames : nvmNames).get(opcode) ?? `opcode 0x${opcode.toString(16).padStart(2, '0')}`;
}

/**
 * CDW12 of Read, Write, Compare, Write Zeroes, Verify (6.6 to 6.17). The lower 16 bits are NLB,
 * zero-based.
 */
export const NvmCdw12 = {
  NLB: 0xffff,
  /** Write Zeroes: deallocate. */
  DEAC: 1 << 25,
  /** Protection information: PRCHK and PRACT. */
  PRINFO: 0x3c00_0000,
  FUA: 1 << 30,
  /** Limited Retry. */
  LR: 0x8000_0000,
} as const;

/** Dataset Management, CDW11 (6.7). */
export const DsmAttribute = { INTEGRAL_READ: 1, INTEGRAL_WRITE: 2, DEALLOCATE: 4 } as const;
export const DSM_RANGES_MAX = 256;

/** Create I/O queues, CDW11 (5.3, 5.4). CDW10 has QID in 15:0 and QSIZE, zero-based, in 31:16. */
export const CreateCq = { PC: 1, IEN: 2, IV: bits(31, 16) } as const;
export const CreateSq = { PC: 1, QPRIO: bits(2, 1), CQID: bits(31, 16) } as const;

/** Features (figure 271). */
export const FeatureId = {
  ARBITRATION: 0x01,
  POWER_MANAGEMENT: 0x02,
  LBA_RANGE_TYPE: 0x03,
  TEMPERATURE_THRESHOLD: 0x04,
  ERROR_RECOVERY: 0x05,
  VOLATILE_WRITE_CACHE: 0x06,
  NUMBER_OF_QUEUES: 0x07,
  INTERRUPT_COALESCING: 0x08,
  INTERRUPT_VECTOR_CONFIGURATION: 0x09,
  WRITE_ATOMICITY_NORMAL: 0x0a,
  ASYNC_EVENT_CONFIGURATION: 0x0b,
  AUTONOMOUS_POWER_STATE_TRANSITION: 0x0c,
  HOST_MEMORY_BUFFER: 0x0d,
  TIMESTAMP: 0x0e,
  KEEP_ALIVE_TIMER: 0x0f,
  HOST_CONTROLLED_THERMAL_MANAGEMENT: 0x10,
  NON_OPERATIONAL_POWER_STATE: 0x11,
  READ_RECOVERY_LEVEL: 0x12,
  PREDICTABLE_LATENCY_CONFIG: 0x13,
  PREDICTABLE_LATENCY_WINDOW: 0x14,
  LBA_STATUS_INFORMATION: 0x15,
  HOST_BEHAVIOR_SUPPORT: 0x16,
  SANITIZE_CONFIG: 0x17,
  ENDURANCE_GROUP_EVENTS: 0x18,
  SOFTWARE_PROGRESS_MARKER: 0x80,
  HOST_IDENTIFIER: 0x81,
  RESERVATION_NOTIFICATION_MASK: 0x82,
  RESERVATION_PERSISTENCE: 0x83,
  NAMESPACE_WRITE_PROTECTION: 0x84,
} as const;

/**
 * Bytes of data that Get and Set Features move for a feature, beside dword 0 (5.21.1).
 * @param cdw11 Host Identifier: bit 0, EXHID
 */
export function featureDataSize(id: number, cdw11: number): number {
  if (id === FeatureId.HOST_IDENTIFIER) return (cdw11 & 1) === 0 ? 8 : 16;
  return featureData[id] ?? 0;
}

const featureData: Readonly<Record<number, number>> = {
  [FeatureId.LBA_RANGE_TYPE]: 4096,
  [FeatureId.AUTONOMOUS_POWER_STATE_TRANSITION]: 256,
  [FeatureId.HOST_MEMORY_BUFFER]: 4096,
  [FeatureId.TIMESTAMP]: 8,
  [FeatureId.PREDICTABLE_LATENCY_CONFIG]: 512,
  [FeatureId.HOST_BEHAVIOR_SUPPORT]: 512,
};

/** Get Features, SEL (figure 178). */
export const FeatureSelect = { CURRENT: 0, DEFAULT: 1, SAVED: 2, CAPABILITIES: 3 } as const;
/** The bits that Get Features with SEL = 3 answers in dword 0 (figure 179). */
export const FeatureCapability = { SAVEABLE: 1, NAMESPACE_SPECIFIC: 2, CHANGEABLE: 4 } as const;
/** Set Features, CDW10: save the value (figure 270). */
export const FEATURE_SAVE = 0x8000_0000;

/** Log pages (figure 191). */
export const LogId = {
  ERROR_INFORMATION: 0x01,
  SMART: 0x02,
  FIRMWARE_SLOT: 0x03,
  CHANGED_NAMESPACES: 0x04,
  COMMANDS_SUPPORTED: 0x05,
  DEVICE_SELF_TEST: 0x06,
  TELEMETRY_HOST: 0x07,
  TELEMETRY_CONTROLLER: 0x08,
  ENDURANCE_GROUP: 0x09,
  PREDICTABLE_LATENCY: 0x0a,
  PREDICTABLE_LATENCY_EVENTS: 0x0b,
  ANA: 0x0c,
  PERSISTENT_EVENT: 0x0d,
  LBA_STATUS: 0x0e,
  ENDURANCE_GROUP_EVENTS: 0x0f,
  DISCOVERY: 0x70,
  RESERVATION_NOTIFICATION: 0x80,
  SANITIZE_STATUS: 0x81,
} as const;

/** Asynchronous events: completion dword 0 is type | info << 8 | log << 16 (5.2.1). */
export const EventType = { ERROR: 0, SMART: 1, NOTICE: 2, IO_COMMAND_SET: 6, VENDOR: 7 } as const;
export const EventError = {
  INVALID_DOORBELL_REGISTER: 0,
  INVALID_DOORBELL_VALUE: 1,
  DIAGNOSTIC_FAILURE: 2,
  PERSISTENT_INTERNAL: 3,
  TRANSIENT_INTERNAL: 4,
  FIRMWARE_LOAD: 5,
} as const;
export const EventSmart = { RELIABILITY: 0, TEMPERATURE_THRESHOLD: 1, SPARE_BELOW_THRESHOLD: 2 } as const;
export const EventNotice = { NAMESPACE_CHANGED: 0, FIRMWARE_ACTIVATION: 1, TELEMETRY_CHANGED: 2 } as const;

/**
 * SMART log, Critical Warning; the lower bits of Async Event Configuration choose among them
 * (figure 194, 5.21.1.11).
 */
export const CriticalWarning = { SPARE: 1, TEMPERATURE: 2, RELIABILITY: 4, READ_ONLY: 8, VOLATILE_BACKUP: 16, PMR_READ_ONLY: 32 } as const;

/** Format NVM, CDW10 (5.23). */
export const FormatCdw10 = { LBAF: bits(3, 0), MSET: bit(4), PI: bits(7, 5), PIL: bit(8), SES: bits(11, 9) } as const;

/** Scatter Gather List descriptors (4.4): 16 bytes; type in bits 7:4 of the last. */
export const SglType = { DATA_BLOCK: 0, BIT_BUCKET: 1, SEGMENT: 2, LAST_SEGMENT: 3, KEYED_DATA_BLOCK: 4, TRANSPORT_DATA_BLOCK: 5 } as const;
