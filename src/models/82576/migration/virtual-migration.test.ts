import { describe, expect, it } from 'vitest';
import { CardRig } from '../../../../tests/kit/82576/card-rig.ts';
import { ethernet } from '../../../../tests/kit/82576/frames.ts';
import { errnoFrom } from '../../../../tests/kit/errno.ts';
import { Ctrl, Icr, Ivar, Mbvficr, Mrqc, Rah, Rctl, Reg, ralOf, Srrctl, Tctl, VfReg, Vlvf, VtCtl, Xdctl } from '../../../abi/82576.ts';
import { TxCommand, TxStatus } from '../../../abi/82576-descriptors.ts';
import { VfMailbox } from '../../../abi/82576-mailbox.ts';
import { decodePlain, encodePlain } from '../../kit/plain-data.ts';
import { TestHost } from '../../kit/test-host.ts';
import { NEGOTIATION_MS } from '../phy/link.ts';
import { VirtualFunction } from '../virtual-function.ts';
import { VF_STATE_VERSION } from './virtual-migration.ts';

const VF = 2;
const OTHER = 5;
const LOW = 0x1200_5452;
const HIGH = 0x8000_7856;

class Rig {
  readonly card: CardRig;
  readonly host = new TestHost({ mode: 'msix', vectors: 3 });
  readonly vf: VirtualFunction;
  readonly index: number;

  constructor(index: number, card = new CardRig({ mode: 'msix', vectors: 10 })) {
    this.index = index;
    this.card = card;
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

const TX_RING = 0x0;
const RX_RING = 0x200;
const TX_BUFFER = 0x1000;
const RX_BUFFER = 0x2000;
/** To the address of the function. */
const FRAME = ethernet('52:54:00:12:56:78', '02:00:00:00:00:99', 0x88b5, Array<number>(100).fill(7));

/** The PF lets a function in by its address, and the function has a ring of each kind. */
function traffic(rig: Rig): void {
  const { card, host, pool } = rig;
  card.write(Reg.CTRL, card.read(Reg.CTRL) | Ctrl.SLU);
  card.wire.carrier(true);
  card.host.clock.advance(NEGOTIATION_MS);
  card.write(Reg.RCTL, Rctl.RXEN | Rctl.SECRC);
  card.write(Reg.TCTL, Tctl.EN | Tctl.PSP);
  card.write(Reg.MRQC, Mrqc.VMDQ);
  card.write(Reg.VT_CTL, VtCtl.DIS_DEF_POOL);
  card.write(ralOf(9), LOW);
  card.write(ralOf(9) + 4, HIGH | (pool << Rah.POOLSEL_SHIFT));
  card.write(Reg.VFRE, pool);
  card.write(Reg.VFTE, pool);
  const base = Number(host.base);
  const view = new DataView(host.memory.buffer, host.memory.byteOffset);
  view.setUint32(RX_RING, base + RX_BUFFER, true);
  host.memory.set(FRAME, TX_BUFFER);
  view.setUint32(TX_RING, base + TX_BUFFER, true);
  view.setUint32(TX_RING + 8, FRAME.length | TxCommand.DEXT | TxCommand.DTYP_DATA | TxCommand.EOP | TxCommand.IFCS, true);
  view.setUint32(TX_RING + 12, FRAME.length << TxStatus.PAYLEN_SHIFT, true);
  rig.write(VfReg.RDBAL, base + RX_RING);
  rig.write(VfReg.RDLEN, 128);
  rig.write(VfReg.SRRCTL, Srrctl.ADV_ONE_BUFFER | 2);
  rig.write(VfReg.RXDCTL, Xdctl.ENABLE);
  rig.write(VfReg.RDT, 1);
  rig.write(VfReg.TDBAL, base + TX_RING);
  rig.write(VfReg.TDLEN, 128);
  rig.write(VfReg.TXDCTL, Xdctl.ENABLE);
}

function withTraffic(index: number): Rig {
  const rig = new Rig(index);
  traffic(rig);
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

  it('B.11 sends, receives and writes nothing while it stands still, and goes on where it was', () => {
    const rig = withTraffic(VF);
    const { card, host, pool } = rig;
    rig.vf.migration.stop();
    const memory = host.memory.slice();
    rig.write(VfReg.TDT, 1);
    card.wire.arrive(FRAME);
    // No doorbell of the PF wakes it, and its PF sees its own bits.
    expect([card.read(Reg.VFRE), card.read(Reg.VFTE)]).toEqual([pool, pool]);
    card.write(Reg.VFRE, pool);
    card.write(Reg.VFTE, pool);
    card.host.clock.advance(100);
    expect([card.wire.sent.length, rig.read(VfReg.TDH), rig.read(VfReg.RDH)]).toEqual([0, 0, 0]);
    expect(host.memory).toEqual(memory);
    rig.vf.migration.start();
    expect([card.wire.sent.length, rig.read(VfReg.TDH), rig.read(VfReg.RDH)]).toEqual([1, 1, 1]);
    expect(host.memory.slice(RX_BUFFER, RX_BUFFER + FRAME.length)).toEqual(FRAME);
  });

  it('B.11 finds the PF obeyed that has disabled it while it stood still', () => {
    const rig = withTraffic(VF);
    const { card } = rig;
    rig.vf.migration.stop();
    rig.write(VfReg.TDT, 1);
    card.write(Reg.VFRE, 0);
    card.write(Reg.VFTE, 0);
    rig.vf.migration.start();
    card.wire.arrive(FRAME);
    expect([card.wire.sent.length, rig.read(VfReg.TDH), rig.read(VfReg.RDH)]).toEqual([0, 0, 0]);
    card.write(Reg.VFTE, rig.pool);
    expect(card.wire.sent).toHaveLength(1);
  });

  it('B.11 takes along what it had to send and what waited for it, and sends nothing before its start', () => {
    const rig = withTraffic(VF);
    rig.vf.migration.stop();
    rig.write(VfReg.TDT, 1);
    rig.card.wire.arrive(FRAME);
    const there = withTraffic(OTHER);
    const { card, host } = there;
    there.vf.migration.stop();
    there.vf.reset();
    host.memory.set(rig.host.memory);
    there.vf.migration.load(rig.save(), VF_STATE_VERSION);
    card.write(Reg.VFTE, there.pool);
    expect([card.wire.sent.length, there.read(VfReg.RDH)]).toEqual([0, 0]);
    there.vf.migration.start();
    expect([card.wire.sent.length, there.read(VfReg.TDH), there.read(VfReg.RDH)]).toEqual([1, 1, 1]);
    expect(host.memory.slice(RX_BUFFER, RX_BUFFER + FRAME.length)).toEqual(FRAME);
  });

  it('B.11 that goes while it stands still leaves queues that work', () => {
    const rig = withTraffic(VF);
    rig.vf.migration.stop();
    rig.vf.dispose();
    const next = new Rig(VF, rig.card);
    traffic(next);
    next.write(VfReg.TDT, 1);
    rig.card.wire.arrive(FRAME);
    expect([rig.card.wire.sent.length, next.read(VfReg.RDH)]).toEqual([1, 1]);
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
