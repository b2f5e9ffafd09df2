import { describe, expect, it } from 'vitest';
import { setAddress } from '../../../../tests/kit/82576/filter-rig.ts';
import { BROADCAST, ethernet, ipv4, macOf, tcp } from '../../../../tests/kit/82576/frames.ts';
import { poolAddress, SwitchRig } from '../../../../tests/kit/82576/switch-rig.ts';
import { Dtxswc, Icr, Mrqc, Rctl, Reg, Rxcsum, Vlvf, Vmolr, Vmvir, VtCtl } from '../../../abi/82576.ts';
import { RxStatus } from '../../../abi/82576-descriptors.ts';
import { Vmrctl } from '../../../abi/82576-filters.ts';
import { Stat } from '../../../abi/82576-statistics.ts';

const STRANGER = '02:00:00:00:00:99';
const GROUP = '01:00:5e:01:02:03';
/** A frame of pool `pool`. */
const frame = (to: string, pool = 0, tags: Array<[number, number]> = []): Uint8Array =>
  ethernet(to, poolAddress(pool), 0x88b5, [1, 2, 3], { tags });
/** Entry `index` of VLVF, and the VLAN's bit in VFTA. */
function vlan(rig: SwitchRig, index: number, id: number, pools: number, local = false): void {
  rig.set(Reg.VLVF, ((Vlvf.VI_EN | (pools << Vlvf.POOLSEL_SHIFT) | id | (local ? Vlvf.LVLAN : 0)) >>> 0) as number, index);
  rig.set(Reg.VFTA, (rig.get(Reg.VFTA, id >>> 5) | (1 << (id & 31))) >>> 0, id >>> 5);
}

describe('7.10.3.6: a frame of a pool', () => {
  it('to the address of another pool stays in the card, and is marked as looped', () => {
    const rig = new SwitchRig();
    expect(rig.transmit(0, frame(poolAddress(3)))).toMatchObject([
      { queue: 3, looped: true, status: RxStatus.LB, data: frame(poolAddress(3)) },
    ]);
    expect(rig.wire).toEqual([]);
    expect(rig.poolCounts).toEqual(['0 sent looped', '3 received looped']);
    expect(rig.good).toBe(0);
  });

  it('to an address of no pool goes to the wire alone', () => {
    const rig = new SwitchRig();
    expect(rig.transmit(8, frame(STRANGER))).toEqual([]);
    expect(rig.wire).toEqual([frame(STRANGER)]);
    expect(rig.poolCounts).toEqual(['0 sent']);
  });

  it('to all goes to the wire and to all pools but its own', () => {
    const rig = new SwitchRig();
    expect(rig.queues(rig.transmit(10, frame(BROADCAST, 2)))).toEqual([0, 1, 3, 4, 5, 6, 7]);
    expect(rig.wire).toHaveLength(1);
  });

  it('to a group goes to the pools that want it: ROMPE with the hash, and MPE', () => {
    const rig = new SwitchRig();
    rig.set(Reg.MTA, 1 << ((0x0302 >>> 4) & 31), 0x0302 >>> 9);
    rig.set(Reg.VMOLR, Vmolr.ROMPE | Vmolr.STRCRC | 0x2600, 1);
    rig.set(Reg.VMOLR, (Vmolr.MPE | Vmolr.STRCRC | 0x2600) >>> 0, 5);
    expect(rig.queues(rig.transmit(0, frame(GROUP)))).toEqual([1, 5]);
    expect(rig.queues(rig.transmit(0, frame('01:00:5e:77:77:77')))).toEqual([5]);
    expect(rig.wire).toHaveLength(2);
  });

  it('never comes back to its pool, unless DTXSWC.LLE allows it', () => {
    const rig = new SwitchRig();
    expect(rig.transmit(3, frame(poolAddress(3), 3))).toEqual([]);
    expect(rig.wire).toEqual([]);
    rig.set(Reg.DTXSWC, (Dtxswc.LOOPBACK_EN | (8 << Dtxswc.LLE_SHIFT)) >>> 0);
    expect(rig.queues(rig.transmit(3, frame(poolAddress(3), 3)))).toEqual([3]);
  });

  it('goes to the wire without DTXSWC.LOOPBACK_EN, whatever its address is', () => {
    const rig = new SwitchRig();
    rig.set(Reg.DTXSWC, 0);
    expect(rig.transmit(0, frame(poolAddress(3)))).toEqual([]);
    expect(rig.wire).toHaveLength(1);
  });

  it('reaches no pool that VFRE has off', () => {
    const rig = new SwitchRig();
    rig.set(Reg.VFRE, 0xf7);
    expect(rig.transmit(0, frame(poolAddress(3)))).toEqual([]);
    expect(rig.queues(rig.transmit(0, frame(BROADCAST)))).not.toContain(3);
  });

  it('of a VLAN reaches the pools of that VLAN, and the wire unless the VLAN is local', () => {
    const rig = new SwitchRig();
    rig.set(Reg.RCTL, Rctl.RXEN | Rctl.SECRC | Rctl.BAM | Rctl.VFE);
    vlan(rig, 0, 100, 0b0000_0111);
    vlan(rig, 31, 200, 0b0000_1011, true);
    expect(rig.queues(rig.transmit(0, frame(BROADCAST, 0, [[0x8100, 100]])))).toEqual([1, 2]);
    expect(rig.wire).toHaveLength(1);
    expect(rig.queues(rig.transmit(0, frame(BROADCAST, 0, [[0x8100, 200]])))).toEqual([1, 3]);
    expect(rig.wire).toHaveLength(1);
    expect(rig.transmit(0, frame(poolAddress(3), 0, [[0x8100, 100]]))).toEqual([]);
    // Untagged frames are for pools with AUPE.
    rig.set(Reg.VMOLR, (Vmolr.BAM | Vmolr.STRCRC | 0x2600) >>> 0, 4);
    expect(rig.queues(rig.transmit(0, frame(BROADCAST)))).toEqual([1, 2, 3, 5, 6, 7]);
  });
});

