/**
 * Which pools get a frame (7.10.3.5 for frames from the wire, 7.10.3.6 for those of a pool).
 *
 * The steps stand in the order of the datasheet. Each adds to a set of pools, or takes from it.
 */
import { Dtxswc, Rctl, Reg, Rplolr, Vmolr, VtCtl } from '../../../abi/82576.ts';
import { type AddressFilter, EXACT } from '../filter/address-filter.ts';
import type { Frame } from '../filter/frame.ts';
import { type VlanFilter, VlanGroup } from '../filter/vlan-filter.ts';
import { POOLS } from '../parts.ts';
import type { RegisterSpace } from '../register-space.ts';
import { Mirrors } from './mirrors.ts';

const ALL = (1 << POOLS) - 1;

export class Pools {
  /** The frame passed by its hash alone (RDESC.STATUS.PIF), of the last choice. */
  inexact = false;
  /** A pool's frame goes to the wire, too, of the last choice. */
  toWire = false;
  readonly #registers: RegisterSpace;
  readonly #addresses: AddressFilter;
  readonly #vlans: VlanFilter;
  readonly #mirrors: Mirrors;

  constructor(registers: RegisterSpace, addresses: AddressFilter, vlans: VlanFilter) {
    this.#registers = registers;
    this.#addresses = addresses;
    this.#vlans = vlans;
    registers.declare([
      {
        name: 'VT_CTL',
        offset: Reg.VT_CTL,
        section: '8.14.1',
        writable: VtCtl.DEF_PL | VtCtl.FLP | VtCtl.IGNORE_MAC | VtCtl.DIS_DEF_POOL | VtCtl.RPL_EN,
      },
      { name: 'VMOLR', offset: Reg.VMOLR, count: POOLS, section: '8.14.17', reset: (0x2600 | Vmolr.STRCRC) >>> 0 },
      { name: 'RPLOLR', offset: Reg.RPLOLR, section: '8.10.4', reset: Rplolr.STRCRC, writable: Rplolr.STRCRC | Rplolr.STRVLAN },
    ]);
    this.#mirrors = new Mirrors(registers, vlans);
  }

  /** Pools of a frame from the wire. */
  fromWire(frame: Frame): number {
    const { words } = this.#registers;
    const control = words[Reg.VT_CTL >>> 2]!;
    this.inexact = false;
    if ((control & VtCtl.FLP) !== 0 && this.#addresses.match(sourceLow(frame), sourceHigh(frame)) !== 0) return 0;
    const exact = this.#addresses.match(frame.low, frame.high);
    let pools = (control & VtCtl.IGNORE_MAC) !== 0 ? ALL : this.#addressed(frame, control, exact);
    pools &= this.#grouped(frame.tag);
    if (pools === 0 && !frame.multicast && (control & VtCtl.DIS_DEF_POOL) === 0 && this.#passes(frame, exact)) {
      pools = defaultPool(control);
    }
    pools &= words[Reg.VFRE >>> 2]!;
    if (pools === 0) return 0;
    return pools | (this.#mirrors.copies(pools, frame.tag, true, false) & words[Reg.VFRE >>> 2]!);
  }

  /** Pools of a frame that pool `source` sends; `toWire` has the rest of the answer. */
  fromPool(frame: Frame, source: number): number {
    const { words } = this.#registers;
    this.inexact = false;
    const exact = this.#addresses.match(frame.low, frame.high);
    let pools = this.#addressed(frame, words[Reg.VT_CTL >>> 2]!, exact);
    // A pool gets its own frames back only where it asks for them (DTXSWC.LLE).
    const own = 1 << source;
    if ((words[Reg.DTXSWC >>> 2]! & (own << Dtxswc.LLE_SHIFT)) === 0) pools &= ~own;
    pools &= this.#grouped(frame.tag);
    // A unicast address of a pool is here and not on the wire, whatever VLAN the frame has.
    this.toWire = (frame.multicast || exact === 0) && !this.#isLocal(frame.tag);
    pools |= this.#mirrors.copies(pools | own, frame.tag, false, this.toWire) & ~own;
    return pools & words[Reg.VFRE >>> 2]!;
  }

  /** Steps 1 to 5: by address. */
  #addressed(frame: Frame, control: number, exact: number): number {
    let pools = exact & ALL;
    if (!frame.multicast) {
      if (pools === 0 && this.#addresses.hashed(Reg.UTA, frame.high)) {
        pools = this.#withBit(Vmolr.ROPE);
        this.inexact = pools !== 0;
      }
      return pools;
    }
    // Without replication, one pool gets what is for all (7.10.3.5.2).
    if ((control & VtCtl.RPL_EN) === 0) return pools !== 0 ? pools : defaultPool(control);
    if (frame.broadcast) return pools | this.#withBit(Vmolr.BAM);
    if (pools === 0 && this.#addresses.hashed(Reg.MTA, frame.high)) {
      pools = this.#withBit(Vmolr.ROMPE);
      this.inexact = pools !== 0;
    }
    return pools | this.#withBit(Vmolr.MPE);
  }

  /** Step 6: pools of the frame's VLAN; all of them where the port does not filter VLANs. */
  #grouped(tag: number): number {
    if ((this.#registers.words[Reg.RCTL >>> 2]! & Rctl.VFE) === 0) return ALL;
    return tag < 0 ? this.#withBit(Vmolr.AUPE) : this.#vlans.group(tag) & ALL;
  }

  #isLocal(tag: number): boolean {
    return tag >= 0 && (this.#registers.words[Reg.RCTL >>> 2]! & Rctl.VFE) !== 0 && (this.#vlans.group(tag) & VlanGroup.LOCAL) !== 0;
  }

  /** Whether the port's own filter lets a unicast frame in (7.1.2.1), for the default pool. */
  #passes(frame: Frame, exact: number): boolean {
    return (
      (this.#registers.words[Reg.RCTL >>> 2]! & Rctl.UPE) !== 0 || (exact & EXACT) !== 0 || this.#addresses.hashed(Reg.UTA, frame.high)
    );
  }

  /** Pools whose VMOLR has a bit. */
  #withBit(bit: number): number {
    const { words } = this.#registers;
    let pools = 0;
    for (let i = 0; i < POOLS; i++) if ((words[(Reg.VMOLR >>> 2) + i]! & bit) !== 0) pools |= 1 << i;
    return pools;
  }
}

function defaultPool(control: number): number {
  return 1 << ((control & VtCtl.DEF_PL) >>> VtCtl.DEF_PL_SHIFT);
}

/** The source address, as `low` and `high` of a frame are the destination. */
export function sourceLow({ bytes, start }: Frame): number {
  return bytes[start + 6]! | (bytes[start + 7]! << 8) | (bytes[start + 8]! << 16) | (bytes[start + 9]! << 24);
}

export function sourceHigh({ bytes, start }: Frame): number {
  return bytes[start + 10]! | (bytes[start + 11]! << 8);
}
