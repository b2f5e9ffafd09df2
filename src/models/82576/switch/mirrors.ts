/** Mirror rules: a pool gets copies of the frames of other pools, VLANs, or the wire (7.10.3.7). */

import { Reg } from '../../../abi/82576.ts';
import { MIRROR_RULES, Vmrctl } from '../../../abi/82576-filters.ts';
import type { VlanFilter } from '../filter/vlan-filter.ts';
import type { RegisterSpace } from '../register-space.ts';

const KINDS = Vmrctl.VPME | Vmrctl.UPME | Vmrctl.DPME | Vmrctl.VLME;

export class Mirrors {
  readonly #registers: RegisterSpace;
  readonly #vlans: VlanFilter;

  constructor(registers: RegisterSpace, vlans: VlanFilter) {
    this.#registers = registers;
    this.#vlans = vlans;
    const rule = { count: MIRROR_RULES, section: '8.14.19' };
    registers.declare([
      { ...rule, name: 'VMRCTL', offset: Reg.VMRCTL, writable: KINDS | Vmrctl.MP },
      { ...rule, name: 'VMRVLAN', offset: Reg.VMRVLAN, section: '8.14.20' },
      { ...rule, name: 'VMRVM', offset: Reg.VMRVM, section: '8.14.21', writable: 0xff },
    ]);
  }

  /**
   * The pools of the rules that a frame matches.
   *
   * @param pools that get the frame, or have sent it
   * @param tag of the frame; -1: none
   * @param uplink it comes from the wire, and goes to some pool
   * @param downlink it goes to the wire
   */
  copies(pools: number, tag: number, uplink: boolean, downlink: boolean): number {
    const { words } = this.#registers;
    let copies = 0;
    for (let i = 0; i < MIRROR_RULES; i++) {
      const control = words[(Reg.VMRCTL >>> 2) + i]!;
      if ((control & KINDS) === 0) continue;
      const matches =
        ((control & Vmrctl.VPME) !== 0 && (pools & words[(Reg.VMRVM >>> 2) + i]!) !== 0) ||
        ((control & Vmrctl.UPME) !== 0 && uplink) ||
        ((control & Vmrctl.DPME) !== 0 && downlink) ||
        ((control & Vmrctl.VLME) !== 0 && tag >= 0 && (this.#vlans.entries(tag) & words[(Reg.VMRVLAN >>> 2) + i]!) !== 0);
      if (matches) copies |= 1 << ((control & Vmrctl.MP) >>> Vmrctl.MP_SHIFT);
    }
    return copies;
  }
}
