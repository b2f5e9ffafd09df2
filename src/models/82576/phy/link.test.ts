import { expect, it } from 'vitest';
import { CardRig } from '../../../../tests/kit/82576/card-rig.ts';
import { Ctrl, Icr, Mdic, Reg, Status } from '../../../abi/82576.ts';
import { Gstatus, Pctrl, PHY_ID, Phy, Pstatus } from '../../../abi/82576-phy.ts';
import { Stat } from '../../../abi/82576-statistics.ts';
import { NEGOTIATION_MS } from './link.ts';

const RXEN = 0x2;

function linked(): CardRig {
  const card = new CardRig({ mode: 'intx' });
  card.write(Reg.CTRL, card.read(Reg.CTRL) | Ctrl.SLU);
  card.wire.carrier(true);
  card.host.clock.advance(NEGOTIATION_MS);
  return card;
}

const up = (card: CardRig) => (card.read(Reg.STATUS) & Status.LU) !== 0;

it('8.25 MDIC reaches the PHY at address 1, and reports an error for another', () => {
  const card = new CardRig();
  expect([card.phy(Phy.PHYID1), card.phy(Phy.PHYID2)]).toEqual([PHY_ID.high, PHY_ID.low]);
  card.write(Reg.MDIC, (Phy.PHYID1 << Mdic.REGADD_SHIFT) | (2 << Mdic.PHYADD_SHIFT) | Mdic.OP_READ);
  expect(card.read(Reg.MDIC) & (Mdic.R | Mdic.E)).toBe(Mdic.R | Mdic.E);
});

it('8.2.4 a command with MDIC.I is a cause when it is done', () => {
  const card = new CardRig();
  card.write(Reg.MDIC, (1 << Mdic.PHYADD_SHIFT) | Mdic.OP_READ | Mdic.I);
  expect(card.read(Reg.ICS)).toBe(0x200);
});

it('3.5 the link is up when the partners have negotiated, and a cause says so', () => {
  const card = new CardRig({ mode: 'intx' });
  card.write(Reg.CTRL, card.read(Reg.CTRL) | Ctrl.SLU);
  card.wire.carrier(true);
  expect([card.wire.link, up(card), card.phy(Phy.PSTATUS) & Pstatus.AN_COMPLETE, card.phy(Phy.ANLPA)]).toEqual([true, false, 0, 0]);
  card.host.clock.advance(NEGOTIATION_MS);
  expect([up(card), card.read(Reg.ICS) & Icr.LSC]).toEqual([true, Icr.LSC]);
  expect(card.phy(Phy.PSTATUS) & (Pstatus.LINK | Pstatus.AN_COMPLETE)).toBe(Pstatus.LINK | Pstatus.AN_COMPLETE);
  expect(card.phy(Phy.GSTATUS) & (Gstatus.FULL | Gstatus.LOCAL_OK)).toBe(Gstatus.FULL | Gstatus.LOCAL_OK);
});

it('8.25.3.2 a loss of the link shows once in PSTATUS, also when the link is back', () => {
  const card = linked();
  card.wire.carrier(false);
  expect(up(card)).toBe(false);
  card.wire.carrier(true);
  card.host.clock.advance(NEGOTIATION_MS);
  expect([up(card), card.phy(Phy.PSTATUS) & Pstatus.LINK, card.phy(Phy.PSTATUS) & Pstatus.LINK]).toEqual([true, 0, Pstatus.LINK]);
});

it('8.2.1 without CTRL.SLU the MAC does not see the link that the PHY has', () => {
  const card = linked();
  card.write(Reg.CTRL, card.read(Reg.CTRL) & ~Ctrl.SLU);
  expect([up(card), card.phy(Phy.PSTATUS) & Pstatus.AN_COMPLETE]).toEqual([false, Pstatus.AN_COMPLETE]);
});

it('4.2.1 a software reset leaves the PHY alone, and CTRL.PHY_RST makes it negotiate anew', () => {
  const card = linked();
  card.write(Reg.CTRL, card.read(Reg.CTRL) | Ctrl.RST);
  expect([up(card), card.phy(Phy.PSTATUS) & Pstatus.AN_COMPLETE]).toEqual([false, Pstatus.AN_COMPLETE]);
  card.write(Reg.CTRL, card.read(Reg.CTRL) | Ctrl.SLU);
  expect(up(card)).toBe(true);
  card.write(Reg.CTRL, card.read(Reg.CTRL) | Ctrl.PHY_RST);
  expect([up(card), card.read(Reg.STATUS) & Status.PHYRA]).toEqual([false, Status.PHYRA]);
  card.host.clock.advance(NEGOTIATION_MS);
  expect(up(card)).toBe(true);
});

it('8.25.3.1 a PHY without power takes the link from the partner', () => {
  const card = linked();
  card.phy(Phy.PCTRL, Pctrl.POWER_DOWN | Pctrl.AN_ENABLE);
  expect([up(card), card.wire.link]).toEqual([false, false]);
  card.phy(Phy.PCTRL, Pctrl.AN_ENABLE | Pctrl.RESTART_AN);
  expect(card.wire.link).toBe(true);
});

it('8.25.3.1 without negotiation the link is up at once', () => {
  const card = new CardRig({ mode: 'intx' });
  card.write(Reg.CTRL, card.read(Reg.CTRL) | Ctrl.SLU);
  card.phy(Phy.PCTRL, Pctrl.SPEED_1000 | Pctrl.DUPLEX);
  card.wire.carrier(true);
  expect([up(card), card.phy(Phy.PSTATUS) & Pstatus.AN_COMPLETE]).toEqual([true, 0]);
});

it('3.5.6.3 in loopback of the PHY there is a link without a partner, frames come back, and none leaves', () => {
  const card = new CardRig({ mode: 'intx' });
  card.write(Reg.CTRL, card.read(Reg.CTRL) | Ctrl.SLU | Ctrl.FRCSPD | Ctrl.FRCDPLX);
  card.phy(Phy.PCTRL, Pctrl.LOOPBACK | Pctrl.SPEED_1000 | Pctrl.DUPLEX);
  expect([up(card), card.wire.link]).toEqual([true, false]);
  card.write(Reg.RCTL, RXEN);
  card.model.card.port.send(new Uint8Array(60), 0, 60);
  expect([card.wire.sent.length, card.read(Stat.TPT), card.read(Stat.TPR)]).toEqual([0, 1, 1]);
  card.wire.arrive(new Uint8Array(60));
  expect(card.read(Stat.TPR)).toBe(0);
});

it('3.5 without a link no frame leaves, and none arrives', () => {
  const card = new CardRig({ mode: 'intx' });
  card.write(Reg.RCTL, RXEN);
  expect(card.model.card.port.ready).toBe(false);
  card.wire.arrive(new Uint8Array(60));
  expect([card.read(Stat.TPR), card.wire.sent.length]).toEqual([0, 0]);
});
