/**
 * The registers that drivers test, each bit for itself: patterns as in the offline test of Linux's
 * igb, which a card must pass (igb_ethtool.c, igb_reg_test).
 */
import { describe, expect, it } from 'vitest';
import { CardRig } from '../../../tests/kit/82576/card-rig.ts';
import { Reg, Xdctl } from '../../abi/82576.ts';

const PATTERNS = [0x5a5a_5a5a, 0xa5a5_a5a5, 0, 0xffff_ffff];
const QUEUES = [16, 0x40] as const;
/** Queues 0 to 3 at their second addresses. */
const ALIASES = [4, 0x100] as const;

interface Tested {
  readonly name: string;
  readonly offset: number;
  /** How many there are, and the bytes from one to the next. */
  readonly of?: readonly [count: number, stride: number];
  /** Bits that keep what is written. Default: all of them. */
  readonly kept?: number;
}

/** Bits 3:0 of a ring's length are not tested: it is a multiple of 128 bytes. */
const RING = [
  ['RDBAL', 0x2800, Reg.RDBAL, 0xffff_ff80],
  ['RDBAH', 0x2804, Reg.RDBAH, 0xffff_ffff],
  ['RDLEN', 0x2808, Reg.RDLEN, 0x000f_fff0],
  ['TDBAL', 0x3800, Reg.TDBAL, 0xffff_ff80],
  ['TDBAH', 0x3804, Reg.TDBAH, 0xffff_ffff],
  ['TDLEN', 0x3808, Reg.TDLEN, 0x000f_fff0],
] as const;

const REGISTERS: readonly Tested[] = [
  { name: 'FCAL', offset: Reg.FCAL },
  { name: 'FCAH', offset: Reg.FCAH, kept: 0xffff },
  { name: 'FCT', offset: Reg.FCT, kept: 0xffff },
  { name: 'VET', offset: Reg.VET },
  ...RING.flatMap(([name, alias, offset, kept]) => [
    { name: `${name} (alias)`, offset: alias, of: ALIASES, kept },
    { name, offset, of: QUEUES, kept },
  ]),
  { name: 'FCTTV', offset: Reg.FCTTV, kept: 0xffff },
  { name: 'TIPG', offset: Reg.TIPG, kept: 0x3fff_ffff },
  { name: 'RAL', offset: Reg.RAL, of: [16, 8] },
  { name: 'RAH', offset: Reg.RAH, of: [16, 8], kept: 0x83ff_ffff },
  { name: 'RAL2', offset: Reg.RAL2, of: [8, 8] },
  { name: 'RAH2', offset: Reg.RAH2, of: [8, 8], kept: 0x83ff_ffff },
  { name: 'MTA', offset: Reg.MTA, of: [128, 4] },
];

describe('the registers that igb tests', () => {
  it.each(REGISTERS)('8 $name', ({ offset, of: [count, stride] = [1, 4], kept = 0xffff_ffff }) => {
    const rig = new CardRig();
    for (let i = 0; i < count; i++) {
      for (const pattern of PATTERNS) {
        rig.write(offset + i * stride, pattern & kept);
        expect(rig.read(offset + i * stride) & kept).toBe(pattern & kept);
      }
    }
  });

  it('8.10.6 RDT of queues that are on', () => {
    const rig = new CardRig();
    for (let queue = 0; queue < 16; queue++) rig.write(Reg.RXDCTL + queue * 0x40, Xdctl.ENABLE);
    for (let queue = 0; queue < 16; queue++) {
      for (const pattern of PATTERNS) {
        rig.write(Reg.RDT + queue * 0x40, pattern & 0xffff);
        expect(rig.read(Reg.RDT + queue * 0x40) & 0xffff).toBe(pattern & 0xffff);
      }
    }
  });

  it('8.3.8 FCRTH, 8.10.1 RCTL and 8.12.1 TCTL', () => {
    const rig = new CardRig();
    for (const pattern of PATTERNS) {
      rig.write(Reg.FCRTH0, pattern & 0xfff0);
      expect(rig.read(Reg.FCRTH0) & 0xfff0).toBe(pattern & 0xfff0);
    }
    for (const [offset, mask, written] of [
      [Reg.RCTL, 0xffff_ffff, 0],
      [Reg.RCTL, 0x04cf_b0fe, 0x003f_fffb],
      [Reg.RCTL, 0x04cf_b0fe, 0xffff_ffff],
      [Reg.TCTL, 0xffff_ffff, 0],
    ] as const) {
      rig.write(offset, written & mask);
      expect(rig.read(offset) & mask).toBe(written & mask);
    }
  });

  it('8.2.2 STATUS keeps its read-only bits', () => {
    const rig = new CardRig();
    const before = rig.read(Reg.STATUS);
    rig.write(Reg.STATUS, 0x7fff_f3ff);
    expect(rig.read(Reg.STATUS) & 0x7fff_f3ff).toBe(before & 0x7fff_f3ff);
  });
});
