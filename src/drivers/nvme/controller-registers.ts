/**
 * The controller's registers as the driver names them, and what CAP says, decoded (NVMe 1.4, 3.1).
 */
import { Cap, Cc, Crto, Csts, capField, NvmeReg, regField } from '../../abi/nvme.ts';
import { VfioError } from '../../base/errno.ts';
import { registers, u32 } from '../../base/registers.ts';

/**
 * Registers of 64 bits in halves: some controllers take no access wider than 32 bits, which is all
 * that 3.1 requires.
 */
export const ControllerRegisters = registers({
  capLow: u32(NvmeReg.CAP),
  capHigh: u32(NvmeReg.CAP_HIGH),
  vs: u32(NvmeReg.VS),
  intms: u32(NvmeReg.INTMS),
  intmc: u32(NvmeReg.INTMC),
  cc: u32(NvmeReg.CC, { en: Cc.EN, shn: Cc.SHN }),
  csts: u32(NvmeReg.CSTS, { rdy: Csts.RDY, cfs: Csts.CFS, shst: Csts.SHST }),
  nssr: u32(NvmeReg.NSSR),
  aqa: u32(NvmeReg.AQA),
  asqLow: u32(NvmeReg.ASQ),
  asqHigh: u32(NvmeReg.ASQ_HIGH),
  acqLow: u32(NvmeReg.ACQ),
  acqHigh: u32(NvmeReg.ACQ_HIGH),
  crto: u32(NvmeReg.CRTO),
});

/** The value of a read that nothing answers. */
export const ALL_ONES = 0xffff_ffff;

/** CC.CSS values (3.1.5). */
const CSS_NVM = 0;
const CSS_ALL_SUPPORTED = 6;
const CSS_ADMIN_ONLY = 7;

export interface Capabilities {
  /** CAP, for fields that are not decoded here. */
  readonly low: number;
  readonly high: number;
  /** Entries that an I/O queue may have. */
  readonly maxEntries: number;
  /** Bytes between two doorbells: 4 << DSTRD. */
  readonly doorbellStride: number;
  /** How long RDY may take to follow EN. */
  readonly readyMs: number;
  /** The page size that the driver chooses, CC.MPS: 4096 where the controller takes it. */
  readonly pageSize: number;
  /** The unit of MDTS. */
  readonly minPageSize: number;
  readonly subsystemReset: boolean;
  /** CC.CSS to enable with. */
  readonly commandSet: number;
  /**
   * The controller has I/O command sets beside NVM. Their namespaces are inactive while NVM is
   * enabled.
   */
  readonly otherSets: boolean;
  /** The controller is for administration alone, and has no I/O queues. */
  readonly adminOnly: boolean;
}

/**
 * @param readyTimeouts reads CRTO, where it exists
 * @throws VfioError ENODEV when CAP reads as all ones, because nothing answers; EIO for values that
 * no controller can have
 */
export function decodeCapabilities(low: number, high: number, device: string, readyTimeouts: () => number): Capabilities {
  if (low === ALL_ONES && high === ALL_ONES) throw new VfioError('ENODEV', `${device} does not answer: CAP reads as all ones`);
  const min = capField(low, high, Cap.MPSMIN);
  const max = capField(low, high, Cap.MPSMAX);
  if (max < min)
    throw new VfioError('EIO', `${device} is no NVMe controller: its largest page (2^${12 + max}) is below its smallest (2^${12 + min})`);
  const mqes = capField(low, high, Cap.MQES);
  if (mqes === 0) throw new VfioError('EIO', `${device} is no NVMe controller: its queues have room for one entry (CAP.MQES is 0)`);
  const sets = capField(low, high, Cap.CSS);
  // TO has 8 bits; where a controller has CRTO, CRTO has the whole time. Some controllers have a
  // shorter time in CRTO, so the larger one counts.
  const crto = capField(low, high, Cap.CRMS) === 0 ? 0 : regField(readyTimeouts(), Crto.CRWMT);
  return {
    low,
    high,
    maxEntries: mqes + 1,
    doorbellStride: 4 << capField(low, high, Cap.DSTRD),
    // Some controllers say 0. They get one unit all the same.
    readyMs: Math.max(1, capField(low, high, Cap.TO), crto) * 500,
    pageSize: 2 ** (12 + min),
    minPageSize: 2 ** (12 + min),
    subsystemReset: capField(low, high, Cap.NSSRS) === 1,
    // A controller of an early draft of 1.0 names no command set and means NVM.
    commandSet: (sets & 1) !== 0 || sets === 0 ? CSS_NVM : (sets & 0x40) !== 0 ? CSS_ALL_SUPPORTED : CSS_ADMIN_ONLY,
    otherSets: (sets & 0x40) !== 0,
    adminOnly: (sets & 0xc1) === 0x80,
  };
}
