/**
 * The values of the controller's registers (NVMe 1.4, 3.1). `Controller` carries out writes.
 */
import type { Width } from '../../abi/device-host.ts';
import { Aqa, Cap, Cc, Csts, NvmeReg, regBits, regField, VERSION_1_4 } from '../../abi/nvme.ts';

/** Bits of CC that there are. */
export const CC_MASK = 0x00ff_fff1;
export const EN = regBits(Cc.EN, 1);
export const RDY = regBits(Csts.RDY, 1);
export const CFS = regBits(Csts.CFS, 1);
export const NSSRO = regBits(Csts.NSSRO, 1);
export const SHST = regBits(Csts.SHST, 3);

/** CAP.TO: 10 s, in units of 500 ms. */
const TIMEOUT = 20;
/** CAP.MPSMAX: 64 KiB. */
const MPS_MAX = 4;
/** Bytes of 3.1, up to the reserved ones before the doorbells. */
const SIZE = 0x1000;

export class Registers {
  readonly #words = new Uint32Array(SIZE / 4);

  /** @param entries  of an I/O queue at most: CAP.MQES + 1 */
  constructor(entries: number) {
    this.#words[NvmeReg.CAP / 4] = regBits(Cap.MQES, entries - 1) | regBits(Cap.CQR, 1) | regBits(Cap.TO, TIMEOUT);
    // Doorbells are 4 bytes apart, the NVM command set, pages of 4 to 64 KiB.
    this.#words[NvmeReg.CAP_HIGH / 4] = regBits(Cap.NSSRS, 1) | regBits(Cap.CSS, 1) | regBits(Cap.MPSMAX, MPS_MAX);
    this.#words[NvmeReg.VS / 4] = VERSION_1_4;
  }

  /** The dword at `offset`, one of NvmeReg. */
  get(offset: number): number {
    return this.#words[offset >>> 2]!;
  }

  set(offset: number, value: number): void {
    this.#words[offset >>> 2] = value;
  }

  /** CC.MPS in bytes. */
  get pageSize(): number {
    return 4096 << regField(this.get(NvmeReg.CC), Cc.MPS);
  }

  /**
   * The reason why the controller cannot be enabled with these values of CC, AQA, ASQ and ACQ.
   * Null: it can.
   */
  whyNotEnabled(): string | null {
    const cc = this.get(NvmeReg.CC);
    if (regField(cc, Cc.MPS) > MPS_MAX) return 'CC.MPS is above CAP.MPSMAX';
    if (regField(cc, Cc.CSS) !== 0) return 'CC.CSS selects a command set that CAP.CSS does not have';
    if (regField(cc, Cc.AMS) !== 0) return 'CC.AMS selects an arbitration that CAP.AMS does not have';
    const aqa = this.get(NvmeReg.AQA);
    if (regField(aqa, Aqa.ASQS) === 0 || regField(aqa, Aqa.ACQS) === 0) return 'AQA has an admin queue of one entry';
    const misaligned = (this.get(NvmeReg.ASQ) | this.get(NvmeReg.ACQ)) & (this.pageSize - 1);
    return misaligned === 0 ? null : 'ASQ or ACQ is not at a page';
  }

  /** AQA, ASQ and ACQ as after power on: a controller reset leaves them. */
  clearAdminQueues(): void {
    for (const register of [NvmeReg.AQA, NvmeReg.ASQ, NvmeReg.ASQ_HIGH, NvmeReg.ACQ, NvmeReg.ACQ_HIGH]) this.set(register, 0);
  }

  /**
   * The value that the host reads. Reserved registers and doorbells read 0 (3.1.24: vendor
   * specific).
   */
  read(offset: number, width: Width): number {
    if (offset >= SIZE) return 0;
    return narrowed(this.#words[offset >>> 2]!, offset, width);
  }
}

/** The bytes of register `word` that a load of `width` bytes at `offset` finds. */
export function narrowed(word: number, offset: number, width: Width): number {
  if (width === 4) return word;
  return (word >>> (8 * (offset & 3))) & (width === 2 ? 0xffff : 0xff);
}
