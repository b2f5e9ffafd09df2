import { describe, expect, it } from 'vitest';
import { CardRig } from '../../../../tests/kit/82576/card-rig.ts';
import { Eicr, Eitr, Gpie, Icr, Ivar, Reg } from '../../../abi/82576.ts';
import { Stat } from '../../../abi/82576-statistics.ts';
import { TestHost } from '../../kit/test-host.ts';

const { NSICR, MULTIPLE_MSIX, EIAME } = Gpie;

describe('the pin', () => {
  const rig = () => new CardRig({ mode: 'intx' });

  it('8.8.7 a cause asserts the pin while its bit of IMS is set, and a read of ICR takes it away', () => {
    const card = rig();
    card.write(Reg.ICS, Icr.LSC);
    expect(card.irqs()).toEqual([]);
    card.write(Reg.IMS, Icr.LSC);
    expect(card.irqs()).toEqual(['raise']);
    expect(card.read(Reg.ICR)).toBe((Icr.LSC | Icr.INTA) >>> 0);
    expect(card.irqs()).toEqual(['lower']);
    expect(card.read(Reg.ICR)).toBe(0);
  });

  it('8.8.7 a read of ICR clears nothing while no interrupt is asserted, unless GPIE.NSICR says so', () => {
    const card = rig();
    card.write(Reg.IMS, Icr.LSC);
    card.write(Reg.ICS, Icr.RXO);
    expect([card.read(Reg.ICR), card.read(Reg.ICR)]).toEqual([Icr.RXO, Icr.RXO]);
    card.write(Reg.GPIE, NSICR);
    expect([card.read(Reg.ICR), card.read(Reg.ICR)]).toEqual([Icr.RXO, 0]);
  });

  it('8.8.7 a read of ICR clears all while IMS is 0', () => {
    const card = rig();
    card.write(Reg.ICS, Icr.RXO | Icr.LSC);
    expect([card.read(Reg.ICR), card.read(Reg.ICR)]).toEqual([Icr.RXO | Icr.LSC, 0]);
  });

  it('8.8.7 ones written to ICR clear causes, and others stay', () => {
    const card = rig();
    card.write(Reg.ICS, Icr.RXO | Icr.LSC);
    card.write(Reg.ICR, Icr.LSC);
    expect(card.read(Reg.ICS)).toBe(Icr.RXO);
  });

  it('8.8.11 a read of ICR masks the bits of IAM when an interrupt was asserted', () => {
    const card = rig();
    card.write(Reg.IAM, Icr.LSC);
    card.write(Reg.IMS, Icr.LSC | Icr.RXO);
    card.write(Reg.ICS, Icr.LSC);
    card.read(Reg.ICR);
    expect([card.read(Reg.IMS), card.read(Reg.IMC)]).toEqual([Icr.RXO, Icr.RXO]);
  });

  it('8.8.10 IMC masks, and the pin falls at once', () => {
    const card = rig();
    card.write(Reg.IMS, Icr.LSC);
    card.write(Reg.ICS, Icr.LSC);
    card.write(Reg.IMC, Icr.LSC);
    expect(card.irqs()).toEqual(['raise', 'lower']);
    card.write(Reg.IMS, Icr.LSC);
    expect(card.irqs()).toEqual(['raise']);
  });

  it('8.8.3 other causes need bit 31 of EIMS, which is set after a reset', () => {
    const card = rig();
    expect(card.read(Reg.EIMS)).toBe(Eicr.OTHER);
    card.write(Reg.EIMC, Eicr.OTHER);
    card.write(Reg.IMS, Icr.LSC);
    card.write(Reg.ICS, Icr.LSC);
    expect([card.irqs(), card.read(Reg.EICS)]).toEqual([[], Eicr.OTHER]);
    card.write(Reg.EIMS, Eicr.OTHER);
    expect(card.irqs()).toEqual(['raise']);
  });

  it('8.8.13 IVAR gives queues bits of EICR, and a read of EICR clears them', () => {
    const card = rig();
    card.write(Reg.IVAR0 + 4, Ivar.VALID | 3 | ((Ivar.VALID | 7) << 24));
    card.write(Reg.EIMS, 1 << 3);
    card.model.card.interrupts.received(1);
    card.model.card.interrupts.transmitted(9);
    expect([card.irqs(), card.read(Reg.ICS) & ~Icr.INTA]).toEqual([['raise'], Icr.RXDW | Icr.TXDW]);
    expect(card.read(Reg.EICR)).toBe((1 << 3) | (1 << 7));
    expect([card.irqs(), card.read(Reg.EICR)]).toEqual([['lower'], 0]);
  });

  it('7.3 the first addresses of ICR to IAM are the same registers', () => {
    const card = rig();
    card.write(Reg.IMS_ALIAS, Icr.LSC);
    card.write(Reg.ICS_ALIAS, Icr.LSC);
    expect([card.read(Reg.IMS), card.read(Reg.ICR_ALIAS)]).toEqual([Icr.LSC, (Icr.LSC | Icr.INTA) >>> 0]);
  });
});

