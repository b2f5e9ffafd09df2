import { describe, expect, it } from 'vitest';
import { CardRig } from '../../../../tests/kit/82576/card-rig.ts';
import { errnoFrom } from '../../../../tests/kit/errno.ts';
import { Icr, Ivar, Mbvficr, Rah, Reg, ralOf, VfReg, Vlvf } from '../../../abi/82576.ts';
import { VfMailbox } from '../../../abi/82576-mailbox.ts';
import { decodePlain, encodePlain } from '../../kit/plain-data.ts';
import { TestHost } from '../../kit/test-host.ts';
import { VirtualFunction } from '../virtual-function.ts';
import { VF_STATE_VERSION } from './virtual-migration.ts';

const VF = 2;
const OTHER = 5;
const LOW = 0x1200_5452;
const HIGH = 0x8000_7856;

class Rig {
  readonly card = new CardRig({ mode: 'msix', vectors: 10 });
  readonly host = new TestHost({ mode: 'msix', vectors: 3 });
  readonly vf: VirtualFunction;
  readonly index: number;

  constructor(index: number) {
    this.index = index;
    this.vf = new VirtualFunction(this.host, this.card.model.card, index);
  }

  read(offset: number): number {
    return this.vf.read(0, offset, 4);
  }

  write(offset: number, value: number): void {
    this.vf.write(0, offset, 4, value);
  }

  get pool(): number {
    return 1 << this.index;
  }

  save(): Uint8Array {
    this.vf.migration.stop();
    return this.vf.migration.save();
  }

  load(state: Uint8Array): void {
    this.vf.migration.stop();
    this.vf.reset();
    this.vf.migration.load(state, VF_STATE_VERSION);
    this.vf.migration.start();
  }
}

/** A function that its PF has let in, with an address, a VLAN, rings and vectors. */
function working(): Rig {
  const rig = new Rig(VF);
  const { card } = rig;
  card.write(Reg.VFRE, rig.pool);
  card.write(Reg.VFTE, rig.pool);
  card.write(ralOf(9), LOW);
  card.write(ralOf(9) + 4, HIGH | (rig.pool << Rah.POOLSEL_SHIFT));
  card.write(Reg.VLVF + 12, Vlvf.VI_EN | 77 | (rig.pool << Vlvf.POOLSEL_SHIFT));
  card.write(Reg.VMOLR + 4 * VF, 0x0901_2600);
  rig.write(VfReg.RDBAL, 0x10_2000);
  rig.write(VfReg.RDLEN, 512);
  rig.write(VfReg.VTIVAR, Ivar.VALID | 1);
  rig.write(VfReg.VTEIAC, 3);
  rig.write(VfReg.VTEIMS, 3);
  rig.write(VfReg.VMBMEM, 0xcafe);
  rig.write(VfReg.VFMAILBOX, VfMailbox.VFU);
  return rig;
}

