/**
 * VLANs: the filter of the port (VFTA, 7.1.2.2), and the pools of each VLAN (VLVF, 7.10.3.5).
 */
import { CtrlExt, Rctl, Reg, VLVF_ENTRIES, Vlvf } from '../../../abi/82576.ts';
import type { RegisterSpace } from '../register-space.ts';

/** In the result of `group`, beside the pools. */
export const VlanGroup = {
  /** An entry has this VLAN. */
  FOUND: 0x100,
  /** Frames of the VLAN do not leave for the wire (VLVF.LVLAN). */
  LOCAL: 0x200,
} as const;

const VLANS = 4096;

export class VlanFilter {
  readonly #registers: RegisterSpace;
  /** The answers of `group`, by VLAN. */
  readonly #groups = new Uint16Array(VLANS);

  constructor(registers: RegisterSpace) {
    this.#registers = registers;
    registers.declare([
      // EtherTypes of tags: the outer one above, the inner one below.
      { name: 'VET', offset: Reg.VET, section: '8.2.7', reset: 0x8100_8100, writable: 0xffff_0000 | 0xffff },
      { name: 'VFTA', offset: Reg.VFTA, count: 128, section: '8.10.14' },
      { name: 'VFTA (alias)', offset: Reg.VFTA_ALIAS, count: 128, section: '8.10.14', alias: 'VFTA' },
      {
        name: 'VLVF',
        offset: Reg.VLVF,
        count: VLVF_ENTRIES,
        section: '8.14.18',
        writable: Vlvf.VLAN_ID | Vlvf.POOLSEL | Vlvf.LVLAN | Vlvf.VI_EN,
        write: () => this.refresh(),
      },
    ]);
  }

  /** After registers have changed without a write: a reset, a migration. */
  refresh(): void {
    const { words } = this.#registers;
    this.#groups.fill(0);
    for (let i = 0; i < VLVF_ENTRIES; i++) {
      const entry = words[(Reg.VLVF >>> 2) + i]!;
      if ((entry & Vlvf.VI_EN) === 0) continue;
      const pools = (entry & Vlvf.POOLSEL) >>> Vlvf.POOLSEL_SHIFT;
      this.#groups[entry & Vlvf.VLAN_ID]! |= pools | VlanGroup.FOUND | ((entry & Vlvf.LVLAN) !== 0 ? VlanGroup.LOCAL : 0);
    }
  }

  /** The EtherType of the tag that filters look at. */
  get tagType(): number {
    return this.#registers.words[Reg.VET >>> 2]! & 0xffff;
  }

  /** The EtherType of the outer tag; 0: frames have one tag (CTRL_EXT.EXT_VLAN). */
  get outerType(): number {
    const { words } = this.#registers;
    return (words[Reg.CTRL_EXT >>> 2]! & CtrlExt.EXT_VLAN) === 0 ? 0 : words[Reg.VET >>> 2]! >>> 16;
  }

  /** Whether the port takes a frame with this tag; -1: untagged, which the filter lets pass. */
  accepts(tag: number): boolean {
    const { words } = this.#registers;
    const rctl = words[Reg.RCTL >>> 2]!;
    if (tag < 0 || (rctl & Rctl.VFE) === 0) return true;
    // The canonical form indicator of the tag must be that of RCTL (8.10.1).
    if ((rctl & Rctl.CFIEN) !== 0 && ((tag & 0x1000) !== 0) !== ((rctl & Rctl.CFI) !== 0)) return false;
    return ((words[(Reg.VFTA >>> 2) + ((tag & 0xfff) >>> 5)]! >>> (tag & 31)) & 1) !== 0;
  }

  /** Pools of a tag's VLAN, with bits of `VlanGroup`. */
  group(tag: number): number {
    return this.#groups[tag & 0xfff]!;
  }

  /** Entries of VLVF that have a tag's VLAN, as bits: mirror rules name them (VMRVLAN). */
  entries(tag: number): number {
    const { words } = this.#registers;
    let found = 0;
    for (let i = 0; i < VLVF_ENTRIES; i++) {
      const entry = words[(Reg.VLVF >>> 2) + i]!;
      if ((entry & Vlvf.VI_EN) !== 0 && (entry & Vlvf.VLAN_ID) === (tag & 0xfff)) found |= 1 << i;
    }
    return found;
  }
}
