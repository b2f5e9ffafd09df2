/**
 * The controller's registers as the driver names them, and what CAP says, decoded (NVMe 1.4, 3.1).
 */
import { Cap, Cc, Crto, Csts, capField, NvmeReg, regField } from '../../abi/nvme.ts';
import { VfioError } from '../../base/errno.ts';
import { registers, u32 } from '../../base/registers.ts';

/**
 * Registers of 64 bits in halves: some controllers take no wider access (3.1 asks for no more than
 * 32).
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

/** What reads give when nothing answers. */
export const ALL_ONES = 0xffff_ffff;

/** CC.CSS values (3.1.5). */
const CSS_NVM = 0;
const CSS_ALL_SUPPORTED = 6;
const CSS_ADMIN_ONLY = 7;

export interface Capabilities {
  /** CAP, for those who want more of it. */
  readonly low: number;
  readonly high: number;
  /** Entries that an I/O queue may have. */
  readonly maxEntries: number;
  /** Bytes between two doorbells: 4 << DSTRD. */
  readonly doorbellStride: number;
  /** How long RDY may take to follow EN. */
  readonly readyMs: number;
  /** The page size that we choose, CC.MPS: 4096 where the controller takes it. */
  readonly pageSize: number;
  /** What MDTS counts in. */
  readonly minPageSize: number;
  readonly subsystemReset: boolean;
  /** CC.CSS to enable with. */
  readonly commandSet: number;
  /** It has I/O command sets beside NVM, whose namespaces are inactive while NVM is enabled. */
  readonly otherSets: boolean;
  /** It is there for administration alone, and has no I/O queues. */
  readonly adminOnly: boolean;
}

/**
 * @param readyTimeouts reads CRTO, where there is one
 * @throws VfioError ENODEV when all of it reads as ones: nothing is there; EIO for what no
 *   controller can be
 */
export function decodeCapabilities(low: number, high: number, device: string, readyTimeouts: () => number): Capabilities {
  if (low === ALL_ONES && high === ALL_ONES) throw new VfioError('ENODEV', `${device} does not answer: CAP reads as all ones`);
  const min = capField(low, high, Cap.MPSMIN);
  const max = capField(low, high, Cap.MPSMAX);
  if (max < min)
    throw new VfioError('EIO', `${device} is no NVMe controller: its largest page (2^${12 + max}) is below its smallest (2^${12 + min})`);
  const mqes = capField(low, high, Cap.MQES);
  if (mqes === 0) throw new VfioError('EIO', `${device} is no NVMe controller: its queues hold nothing (CAP.MQES is 0)`);
  const sets = capField(low, high, Cap.CSS);
  // TO has 8 bits; where a controller has CRTO, CRTO has the whole time. Some controllers have a
  // shorter time in CRTO, so the larger one counts.
  const crto = capField(low, high, Cap.CRMS) === 0 ? 0 : regField(readyTimeouts(), Crto.CRWMT);
  return {
    low,
    high,
    maxEntries: mqes + 1,
    doorbellStride: 4 << capField(low, high, Cap.DSTRD),
    // 0 is reserved by none and said by some: they get one unit all the same.
    readyMs: Math.max(1, capField(low, high, Cap.TO), crto) * 500,
    pageSize: 2 ** (12 + min),
    minPageSize: 2 ** (12 + min),
    subsystemReset: capField(low, high, Cap.NSSRS) === 1,
    // A controller of before 1.0's end says none at all and means NVM.
    commandSet: (sets & 1) !== 0 || sets === 0 ? CSS_NVM : (sets & 0x40) !== 0 ? CSS_ALL_SUPPORTED : CSS_ADMIN_ONLY,
    otherSets: (sets & 0x40) !== 0,
    adminOnly: (sets & 0xc1) === 0x80,
  };
}