describe('8.14.11: VMVIR', () => {
  const tagOf = (sent: Uint8Array | undefined): number | null =>
    sent![12] === 0x81 && sent![13] === 0 ? (sent![14]! << 8) | sent![15]! : null;

  it.each([
    ['the descriptor', 0, 7, 7],
    ['nothing', 0, -1, null],
    ['VMVIR, whatever the descriptor says', (Vmvir.VLANA_DEFAULT | 0x6064) >>> 0, 7, 0x6064],
    ['nothing, whatever the descriptor says', (Vmvir.VLANA_NEVER | 0x64) >>> 0, 7, null],
  ] as const)('the tag is that of %s', (_name, vmvir, asked, tag) => {
    const rig = new SwitchRig();
    rig.set(Reg.VMVIR, vmvir, 2);
    rig.transmit(10, frame(STRANGER, 2), asked);
    expect(tagOf(rig.wire[0])).toBe(tag);
    // The rest is as it was.
    const rest = [...rig.wire[0]!];
    if (tag !== null) rest.splice(12, 4);
    expect(Uint8Array.from(rest)).toEqual(frame(STRANGER, 2));
  });

  it('puts a pool into a VLAN whose other pools get its frames, and strips the tag there', () => {
    const rig = new SwitchRig();
    rig.set(Reg.RCTL, Rctl.RXEN | Rctl.SECRC | Rctl.BAM | Rctl.VFE);
    vlan(rig, 0, 100, 0b11);
    rig.set(Reg.VMVIR, (Vmvir.VLANA_DEFAULT | 100) >>> 0, 0);
    rig.set(Reg.VMOLR, (Vmolr.STRVLAN | Vmolr.STRCRC | 0x2600) >>> 0, 1);
    const arrivals = rig.transmit(0, frame(poolAddress(1)));
    expect(arrivals).toMatchObject([{ queue: 1, vlan: 100, vlanOffset: 12, status: RxStatus.LB | RxStatus.VP }]);
    expect(rig.transmit(0, frame(poolAddress(2)))).toEqual([]);
  });

  it('stands behind the outer tag of a double VLAN (7.4.5)', () => {
    const rig = new SwitchRig();
    rig.set(Reg.CTRL_EXT, 1 << 26);
    rig.set(Reg.VET, 0x88a8_8100);
    rig.transmit(0, frame(STRANGER, 0, [[0x88a8, 9]]), 5);
    expect([...rig.wire[0]!.subarray(12, 22)]).toEqual([0x88, 0xa8, 0, 9, 0x81, 0, 0, 5, 0x88, 0xb5]);
  });
});

