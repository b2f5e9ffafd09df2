import { expect, it } from 'vitest';
import { CardRig } from '../../../../tests/kit/82576/card-rig.ts';
import { Icr, Reg, Tsyncctl } from '../../../abi/82576.ts';

const time = (card: CardRig) => BigInt(card.read(Reg.SYSTIML)) | (BigInt(card.read(Reg.SYSTIMH)) << 32n);

/** As Linux sets it: 2^19 units for a nanosecond. */
const LINUX = (1 << 24) | (16 << 19);

function rig(): CardRig {
  const card = new CardRig({ mode: 'intx' });
  card.write(Reg.TIMINCA, LINUX);
  return card;
}

it('8.16.10 SYSTIM grows by INCVALUE in each INCPERIOD of 16 ns, and stands without a period', () => {
  const card = new CardRig();
  card.host.clock.advance(5);
  expect(time(card)).toBe(0n);
  card.write(Reg.TIMINCA, LINUX);
  card.host.clock.advance(1000);
  expect(time(card)).toBe(1_000_000_000n << 19n);
  card.write(Reg.TIMINCA, (2 << 24) | (16 << 19));
  card.host.clock.advance(1000);
  expect(time(card)).toBe(1_500_000_000n << 19n);
});

it('8.16.6 software sets the time, and the high half is that of the last read of the low one', () => {
  const card = rig();
  card.write(Reg.SYSTIML, 0xffff_ffff);
  card.write(Reg.SYSTIMH, 5);
  card.read(Reg.SYSTIML);
  card.host.clock.advance(1000);
  expect(card.read(Reg.SYSTIMH)).toBe(5);
  expect(time(card)).toBe(0x5_ffff_ffffn + (1_000_000_000n << 19n));
});

it('8.16.12 an adjustment has a sign of its own', () => {
  const card = rig();
  card.write(Reg.SYSTIML, 1000);
  card.write(Reg.TIMADJL, 400);
  card.write(Reg.TIMADJH, 0x8000_0000);
  expect(time(card)).toBe(600n);
  card.write(Reg.TIMADJH, 0);
  expect(time(card)).toBe(1000n);
});

it('8.16.2 a frame that asks for it has its time kept until software has read it', () => {
  const card = rig();
  const port = card.model.card.time;
  port.transmitted();
  expect(card.read(Reg.TSYNCTXCTL)).toBe(0);
  card.write(Reg.TSYNCTXCTL, Tsyncctl.EN);
  card.host.clock.advance(1000);
  port.transmitted();
  const first = 1_000_000_000n << 19n;
  card.host.clock.advance(1000);
  port.transmitted();
  expect(card.read(Reg.TSYNCTXCTL) & Tsyncctl.VALID).toBe(1);
  expect(BigInt(card.read(Reg.TXSTMPL)) | (BigInt(card.read(Reg.TXSTMPH)) << 32n)).toBe(first);
  expect([card.read(Reg.TSYNCTXCTL) & Tsyncctl.VALID, card.read(Reg.ICS) & Icr.TS]).toEqual([0, Icr.TS]);
});

it('8.16.1 of packets of the time protocol, those of TYPE are stamped, with their source', () => {
  const card = rig();
  const packet = new Uint8Array(64);
  packet.set([0x01, 0x02]);
  packet.set([0x10, 0x11, 0x12, 0x13, 0x14, 0x15], 22);
  packet.set([0xab, 0xcd], 30);
  card.write(Reg.TSYNCRXCFG, 0x0100);
  card.write(Reg.TSYNCRXCTL, Tsyncctl.EN | 0x2);
  card.model.card.time.received(packet, 0);
  expect(card.read(Reg.TSYNCRXCTL) & Tsyncctl.VALID).toBe(0);
  card.write(Reg.TSYNCRXCTL, Tsyncctl.EN | 0x4);
  card.model.card.time.received(packet, 0);
  expect([card.read(Reg.TSYNCRXCTL) & Tsyncctl.VALID, card.read(Reg.RXSATRL), card.read(Reg.RXSATRH)]).toEqual([
    1, 0x1011_1213, 0xabcd_1415,
  ]);
  card.read(Reg.RXSTMPH);
  expect(card.read(Reg.TSYNCRXCTL) & Tsyncctl.VALID).toBe(0);
});
