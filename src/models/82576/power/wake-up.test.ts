import { expect, it } from 'vitest';
import { CardRig, MAC } from '../../../../tests/kit/82576/card-rig.ts';
import { Ctrl, Reg, Wuc, Wufc } from '../../../abi/82576.ts';
import { NEGOTIATION_MS } from '../phy/link.ts';

const ALL = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
const SOURCE = [2, 0, 0, 0, 0, 1];

function asleep(wufc: number): CardRig {
  const card = new CardRig({ mode: 'intx' });
  card.write(Reg.CTRL, card.read(Reg.CTRL) | Ctrl.SLU);
  card.wire.carrier(true);
  card.host.clock.advance(NEGOTIATION_MS);
  card.write(Reg.IPAV, 1);
  card.write(Reg.IP4AT, 0x0a00_000a);
  card.write(Reg.WUC, Wuc.PME_EN);
  card.write(Reg.WUFC, wufc);
  card.model.power('D3hot');
  return card;
}

/** Why the card woke; 0: it did not. */
function why(card: CardRig, frame: readonly number[]): number {
  card.wire.arrive(Uint8Array.from([...frame, ...new Array(Math.max(0, 60 - frame.length)).fill(0)]));
  return card.host.wakes === 0 ? 0 : card.read(Reg.WUS);
}

const magic = [...ALL, ...SOURCE, 0x08, 0x42, ...ALL, ...Array.from({ length: 16 }, () => [...MAC]).flat()];
const arp = [...ALL, ...SOURCE, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1, ...SOURCE, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 10];

it.each([
  ['a magic packet', Wufc.MAG, magic, Wufc.MAG],
  ['a magic packet of another station', Wufc.MAG, magic.with(30, 9), 0],
  ['a frame for its own address', Wufc.EX, [...MAC, ...SOURCE, 0x88, 0xb5], Wufc.EX],
  ['a frame for another address', Wufc.EX, [...SOURCE, ...MAC, 0x88, 0xb5], 0],
  ['a broadcast', Wufc.BC, [...ALL, ...SOURCE, 0x88, 0xb5], Wufc.BC],
  ['a multicast', Wufc.MC, [1, 0, 0x5e, 0, 0, 1, ...SOURCE, 0x88, 0xb5], Wufc.MC],
  ['a broadcast is no multicast', Wufc.MC, [...ALL, ...SOURCE, 0x88, 0xb5], 0],
  ['an ARP request for its address', Wufc.ARP, arp, Wufc.ARP],
  ['an ARP request for another address', Wufc.ARP, arp.with(41, 11), 0],
  ['an ARP request with a tag', Wufc.ARP, [...arp.slice(0, 12), 0x81, 0, 0, 5, ...arp.slice(12)], Wufc.ARP],
  ['a magic packet that WUFC does not ask for', Wufc.EX, magic, 0],
])('5.6.3 %s', (_, wufc, frame, cause) => {
  expect(why(asleep(wufc), frame)).toBe(cause);
});

it('8.20.8 the frame that woke the card is kept', () => {
  const card = asleep(Wufc.BC);
  why(card, [...ALL, ...SOURCE, 0x88, 0xb5]);
  expect([card.read(Reg.WUPL), card.read(Reg.WUPM), card.read(Reg.WUPM + 4)]).toEqual([60, 0xffff_ffff, 0x0002_ffff]);
});

it('5.6.3.1.1 a change of the link wakes the card', () => {
  const card = asleep(Wufc.LNKC);
  card.wire.carrier(false);
  expect([card.host.wakes, card.read(Reg.WUS)]).toEqual([1, Wufc.LNKC]);
});

it('8.20 status and filters outlive the reset that follows D3hot, and no other one', () => {
  const card = asleep(Wufc.BC);
  why(card, [...ALL, ...SOURCE, 0x88, 0xb5]);
  card.model.reset();
  card.model.power('D0');
  expect([card.read(Reg.WUS), card.read(Reg.WUC)]).toEqual([Wufc.BC, Wuc.PME_EN | Wuc.PME_STATUS]);
  card.write(Reg.WUS, Wufc.BC);
  card.write(Reg.WUC, Wuc.PME_STATUS);
  expect([card.read(Reg.WUS), card.read(Reg.WUC)]).toEqual([0, 0]);
  card.write(Reg.WUFC, Wufc.BC);
  card.model.reset();
  expect(card.read(Reg.WUFC)).toBe(0);
});