describe('B.11 a virtual function that moves', () => {
  it('B.11 takes registers, vectors and its half of the mailbox to another function of another card', () => {
    const there = new Rig(OTHER);
    there.load(working().save());
    expect([VfReg.RDBAL, VfReg.RDLEN, VfReg.VTIVAR, VfReg.VTEIAC, VfReg.VTEIMS, VfReg.VMBMEM].map((at) => there.read(at))).toEqual([
      0x10_2000,
      512,
      Ivar.VALID | 1,
      3,
      3,
      0xcafe,
    ]);
    expect(there.read(VfReg.VFMAILBOX) & VfMailbox.VFU).toBe(VfMailbox.VFU);
    there.card.model.card.interrupts.received(OTHER);
    expect(there.host.irqEvents).toEqual(['trigger 1']);
  });

  it('B.11 takes its place in the switch: enables, offloads, addresses and VLANs', () => {
    const there = new Rig(OTHER);
    there.load(working().save());
    const { card, pool } = there;
    expect([card.read(Reg.VFRE) & pool, card.read(Reg.VFTE) & pool, card.read(Reg.VMOLR + 4 * OTHER)]).toEqual([pool, pool, 0x0901_2600]);
    expect([card.read(ralOf(9)), card.read(ralOf(9) + 4)]).toEqual([LOW, (HIGH | (pool << Rah.POOLSEL_SHIFT)) >>> 0]);
    expect(card.read(Reg.VLVF + 12)).toBe((Vlvf.VI_EN | 77 | (pool << Vlvf.POOLSEL_SHIFT)) >>> 0);
  });

  it('B.11 finds other entries where its own are taken, and shares those of the same content', () => {
    const there = new Rig(OTHER);
    const { card, pool } = there;
    card.write(ralOf(9), 0x99);
    card.write(ralOf(9) + 4, Rah.AV | (1 << Rah.POOLSEL_SHIFT));
    card.write(Reg.VLVF, Vlvf.VI_EN | 77 | (1 << Vlvf.POOLSEL_SHIFT));
    there.load(working().save());
    expect([card.read(ralOf(9)), card.read(ralOf(23)), card.read(ralOf(23) + 4)]).toEqual([
      0x99,
      LOW,
      (HIGH | (pool << Rah.POOLSEL_SHIFT)) >>> 0,
    ]);
    expect(card.read(Reg.VLVF)).toBe((Vlvf.VI_EN | 77 | ((1 | pool) << Vlvf.POOLSEL_SHIFT)) >>> 0);
  });

  it('B.11 has no room where all addresses are taken', () => {
    const there = new Rig(OTHER);
    for (let i = 0; i < 24; i++) {
      there.card.write(ralOf(i), i);
      there.card.write(ralOf(i) + 4, Rah.AV | (1 << Rah.POOLSEL_SHIFT));
    }
    expect(errnoFrom(() => there.load(working().save()))).toBe('ENOSPC');
  });

  it('B.11 hides the reset before its state from the PF, and shows it where no state comes', () => {
    const there = new Rig(OTHER);
    there.card.read(Reg.ICR);
    there.card.write(Reg.VFLRE, 0xff);
    there.load(working().save());
    expect([there.card.read(Reg.VFLRE) & there.pool, there.card.read(Reg.ICS) & Icr.VMMB]).toEqual([0, 0]);
    there.vf.migration.stop();
    there.vf.reset();
    there.vf.migration.start();
    expect([there.card.read(Reg.VFLRE) & there.pool, there.card.read(Reg.ICS) & Icr.VMMB]).toEqual([there.pool, Icr.VMMB]);
  });

  it('B.11 takes a message along that the PF has not read, and the PF of the target hears of it', () => {
    const rig = working();
    rig.write(VfReg.VFMAILBOX, VfMailbox.VFU | VfMailbox.REQ | VfMailbox.ACK);
    const there = new Rig(OTHER);
    there.card.read(Reg.ICR);
    there.load(rig.save());
    const news = there.pool | (there.pool << Mbvficr.VFACK_SHIFT);
    expect([there.card.read(Reg.MBVFICR), there.card.read(Reg.ICS) & Icr.VMMB]).toEqual([news, Icr.VMMB]);
  });

  it('B.11 raises nothing where MBVFIMR masks the function, and keeps its bits', () => {
    const rig = working();
    rig.write(VfReg.VFMAILBOX, VfMailbox.VFU | VfMailbox.REQ);
    const there = new Rig(OTHER);
    there.card.write(Reg.MBVFIMR, 0xff & ~there.pool);
    there.card.read(Reg.ICR);
    there.load(rig.save());
    expect([there.card.read(Reg.MBVFICR), there.card.read(Reg.ICS) & Icr.VMMB]).toEqual([there.pool, 0]);
  });

  it('B.11 leaves nothing of the message of the function that was there before, nor takes another', () => {
    const there = new Rig(OTHER);
    there.write(VfReg.VFMAILBOX, VfMailbox.VFU | VfMailbox.REQ);
    there.card.model.card.mailbox.writtenByVf(VF, VfMailbox.REQ);
    there.load(working().save());
    expect(there.card.read(Reg.MBVFICR)).toBe(1 << VF);
  });

  it('B.11 stands still as if the PF had shut it out, and goes on where it was', () => {
    const rig = working();
    rig.vf.migration.stop();
    expect(rig.card.read(Reg.VFRE) & rig.pool).toBe(0);
    rig.vf.migration.start();
    expect([rig.card.read(Reg.VFRE) & rig.pool, rig.card.read(Reg.VFTE) & rig.pool]).toEqual([rig.pool, rig.pool]);
  });

  it('B.11 refuses a state without one of its fields, and another version', () => {
    const whole = decodePlain(working().save()) as Record<string, unknown>;
    for (const name of Object.keys(whole)) {
      const { [name]: _, ...rest } = whole;
      expect(errnoFrom(() => new Rig(OTHER).load(encodePlain(rest)))).toBe('EINVAL');
    }
    expect(errnoFrom(() => new Rig(OTHER).vf.migration.load(new Uint8Array(), 9))).toBe('EINVAL');
  });
});
