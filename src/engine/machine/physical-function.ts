/**
 * A physical function's side of SR-IOV: the number of enabled VFs, and the registers that hold it.
 * Only the host writes these registers; a reset or restore of the PF's config space does not change
 * them.
 *
 * @see linux/drivers/pci/iov.c, sriov_enable(), sriov_disable(), sriov_restore_state()
 */
import { Bar, ExtCapId } from '../../abi/pci.ts';
import { Sriov } from '../../pci/capabilities/single-root-virtualization.ts';
import type { ConfigSpace } from '../../pci/config-space.ts';
import type { BarDeclaration, PciDeclaration, SriovDeclaration } from '../../pci/declaration.ts';
import { virtualFunctionOf } from '../../pci/virtual-functions.ts';

export class PhysicalFunction {
  /** The declaration of each VF. */
  readonly vfDeclaration: PciDeclaration;
  readonly declared: SriovDeclaration;
  /** driver_override of VFs while a driver of the host has the PF; null for none. */
  readonly vfDriver: string | null;
  /** The disabling that waits for the users of VFs to close them; null for none. */
  disabling: Promise<void> | null = null;
  readonly #config: ConfigSpace;
  /** Of the capability. */
  readonly #at: number;
  readonly #bars: bigint[] = [0n, 0n, 0n, 0n, 0n, 0n];
  #numVfs = 0;
  #keeping = false;

  constructor(
    { config, declaration }: { readonly config: ConfigSpace; readonly declaration: PciDeclaration },
    declared: SriovDeclaration,
    vfDriver: string | null = null,
  ) {
    this.#config = config;
    this.declared = declared;
    this.vfDriver = vfDriver;
    this.vfDeclaration = virtualFunctionOf(declaration, declared.vf.declaration);
    this.#at = config.findExtendedCapability(ExtCapId.SRIOV);
    config.onWrite((offset, width) => {
      if (offset < this.#at + Sriov.SIZE && offset + width > this.#at) this.#keep();
    });
  }

  get totalVfs(): number {
    return this.declared.totalVfs;
  }

  /** The number of enabled VFs; while they are being disabled, the number before. */
  get numVfs(): number {
    return this.#numVfs;
  }

  /** BARs of one VF. */
  get bars(): readonly BarDeclaration[] {
    return this.vfDeclaration.bars ?? [];
  }

  /** Bus address of BAR `index` of VF `vf`. */
  barAddress(index: number, vf: number): bigint {
    const bar = this.bars.find((b) => b.index === index)!;
    return this.#bars[index]! + BigInt(bar.size) * BigInt(vf);
  }

  /** Firmware places BAR `index` of VF 0 at `address`; the BARs of the other VFs follow. */
  setBarAddress(index: number, address: bigint): void {
    this.#bars[index] = address;
    this.#keep();
  }

  /** From now on the registers hold `count`; 0: there is no VF. */
  set(count: number): void {
    this.#numVfs = count;
    this.#keep();
  }

  #keep(): void {
    if (this.#keeping) return;
    this.#keeping = true;
    const config = this.#config;
    const at = this.#at;
    config.write(at + Sriov.NUM_VF, 2, this.#numVfs);
    config.write(at + Sriov.SYS_PGSIZE, 4, 1);
    for (const { index, type } of this.bars) {
      const address = this.#bars[index]!;
      config.writeBits(at + Sriov.BAR + 4 * index, 4, Number(address & 0xffff_ffffn), Bar.MEM_MASK >>> 0);
      if (type === 'mem64') config.write(at + Sriov.BAR + 4 * (index + 1), 4, Number(address >> 32n));
    }
    config.write(at + Sriov.CTRL, 2, this.#numVfs === 0 ? 0 : Sriov.CTRL_VFE | Sriov.CTRL_MSE);
    this.#keeping = false;
  }
}
