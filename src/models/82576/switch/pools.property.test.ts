/** The pools of random frames, against the steps of 7.10.3.5 and 7.10.3.6 written as sets. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { setAddress } from '../../../../tests/kit/82576/filter-rig.ts';
import { ethernet } from '../../../../tests/kit/82576/frames.ts';
import { SwitchRig } from '../../../../tests/kit/82576/switch-rig.ts';
import { Dtxswc, Rctl, Reg, Vlvf, Vmolr, VtCtl } from '../../../abi/82576.ts';

const POOLS = [0, 1, 2, 3, 4, 5, 6, 7];
/** Few addresses, so that frames meet entries: three stations, two groups, all. */
const ADDRESSES = [
  '02:00:00:00:00:01',
  '02:00:00:00:00:02',
  '02:00:00:00:10:03',
  '01:00:5e:00:00:01',
  '33:33:00:00:10:02',
  'ff:ff:ff:ff:ff:ff',
];
const VLANS = [-1, 5, 6, 0xfff];

const settings = fc.record({
  entries: fc.array(fc.record({ address: fc.constantFrom(...ADDRESSES), pools: fc.nat(255), valid: fc.boolean() }), { maxLength: 8 }),
  vmolr: fc.array(fc.record({ bam: fc.boolean(), mpe: fc.boolean(), rope: fc.boolean(), rompe: fc.boolean(), aupe: fc.boolean() }), {
    minLength: 8,
    maxLength: 8,
  }),
  vlvf: fc.array(fc.record({ vlan: fc.constantFrom(5, 6, 0xfff), pools: fc.nat(255), local: fc.boolean(), valid: fc.boolean() }), {
    maxLength: 5,
  }),
  mta: fc.subarray(ADDRESSES),
  uta: fc.subarray(ADDRESSES),
  vfta: fc.subarray([5, 6, 0xfff]),
  vfre: fc.nat(255),
  lle: fc.nat(255),
  replication: fc.boolean(),
  disabled: fc.boolean(),
  defaultPool: fc.nat(7),
  upe: fc.boolean(),
  vfe: fc.boolean(),
});
type Settings = typeof settings extends fc.Arbitrary<infer T> ? T : never;

const bytesOf = (address: string): number[] => address.split(':').map((byte) => Number.parseInt(byte, 16));
/** RCTL.MO is 0. */
const hashOf = (address: string): number => {
  const [, , , , fifth, sixth] = bytesOf(address);
  return (((sixth! << 8) | fifth!) >>> 4) & 0xfff;
};

function apply(rig: SwitchRig, s: Settings): void {
  rig.registers.write(Reg.RCTL, Rctl.RXEN | Rctl.SECRC | (s.upe ? Rctl.UPE : 0) | (s.vfe ? Rctl.VFE : 0));
  for (let i = 0; i < 24; i++) setAddress(rig, i, [0, 0, 0, 0, 0, 0], 0);
  for (let i = 0; i < 24; i++) rig.registers.write(i < 16 ? Reg.RAH + 8 * i : Reg.RAH2 + 8 * (i - 16), 0);
  s.entries.forEach(({ address, pools, valid }, i) => {
    if (valid) setAddress(rig, i * 3, bytesOf(address), pools);
  });
  s.vmolr.forEach(({ bam, mpe, rope, rompe, aupe }, pool) => {
    const bits =
      (bam ? Vmolr.BAM : 0) | (mpe ? Vmolr.MPE : 0) | (rope ? Vmolr.ROPE : 0) | (rompe ? Vmolr.ROMPE : 0) | (aupe ? Vmolr.AUPE : 0);
    rig.set(Reg.VMOLR, (bits | Vmolr.STRCRC | 0x2600) >>> 0, pool);
  });
  for (let i = 0; i < 32; i++) rig.set(Reg.VLVF, 0, i);
  s.vlvf.forEach(({ vlan, pools, local, valid }, i) => {
    rig.set(Reg.VLVF, (vlan | (pools << Vlvf.POOLSEL_SHIFT) | (local ? Vlvf.LVLAN : 0) | (valid ? Vlvf.VI_EN : 0)) >>> 0, i);
  });
  for (const [register, addresses] of [
    [Reg.MTA, s.mta],
    [Reg.UTA, s.uta],
  ] as const) {
    for (let i = 0; i < 128; i++) rig.set(register, 0, i);
    for (const hash of addresses.map(hashOf)) rig.set(register, (rig.get(register, hash >>> 5) | (1 << (hash & 31))) >>> 0, hash >>> 5);
  }
  for (let i = 0; i < 128; i++) rig.set(Reg.VFTA, 0, i);
  for (const vlan of s.vfta) rig.set(Reg.VFTA, (rig.get(Reg.VFTA, vlan >>> 5) | (1 << (vlan & 31))) >>> 0, vlan >>> 5);
  rig.set(Reg.VFRE, s.vfre);
  rig.set(Reg.DTXSWC, (Dtxswc.LOOPBACK_EN | (s.lle << Dtxswc.LLE_SHIFT)) >>> 0);
  const control = (s.replication ? VtCtl.RPL_EN : 0) | (s.disabled ? VtCtl.DIS_DEF_POOL : 0) | (s.defaultPool << VtCtl.DEF_PL_SHIFT);
  rig.set(Reg.VT_CTL, control >>> 0);
}

