import { expect, it } from 'vitest';
import { CardRig } from '../../../../tests/kit/82576/card-rig.ts';
import { Ctrl, Reg } from '../../../abi/82576.ts';
import { Stat } from '../../../abi/82576-statistics.ts';

const BROADCAST = new Uint8Array(1600).fill(0xff, 0, 6);
const MULTICAST = Uint8Array.from([1, 0, 0x5e, 0, 0, 1, ...new Array(100).fill(0)]);
const UNICAST = new Uint8Array(9800);

it('8.18 a counter is read once: the read clears it', () => {
  const card = new CardRig();
  card.model.card.statistics.count(Stat.MPC, 3);
  expect([card.read(Stat.MPC), card.read(Stat.MPC)]).toEqual([3, 0]);
});

it('8.18 a counter stays at its highest value, and so does a pair', () => {
  const card = new CardRig();
  const { statistics, registers } = card.model.card;
  statistics.count(Stat.MPC, 0xffff_ffff);
  statistics.count(Stat.MPC, 2);
  registers.words[Stat.GORCL >>> 2] = 0xffff_fff0;
  registers.words[Stat.GORCH >>> 2] = 0xffff_ffff;
  statistics.received(UNICAST, 0, 60);
  expect([card.read(Stat.MPC), card.read(Stat.GORCL), card.read(Stat.GORCH)]).toEqual([0xffff_ffff, 0xffff_ffff, 0xffff_ffff]);
});

it('8.18 the low half carries into the high half, whose read clears both', () => {
  const card = new CardRig();
  const { statistics, registers } = card.model.card;
  registers.words[Stat.GOTCL >>> 2] = 0xffff_fff0;
  statistics.transmitted(UNICAST, 0, 60);
  expect([card.read(Stat.GOTCL), card.read(Stat.GOTCL), card.read(Stat.GOTCH)]).toEqual([0x30, 0x30, 1]);
  expect([card.read(Stat.GOTCL), card.read(Stat.GOTCH)]).toEqual([0, 0]);
});

it.each([
  [60, Stat.PRC64, Stat.PTC64],
  [61, Stat.PRC127, Stat.PTC127],
  [123, Stat.PRC127, Stat.PTC127],
  [124, Stat.PRC255, Stat.PTC255],
  [251, Stat.PRC255, Stat.PTC255],
  [252, Stat.PRC511, Stat.PTC511],
  [508, Stat.PRC1023, Stat.PTC1023],
  [1020, Stat.PRC1522, Stat.PTC1522],
  [9000, Stat.PRC1522, Stat.PTC1522],
])('8.18 a frame of %i bytes and its check sequence is in the counter of its size', (length, received, transmitted) => {
  const card = new CardRig();
  const { statistics } = card.model.card;
  statistics.received(UNICAST, 0, length);
  statistics.transmitted(UNICAST, 0, length);
  expect([card.read(received), card.read(transmitted), card.read(Stat.GORCL), card.read(Stat.TOTL)]).toEqual([
    1,
    1,
    length + 4,
    length + 4,
  ]);
});

it('8.18 broadcast and multicast frames have counters apart', () => {
  const card = new CardRig();
  const { statistics } = card.model.card;
  for (const frame of [BROADCAST, MULTICAST, MULTICAST, UNICAST]) {
    statistics.received(frame, 0, 100);
    statistics.transmitted(frame, 0, 100);
  }
  expect([Stat.BPRC, Stat.MPRC, Stat.GPRC, Stat.BPTC, Stat.MPTC, Stat.GPTC, Stat.TPT].map((at) => card.read(at))).toEqual([
    1, 2, 4, 1, 2, 4, 4,
  ]);
});

it('8.26 counters of a pool stay when they are read, and go on at 0 after their highest value', () => {
  const card = new CardRig();
  const { statistics, registers } = card.model.card;
  registers.words[(Reg.PVFGORC + 0x300) >>> 2] = 0xffff_fff0;
  statistics.poolReceived(3, 60, true, false);
  statistics.poolTransmitted(3, 60, true);
  const at = (register: number) => card.read(register + 0x300);
  const received = [Reg.PVFGPRC, Reg.PVFGORC, Reg.PVFMPRC, Reg.PVFGPRLBC, Reg.PVFGPRC];
  expect(received.map(at)).toEqual([1, 0x30, 1, 0, 1]);
  // Frames of and for other functions are among the good ones.
  const sent = [Reg.PVFGPTC, Reg.PVFGOTC, Reg.PVFGPTLBC, Reg.PVFGOTLBC];
  expect(sent.map(at)).toEqual([1, 64, 1, 64]);
});

it('4.2.1 a software reset clears counters', () => {
  const card = new CardRig();
  card.model.card.statistics.count(Stat.MPC);
  card.write(Reg.CTRL, Ctrl.RST);
  expect(card.read(Stat.MPC)).toBe(0);
});