describe('MSI, and MSI-X with one vector', () => {
  it.each(['msi', 'msix'] as const)('7.3.2 each new cause sends message 0 by %s, and an old one sends none', (mode) => {
    const card = new CardRig({ mode });
    card.write(Reg.IMS, Icr.LSC | Icr.RXO);
    card.write(Reg.ICS, Icr.LSC);
    card.write(Reg.ICS, Icr.LSC);
    expect(card.irqs()).toEqual(['trigger 0']);
    card.write(Reg.ICS, Icr.RXO);
    expect(card.irqs()).toEqual(['trigger 0']);
    card.read(Reg.ICR);
    card.write(Reg.ICS, Icr.LSC);
    expect([card.irqs(), card.read(Stat.IAC)]).toEqual([['trigger 0'], 3]);
  });
});

describe('MSI-X with many vectors', () => {
  const rig = () => {
    const card = new CardRig({ mode: 'msix', vectors: 10 });
    card.write(Reg.GPIE, NSICR | MULTIPLE_MSIX | EIAME);
    card.write(Reg.IVAR0, Ivar.VALID | 1 | ((Ivar.VALID | 2) << 8));
    card.write(Reg.IVAR_MISC, Ivar.VALID << 8);
    return card;
  };

  it('8.8.5 EIAC clears the cause of a message, which the next one sends again', () => {
    const card = rig();
    card.write(Reg.EIAC, 2);
    card.write(Reg.EIMS, 2);
    const { interrupts } = card.model.card;
    interrupts.received(0);
    interrupts.received(0);
    expect([card.irqs(), card.read(Reg.EICS)]).toEqual([['trigger 1', 'trigger 1'], 0]);
  });

  it('8.8.6 EIAM masks after the message with GPIE.EIAME, and EIMS sends what has come since', () => {
    const card = rig();
    card.write(Reg.EIAC, 2);
    card.write(Reg.EIAM, 2);
    card.write(Reg.EIMS, 6);
    const { interrupts } = card.model.card;
    interrupts.received(0);
    interrupts.received(0);
    expect([card.irqs(), card.read(Reg.EIMS)]).toEqual([['trigger 1'], 4]);
    card.write(Reg.EIMS, 2);
    expect(card.irqs()).toEqual(['trigger 1']);
  });

  it('8.8.2 EICS sends a message, as a driver that looks after lost ones does', () => {
    const card = rig();
    card.write(Reg.EIAC, 7);
    card.write(Reg.EIMS, 7);
    card.write(Reg.EICS, 6);
    expect(card.irqs()).toEqual(['trigger 1', 'trigger 2']);
  });

  it('8.8.14 causes of ICR have the second vector of IVAR_MISC', () => {
    const card = rig();
    card.write(Reg.EIMS, 1);
    card.write(Reg.IMS, Icr.LSC);
    card.write(Reg.ICS, Icr.RXO);
    expect(card.irqs()).toEqual([]);
    card.write(Reg.ICS, Icr.LSC);
    expect(card.irqs()).toEqual(['trigger 0']);
  });

  it('8.8.1 with many vectors a read leaves EICR, and ones clear it', () => {
    const card = rig();
    card.model.card.interrupts.received(0);
    expect([card.read(Reg.EICR), card.read(Reg.EICR)]).toEqual([2, 2]);
    card.write(Reg.EICR, 2);
    expect(card.read(Reg.EICR)).toBe(0);
  });

  it('8.8.13 a vector that the table lacks sends nothing', () => {
    const card = rig();
    card.write(Reg.IVAR0, Ivar.VALID | 24);
    card.write(Reg.EIMS, Eicr.VECTORS);
    card.model.card.interrupts.received(0);
    expect([card.irqs(), card.read(Reg.EICS)]).toEqual([[], 1 << 24]);
  });
});