/** The same in words of the datasheet; source -1: the wire. */
function reference(s: Settings, to: string, vlan: number, source: number): { pools: number[]; wire: boolean } {
  const has = (mask: number, pool: number): boolean => (mask & (1 << pool)) !== 0;
  const multicast = (bytesOf(to)[0]! & 1) !== 0;
  const broadcast = to === 'ff:ff:ff:ff:ff:ff';
  const matching = s.entries.filter(({ address, valid }) => valid && address === to);
  const hashed = (addresses: readonly string[]): boolean => addresses.some((address) => hashOf(address) === hashOf(to));
  let pools = POOLS.filter((pool) => matching.some((entry) => has(entry.pools, pool)));
  const add = (more: number[]): void => {
    pools = POOLS.filter((pool) => pools.includes(pool) || more.includes(pool));
  };
  if (multicast && !s.replication) {
    if (pools.length === 0) add([s.defaultPool]);
  } else if (broadcast) add(POOLS.filter((pool) => s.vmolr[pool]!.bam));
  else {
    const overflow = pools.length === 0 && hashed(multicast ? s.mta : s.uta);
    if (overflow) add(POOLS.filter((pool) => (multicast ? s.vmolr[pool]!.rompe : s.vmolr[pool]!.rope)));
    if (multicast) add(POOLS.filter((pool) => s.vmolr[pool]!.mpe));
  }
  if (source >= 0 && !has(s.lle, source)) pools = pools.filter((pool) => pool !== source);
  const groups = s.vlvf.filter((entry) => entry.valid && entry.vlan === vlan);
  if (s.vfe) pools = pools.filter((pool) => (vlan < 0 ? s.vmolr[pool]!.aupe : groups.some((entry) => has(entry.pools, pool))));
  const passes = s.upe || matching.length > 0 || hashed(s.uta);
  if (source < 0 && pools.length === 0 && !multicast && !s.disabled && passes) pools = [s.defaultPool];
  if (source < 0 && s.vfe && vlan >= 0 && !s.vfta.includes(vlan)) pools = [];
  const local = s.vfe && vlan >= 0 && groups.some((entry) => entry.local);
  return {
    pools: pools.filter((pool) => has(s.vfre, pool)),
    wire: source >= 0 && (multicast || matching.length === 0) && !local,
  };
}

it('7.10.3.5 and 7.10.3.6: pools and wire are those of the steps, for every setting', () => {
  const rig = new SwitchRig();
  let reached = 0;
  fc.assert(
    fc.property(
      settings,
      fc.array(fc.record({ to: fc.constantFrom(...ADDRESSES), vlan: fc.constantFrom(...VLANS), source: fc.integer({ min: -1, max: 7 }) }), {
        minLength: 1,
        maxLength: 6,
      }),
      (s, frames) => {
        apply(rig, s);
        for (const { to, vlan, source } of frames) {
          rig.wire.length = 0;
          const frame = ethernet(to, '02:00:00:00:00:77', 0x88b5, [1], { tags: vlan < 0 ? [] : [[0x8100, vlan]] });
          const queues = rig.queues(source < 0 ? rig.fromWire(frame) : rig.transmit(source, frame));
          const expected = reference(s, to, vlan, source);
          expect({ pools: queues, wire: rig.wire.length === 1 }).toEqual(expected);
          reached += queues.length;
        }
        rig.arrivals.length = 0;
      },
    ),
    { numRuns: 400 },
  );
  expect(reached).toBeGreaterThan(100);
});