describe('7.10.3.9.2: anti-spoofing', () => {
  it('drops a frame with the address of another pool, and reports its queue', () => {
    const rig = new SwitchRig();
    rig.set(Reg.DTXSWC, (Dtxswc.LOOPBACK_EN | 0xff) >>> 0);
    expect(rig.transmit(10, frame(poolAddress(0), 3))).toEqual([]);
    expect(rig.transmit(10, frame(STRANGER, 3))).toEqual([]);
    expect(rig.wire).toEqual([]);
    expect(rig.counts.get(Stat.SSVPC)).toBe(2);
    expect(rig.causes).toEqual([Icr.DOUTSYNC, Icr.DOUTSYNC]);
    expect(rig.registers.read(Reg.WVBR)).toBe(1 << 10);
    expect(rig.registers.read(Reg.WVBR)).toBe(0);
    expect(rig.queues(rig.transmit(10, frame(poolAddress(0), 2)))).toEqual([0]);
  });

  it('drops a VLAN that the pool is not in, from the frame or from the descriptor, but not that of VMVIR', () => {
    const rig = new SwitchRig();
    rig.set(Reg.DTXSWC, (Dtxswc.LOOPBACK_EN | Dtxswc.VLANAS) >>> 0);
    vlan(rig, 0, 100, 0b100);
    rig.transmit(2, frame(STRANGER, 2, [[0x8100, 101]]));
    rig.transmit(2, frame(STRANGER, 2), 101);
    // A tag within a tag that the pool may use.
    rig.transmit(2, frame(STRANGER, 2, [[0x8100, 101]]), 100);
    expect(rig.wire).toEqual([]);
    rig.transmit(2, frame(STRANGER, 2, [[0x8100, 100]]));
    rig.transmit(2, frame(STRANGER, 2), 100);
    rig.transmit(2, frame(STRANGER, 2));
    rig.set(Reg.VMVIR, (Vmvir.VLANA_DEFAULT | 300) >>> 0, 2);
    rig.transmit(2, frame(STRANGER, 2));
    expect(rig.wire).toHaveLength(4);
    expect(rig.counts.get(Stat.SSVPC)).toBe(3);
  });

  it('drops what has no header', () => {
    const rig = new SwitchRig();
    expect(rig.transmit(2, new Uint8Array(9))).toEqual([]);
    expect(rig.wire).toEqual([]);
  });
});

describe('7.10.3.5: a frame of the wire', () => {
  it('goes to the pools of its address, and unknown ones to the default pool where the port lets them in', () => {
    const rig = new SwitchRig();
    expect(rig.queues(rig.fromWire(frame(poolAddress(5))))).toEqual([5]);
    expect(rig.fromWire(frame(STRANGER))).toEqual([]);
    rig.set(Reg.VT_CTL, VtCtl.RPL_EN | (7 << VtCtl.DEF_PL_SHIFT));
    rig.set(Reg.RCTL, Rctl.RXEN | Rctl.SECRC | Rctl.UPE);
    expect(rig.queues(rig.fromWire(frame(STRANGER)))).toEqual([7]);
    rig.set(Reg.VT_CTL, (VtCtl.RPL_EN | VtCtl.DIS_DEF_POOL) >>> 0);
    expect(rig.fromWire(frame(STRANGER))).toEqual([]);
    rig.set(Reg.VT_CTL, (VtCtl.RPL_EN | VtCtl.FLP) >>> 0);
    expect(rig.fromWire(frame(poolAddress(5), 6))).toEqual([]);
  });

  it('has a hash in UTA: pools with ROPE get it, and PIF', () => {
    const rig = new SwitchRig();
    for (let i = 0; i < 128; i++) rig.set(Reg.UTA, 0xffff_ffff, i);
    rig.set(Reg.VMOLR, Vmolr.ROPE | Vmolr.STRCRC | 0x2600, 6);
    expect(rig.fromWire(frame(STRANGER))).toMatchObject([{ queue: 6, status: RxStatus.PIF }]);
    expect(rig.fromWire(frame(poolAddress(2)))).toMatchObject([{ queue: 2, status: 0 }]);
  });

  it('for all goes to one pool without replication', () => {
    const rig = new SwitchRig();
    rig.set(Reg.VT_CTL, 4 << VtCtl.DEF_PL_SHIFT);
    expect(rig.queues(rig.fromWire(frame(BROADCAST)))).toEqual([4]);
  });

  it('is as long as its pool allows; too long for all of them, it is oversized (7.10.3.4)', () => {
    const rig = new SwitchRig();
    rig.set(Reg.RCTL, Rctl.RXEN | Rctl.SECRC | Rctl.BAM | Rctl.LPE);
    const long = (to: string): Uint8Array => ethernet(to, STRANGER, 0x88b5, Array<number>(1700).fill(1));
    rig.set(Reg.VMOLR, (Vmolr.BAM | Vmolr.AUPE | Vmolr.STRCRC | Vmolr.LPE | 2000) >>> 0, 3);
    rig.set(Reg.VMOLR, (Vmolr.BAM | Vmolr.AUPE | Vmolr.STRCRC | Vmolr.LPE | 1717) >>> 0, 4);
    expect(rig.queues(rig.fromWire(long(BROADCAST)))).toEqual([3]);
    expect(rig.counts.get(Stat.ROC)).toBeUndefined();
    expect(rig.fromWire(long(poolAddress(4)))).toEqual([]);
    expect(rig.counts.get(Stat.ROC)).toBe(1);
  });

  it('for many has the offloads of RPLOLR, for one those of its pool (7.10.3.8)', () => {
    const rig = new SwitchRig();
    rig.set(Reg.VMOLR, (Vmolr.STRVLAN | Vmolr.BAM | Vmolr.AUPE | 0x2600) >>> 0, 1);
    const tagged = (to: string): Uint8Array => frame(to, 0, [[0x8100, 5]]);
    expect(rig.fromWire(tagged(poolAddress(1)))).toMatchObject([{ vlan: 5, data: { length: 64 } }]);
    const copies = rig.fromWire(tagged(BROADCAST));
    expect(copies).toHaveLength(8);
    for (const copy of copies) expect(copy).toMatchObject({ vlan: -1, data: { length: 60 } });
    rig.set(Reg.RPLOLR, 0xc000_0000);
    for (const copy of rig.fromWire(tagged(BROADCAST))) expect(copy).toMatchObject({ vlan: 5, data: { length: 60 } });
  });

  it('has its hash select the second queue of pools with RSSE, by bit 3 of RETA (7.10.2.3)', () => {
    const rig = new SwitchRig();
    rig.set(Reg.MRQC, Mrqc.VMDQ_RSS | Mrqc.TCP_IPV4);
    rig.set(Reg.RXCSUM, Rxcsum.PCSD);
    rig.set(Reg.RSSRK, 0x12345678);
    for (let i = 0; i < 32; i++) rig.set(Reg.RETA, 0x0808_0808, i);
    rig.set(Reg.VMOLR, (Vmolr.BAM | Vmolr.AUPE | Vmolr.STRCRC | Vmolr.RSSE | 0x2600) >>> 0, 1);
    const segment = (to: string): Uint8Array => ethernet(to, STRANGER, 0x800, ipv4(6, tcp([1])));
    expect(rig.queues(rig.fromWire(segment(poolAddress(1))))).toEqual([9]);
    expect(rig.queues(rig.fromWire(segment(poolAddress(2))))).toEqual([2]);
    expect(rig.queues(rig.fromWire(frame(poolAddress(1))))).toEqual([1]);
  });
});

