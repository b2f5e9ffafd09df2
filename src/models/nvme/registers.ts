/** The controller's registers (NVMe 1.4, 3.1): what reads show. What writes do is the controller's. */
import type { Width } from '../../abi/device-host.ts';
import { Cap, NvmeReg, regBits, VERSION_1_4 } from '../../abi/nvme.ts';

/** CAP.TO: 10 s, in units of 500 ms. */
const TIMEOUT = 20;
/** CAP.MPSMAX: 64 KiB. */
export const MPS_MAX = 4;
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

  /** What the host reads: reserved ones are 0, doorbells too (3.1.24: vendor specific). */
  read(offset: number, width: Width): number {
    if (offset >= SIZE) return 0;
    const word = this.#words[offset >>> 2]!;
    if (width === 4) return word;
    return (word >>> (8 * (offset & 3))) & (width === 2 ? 0xffff : 0xff);
  }
}