describe('throttling', () => {
  const rig = () => {
    const card = new CardRig({ mode: 'msix', vectors: 10 });
    card.write(Reg.GPIE, MULTIPLE_MSIX);
    card.write(Reg.IVAR0, Ivar.VALID | 1);
    card.write(Reg.EIAC, 2);
    card.write(Reg.EIMS, 2);
    card.write(Reg.EITR + 4, 100 << Eitr.INTERVAL_SHIFT);
    return card;
  };

  it('8.8.12 between two messages of a vector lie EITR microseconds, and none is lost', () => {
    const card = rig();
    const { interrupts } = card.model.card;
    interrupts.received(0);
    interrupts.received(0);
    interrupts.received(0);
    expect(card.irqs()).toEqual(['trigger 1']);
    card.host.clock.advance(0.099);
    expect(card.irqs()).toEqual([]);
    card.host.clock.advance(0.001);
    expect(card.irqs()).toEqual(['trigger 1']);
    card.host.clock.advance(1);
    expect(card.irqs()).toEqual([]);
  });

  it('8.8.12 a cause that software clears meanwhile sends nothing', () => {
    const card = rig();
    const { interrupts } = card.model.card;
    interrupts.received(0);
    interrupts.received(0);
    card.write(Reg.EICR, 2);
    card.host.clock.advance(1);
    expect(card.irqs()).toEqual(['trigger 1']);
  });

  it('8.8.12 a write of EITR begins the interval anew, and with CNT_INGR it does not', () => {
    const card = rig();
    const { interrupts } = card.model.card;
    interrupts.received(0);
    interrupts.received(0);
    card.write(Reg.EITR + 4, (100 << Eitr.INTERVAL_SHIFT) | Eitr.CNT_INGR);
    expect(card.irqs()).toEqual(['trigger 1']);
    card.write(Reg.EITR + 4, 50 << Eitr.INTERVAL_SHIFT);
    expect(card.irqs()).toEqual(['trigger 1']);
  });

  it('8.8.12 the pin waits, too', () => {
    const card = new CardRig({ mode: 'intx' });
    card.write(Reg.EITR, 100 << Eitr.INTERVAL_SHIFT);
    card.write(Reg.IMS, Icr.LSC);
    card.write(Reg.ICS, Icr.LSC);
    card.read(Reg.ICR);
    card.write(Reg.ICS, Icr.LSC);
    expect(card.irqs()).toEqual(['raise', 'lower']);
    card.host.clock.advance(0.1);
    expect(card.irqs()).toEqual(['raise']);
  });

  it('4.2.1 a software reset leaves EITR, and nothing that waited comes', () => {
    const card = rig();
    const { interrupts } = card.model.card;
    interrupts.received(0);
    interrupts.received(0);
    card.irqs();
    card.write(Reg.CTRL, card.read(Reg.CTRL) | 0x400_0000);
    card.host.clock.advance(1);
    expect([card.irqs(), card.read(Reg.EITR + 4), card.read(Reg.EIMS)]).toEqual([[], 100 << Eitr.INTERVAL_SHIFT, Eicr.OTHER]);
  });
});

describe('virtual functions', () => {
  const rig = () => {
    const card = new CardRig({ mode: 'msix', vectors: 10 });
    const host = new TestHost({ mode: 'msix', vectors: 3 });
    return { card, host, place: card.model.card.attach(0, host), pvt: (register: number, value: number) => card.write(register, value) };
  };

  it('7.3.1 VF 0 has vectors 22 to 24 of the card, as its messages 0 to 2', () => {
    const { card, host, pvt } = rig();
    pvt(Reg.VTIVAR, Ivar.VALID | 1);
    pvt(Reg.PVTEIMS, 7);
    card.model.card.interrupts.received(0);
    expect([host.irqEvents, card.irqs(), card.read(Reg.PVTEICR)]).toEqual([['trigger 1'], [], 2]);
    expect(card.read(Reg.EICS) & (1 << 23)).toBe(0);
  });

  it('8.26 the second queue of a VF is queue 8 up, and VTIVAR_MISC is the vector of its mailbox', () => {
    const { card, host, pvt } = rig();
    pvt(Reg.VTIVAR, ((Ivar.VALID | 1) << 16) | ((Ivar.VALID | 2) << 24));
    pvt(Reg.VTIVAR_MISC, Ivar.VALID);
    pvt(Reg.PVTEIAC, 7);
    pvt(Reg.PVTEIMS, 7);
    const { interrupts } = card.model.card;
    interrupts.received(8);
    interrupts.transmitted(8);
    interrupts.causeOfVf(0);
    expect(host.irqEvents).toEqual(['trigger 1', 'trigger 2', 'trigger 0']);
  });

  it('8.8.5 the PF cannot change bits of vectors that a VF has', () => {
    const { card, pvt } = rig();
    card.write(Reg.GPIE, MULTIPLE_MSIX);
    pvt(Reg.PVTEIAC, 7);
    card.write(Reg.EIAC, 0);
    card.write(Reg.EIMS, Eicr.VECTORS);
    expect([card.read(Reg.PVTEIAC), card.read(Reg.PVTEIMS), card.read(Reg.EIMS)]).toEqual([7, 0, Eicr.VECTORS & ~(7 << 22)]);
  });

  it('4.2.1 a reset of a VF takes its masks and vectors, and those of the PF stay', () => {
    const { card, pvt } = rig();
    card.write(Reg.GPIE, MULTIPLE_MSIX);
    card.write(Reg.EIMS, 1);
    pvt(Reg.VTIVAR, Ivar.VALID);
    pvt(Reg.PVTEIMS, 7);
    card.model.card.reset({ kind: 'vf', vf: 0 });
    expect([card.read(Reg.PVTEIMS), card.read(Reg.VTIVAR), card.read(Reg.EIMS) & 1]).toEqual([0, 0, 1]);
  });

  it("house: the vectors of a VF that is gone are the PF's again", () => {
    const { card, place } = rig();
    card.write(Reg.GPIE, MULTIPLE_MSIX);
    place[Symbol.dispose]();
    card.write(Reg.EIMS, 7 << 22);
    expect(card.read(Reg.EIMS)).toBe(7 << 22);
  });
});