describe('7.10.3.7: mirror rules copy to a pool', () => {
  const rule = (kinds: number, pool: number): number => kinds | (pool << Vmrctl.MP_SHIFT);

  it('frames of pools, of the wire, to the wire, of a VLAN', () => {
    const rig = new SwitchRig();
    rig.set(Reg.VMRCTL, rule(Vmrctl.VPME, 7), 0);
    rig.set(Reg.VMRVM, 0b10, 0);
    expect(rig.queues(rig.fromWire(frame(poolAddress(1))))).toEqual([1, 7]);
    expect(rig.queues(rig.transmit(1, frame(poolAddress(2), 1)))).toEqual([2, 7]);
    expect(rig.queues(rig.fromWire(frame(poolAddress(2))))).toEqual([2]);
    rig.set(Reg.VMRCTL, rule(Vmrctl.UPME, 6), 0);
    expect(rig.queues(rig.fromWire(frame(poolAddress(2))))).toEqual([2, 6]);
    expect(rig.queues(rig.transmit(1, frame(STRANGER, 1)))).toEqual([]);
    rig.set(Reg.VMRCTL, rule(Vmrctl.DPME, 6), 0);
    expect(rig.queues(rig.transmit(1, frame(STRANGER, 1)))).toEqual([6]);
    rig.set(Reg.VMRCTL, rule(Vmrctl.VLME, 5), 0);
    rig.set(Reg.VMRVLAN, 1 << 9, 0);
    vlan(rig, 9, 100, 0xff);
    expect(rig.queues(rig.fromWire(frame(poolAddress(2), 0, [[0x8100, 100]])))).toEqual([2, 5]);
    expect(rig.queues(rig.fromWire(frame(poolAddress(2), 0, [[0x8100, 101]])))).toEqual([2]);
  });
});

it('8.10.13: an address may be of several pools, and of none', () => {
  const rig = new SwitchRig();
  setAddress(rig, 23, macOf(STRANGER), 0b1001_0000);
  expect(rig.queues(rig.transmit(0, frame(STRANGER)))).toEqual([4, 7]);
  setAddress(rig, 23, macOf(STRANGER), 0);
  expect(rig.transmit(0, frame(STRANGER))).toEqual([]);
  expect(rig.wire).toEqual([]);
});
