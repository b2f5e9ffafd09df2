/**
 * Numbers of NVM Express 1.4 for Identify: the structures that it returns, and the bit fields in
 * them. Their layouts stand in nvme-structs.ts.
 *
 * @see NVM Express Base Specification, revision 1.4, 5.15
 */

/** Identify: Controller or Namespace Structure (5.15.1, figure 244). */
export const Cns = {
  NAMESPACE: 0x00,
  CONTROLLER: 0x01,
  ACTIVE_NAMESPACES: 0x02,
  NAMESPACE_DESCRIPTORS: 0x03,
  NVM_SETS: 0x04,
  ALLOCATED_NAMESPACES: 0x10,
  ALLOCATED_NAMESPACE: 0x11,
  NAMESPACE_CONTROLLERS: 0x12,
  CONTROLLERS: 0x13,
  PRIMARY_CONTROLLER: 0x14,
  SECONDARY_CONTROLLERS: 0x15,
  NAMESPACE_GRANULARITY: 0x16,
  UUIDS: 0x17,
} as const;
export const IDENTIFY_SIZE = 4096;

/** Namespace Identifier Types of the descriptor list (figure 249), and the bytes each has. */
export const NidType = { EUI64: 1, NGUID: 2, UUID: 3 } as const;

/** Identify Controller bit fields (figure 247). */
export const Oacs = {
  SECURITY: 1,
  FORMAT: 2,
  FIRMWARE: 4,
  NAMESPACE_MANAGEMENT: 8,
  SELF_TEST: 0x10,
  DIRECTIVES: 0x20,
  DOORBELL_BUFFER: 0x100,
  LBA_STATUS: 0x200,
} as const;
export const Oncs = {
  COMPARE: 1,
  WRITE_UNCORRECTABLE: 2,
  DATASET_MANAGEMENT: 4,
  WRITE_ZEROES: 8,
  /** The Save field of Set Features and the Select field of Get Features. */
  FEATURE_SAVE: 0x10,
  RESERVATIONS: 0x20,
  TIMESTAMP: 0x40,
  VERIFY: 0x80,
} as const;
export const Oaes = { NAMESPACE_CHANGED: 0x100, FIRMWARE_ACTIVATION: 0x200 } as const;
/**
 * LPA: SMART per namespace, commands supported and effects, extended data (offset) for Get Log
 * Page, telemetry.
 */
export const Lpa = { NAMESPACE_SMART: 1, COMMANDS_SUPPORTED: 2, EXTENDED_DATA: 4, TELEMETRY: 8, PERSISTENT_EVENT: 16 } as const;
/** SGLS: supported (1 byte aligned, 2 dword aligned), bit bucket, and more. */
export const Sgls = {
  SUPPORTED_MASK: 3,
  BYTE_ALIGNED: 1,
  DWORD_ALIGNED: 2,
  KEYED: 4,
  BIT_BUCKET: 1 << 16,
  MPTR_ALIGNED: 1 << 17,
  EXCESS_LENGTH: 1 << 18,
  MPTR_SGL: 1 << 19,
  OFFSETS: 1 << 20,
} as const;
/**
 * VWC: a volatile write cache is there; the effect of Flush with NSID FFFFFFFFh (2 not supported,
 * 3 flushes all).
 */
export const Vwc = { PRESENT: 1, FLUSH_ALL_NOT_SUPPORTED: 2 << 1, FLUSH_ALL: 3 << 1 } as const;
/** Identify Namespace bit fields (figure 245). */
export const Nsfeat = { THIN: 1, ATOMICS: 2, DEALLOCATED_ERROR: 4, UNIQUE_IDS: 8, OPTIMAL_IO: 0x10 } as const;
/** DLFEAT: the value that deallocated blocks read as, and whether Write Zeroes can deallocate. */
export const Dlfeat = { READS_ZEROES: 1, READS_ONES: 2, WRITE_ZEROES_DEALLOCATES: 8 } as const;
