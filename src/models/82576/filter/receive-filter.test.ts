import { describe, expect, it } from 'vitest';
import { FilterRig, setAddress } from '../../../../tests/kit/82576/filter-rig.ts';
import { BROADCAST, ethernet, ipv4, ipv6, macOf, tcp, udp } from '../../../../tests/kit/82576/frames.ts';
import { Ctrl, Mrqc, Psrtype, Rctl, Reg, Rxcsum, Tsyncctl } from '../../../abi/82576.ts';
import { PacketType, RssType, RxStatus } from '../../../abi/82576-descriptors.ts';
import { Etqf, Ftqf, Imir, Synqf } from '../../../abi/82576-filters.ts';
import { Stat } from '../../../abi/82576-statistics.ts';

const STATION = '02:00:00:00:00:01';
const OTHER = '02:00:00:00:00:99';
const GROUP = '01:00:5e:01:02:03';
const SENDER = '02:00:00:00:00:77';
const frameTo = (to: string, tags: Array<[number, number]> = []): Uint8Array => ethernet(to, SENDER, 0x88b5, [1, 2, 3], { tags });

/** A receiver that is on and strips the frame check sequence. */
function rig(bits = 0): FilterRig {
  const result = new FilterRig();
  result.set(Reg.RCTL, (Rctl.RXEN | Rctl.SECRC | bits) >>> 0);
  return result;
}

describe('7.1.2.1: address filters', () => {
  it('take nothing while the receiver is off', () => {
    const off = new FilterRig();
    expect(off.fromWire(frameTo(STATION))).toEqual([]);
    expect(off.good).toBe(0);
  });

  it('take the address of the EEPROM after a reset, and no other', () => {
    const card = rig();
    expect(card.fromWire(frameTo(STATION))).toMatchObject([{ queue: 0, status: 0, looped: false, vlan: -1 }]);
    expect(card.fromWire(frameTo(OTHER))).toEqual([]);
    expect(card.good).toBe(1);
  });

  it.each([1, 15, 16, 23])('take the exact address of entry %i, unicast or multicast, while it is valid', (entry) => {
    const card = rig();
    setAddress(card, entry, macOf(OTHER), 0);
    expect(card.fromWire(frameTo(OTHER))).toHaveLength(1);
    setAddress(card, entry, macOf(GROUP), 0);
    expect(card.fromWire(frameTo(GROUP))).toMatchObject([{ status: 0 }]);
    expect(card.fromWire(frameTo(OTHER))).toEqual([]);
    card.registers.write(entry < 16 ? Reg.RAH + entry * 8 : Reg.RAH2 + (entry - 16) * 8, 0);
    expect(card.fromWire(frameTo(GROUP))).toEqual([]);
  });

  it('take broadcasts by BAM', () => {
    expect(rig().fromWire(frameTo(BROADCAST))).toEqual([]);
    expect(rig(Rctl.BAM).fromWire(frameTo(BROADCAST))).toMatchObject([{ status: 0 }]);
  });

  it('take all unicast or all multicast frames where they are promiscuous, without PIF', () => {
    expect(rig(Rctl.UPE).fromWire(frameTo(OTHER))).toMatchObject([{ status: 0 }]);
    expect(rig(Rctl.UPE).fromWire(frameTo(GROUP))).toEqual([]);
    expect(rig(Rctl.MPE).fromWire(frameTo(GROUP))).toMatchObject([{ status: 0 }]);
    expect(rig(Rctl.MPE).fromWire(frameTo(OTHER))).toEqual([]);
  });

  // 47:36, 46:35, 45:34, 43:32 of the address as hardware has it: bytes 4 and 5 are 02 03.
  it.each([
    [0, 0x0302 >>> 4],
    [1, 0x0302 >>> 3],
    [2, 0x0302 >>> 2],
    [3, 0x0302],
  ])('take a hash of MTA with RCTL.MO %i, and set PIF', (mo, hash) => {
    const card = rig(mo << Rctl.MO_SHIFT);
    const bits = hash & 0xfff;
    card.set(Reg.MTA, ~(1 << (bits & 31)), bits >>> 5);
    expect(card.fromWire(frameTo(GROUP))).toEqual([]);
    card.set(Reg.MTA, 1 << (bits & 31), bits >>> 5);
    expect(card.fromWire(frameTo(GROUP))).toMatchObject([{ status: RxStatus.PIF }]);
  });

  it('take a hash of UTA for unicast frames alone, and set PIF', () => {
    const card = rig();
    for (let i = 0; i < 128; i++) card.set(Reg.UTA, 0xffff_ffff, i);
    expect(card.fromWire(frameTo(OTHER))).toMatchObject([{ status: RxStatus.PIF }]);
    expect(card.fromWire(frameTo(GROUP))).toEqual([]);
  });

  it('have the tables at their first addresses, too (8.1.3)', () => {
    const card = rig();
    card.set(Reg.MTA_ALIAS, 5, 3);
    card.set(Reg.VFTA_ALIAS, 6, 3);
    card.registers.write(Reg.RA_ALIAS + 8, 7);
    expect([card.get(Reg.MTA, 3), card.get(Reg.VFTA, 3), card.get(Reg.RAL + 8)]).toEqual([5, 6, 7]);
  });
});

describe('7.1.2.2: the VLAN filter', () => {
  it('takes tagged frames of VLANs in VFTA, and every untagged one', () => {
    const card = rig(Rctl.VFE);
    expect(card.fromWire(frameTo(STATION, [[0x8100, 100]]))).toEqual([]);
    card.set(Reg.VFTA, 1 << (100 & 31), 100 >>> 5);
    expect(card.fromWire(frameTo(STATION, [[0x8100, 0xe000 | 100]]))).toHaveLength(1);
    expect(card.fromWire(frameTo(STATION, [[0x8100, 101]]))).toEqual([]);
    expect(card.fromWire(frameTo(STATION))).toHaveLength(1);
  });

  it('compares the canonical form indicator by CFIEN', () => {
    const card = rig(Rctl.VFE | Rctl.CFIEN);
    card.set(Reg.VFTA, 1 << 5, 0);
    expect(card.fromWire(frameTo(STATION, [[0x8100, 0x1005]]))).toEqual([]);
    expect(card.fromWire(frameTo(STATION, [[0x8100, 5]]))).toHaveLength(1);
    card.set(Reg.RCTL, Rctl.RXEN | Rctl.SECRC | Rctl.VFE | Rctl.CFIEN | Rctl.CFI);
    expect(card.fromWire(frameTo(STATION, [[0x8100, 0x1005]]))).toHaveLength(1);
  });

  it('looks at the tag of VET; CTRL.VME strips it (7.4.1)', () => {
    const card = rig();
    const tagged = frameTo(STATION, [[0x8100, 0x2005]]);
    expect(card.fromWire(tagged)).toMatchObject([{ vlan: -1, status: 0, data: tagged, packetType: PacketType.VLAN }]);
    card.set(Reg.CTRL, Ctrl.VME);
    expect(card.fromWire(tagged)).toMatchObject([{ vlan: 0x2005, vlanOffset: 12, status: RxStatus.VP, data: tagged }]);
    card.set(Reg.VET, 0x88a8);
    expect(card.fromWire(tagged)).toMatchObject([{ vlan: -1, status: 0, packetType: 0 }]);
  });

  it('looks at the inner tag of a double VLAN (7.4.5)', () => {
    const card = rig(Rctl.VFE);
    card.set(Reg.CTRL_EXT, 1 << 26);
    card.set(Reg.CTRL, Ctrl.VME);
    card.set(Reg.VET, 0x88a8_8100);
    card.set(Reg.VFTA, 1 << 5, 0);
    const status = RxStatus.VP | RxStatus.VEXT;
    expect(
      card.fromWire(
        frameTo(STATION, [
          [0x88a8, 9],
          [0x8100, 5],
        ]),
      ),
    ).toMatchObject([{ vlan: 5, vlanOffset: 16, status }]);
    expect(
      card.fromWire(
        frameTo(STATION, [
          [0x88a8, 5],
          [0x8100, 9],
        ]),
      ),
    ).toEqual([]);
  });
});

describe('7.1.3: lengths', () => {
  const long = (bytes: number, tagged = false): Uint8Array =>
    ethernet(STATION, SENDER, 0x88b5, Array<number>(bytes - (tagged ? 18 : 14)).fill(1), { tags: tagged ? [[0x8100, 5]] : [] });

  it('pad a frame that comes from a tap without its padding', () => {
    const card = rig();
    const arrivals = card.fromWire(ethernet(STATION, SENDER, 0x88b5, [1, 2, 3], { pad: false }));
    expect(arrivals[0]!.data).toEqual(frameTo(STATION));
    expect(card.fromWire(long(1514))[0]!.data).toHaveLength(1514);
  });

  it('count less than a header as undersized', () => {
    const card = rig();
    card.filter.receive(new Uint8Array(13), 0, 13);
    expect(card.counts.get(Stat.RUC)).toBe(1);
  });

  it('count more than 1518 bytes, or 1522 with a tag, as oversized', () => {
    const card = rig();
    expect(card.fromWire(long(1515))).toEqual([]);
    expect(card.fromWire(long(1518, true))).toHaveLength(1);
    expect(card.fromWire(long(1519, true))).toEqual([]);
    expect(card.counts.get(Stat.ROC)).toBe(2);
  });

  it('reach RLPML by LPE, and 9728 bytes by nothing', () => {
    const card = rig(Rctl.LPE);
    card.set(Reg.RLPML, 9000);
    expect(card.fromWire(long(8996))).toHaveLength(1);
    expect(card.fromWire(long(8997))).toEqual([]);
    card.set(Reg.RCTL, Rctl.RXEN | Rctl.SECRC | Rctl.LPE | Rctl.SBP);
    expect(card.fromWire(long(9724))).toHaveLength(1);
    expect(card.fromWire(long(9725))).toEqual([]);
  });

  it('include the frame check sequence of IEEE 802.3 where SECRC does not strip it', () => {
    const card = rig();
    card.set(Reg.RCTL, Rctl.RXEN);
    // The check sequence over a frame and its check sequence is a constant.
    const [arrival] = card.fromWire(frameTo(STATION));
    expect(arrival!.data).toHaveLength(64);
    let crc = -1;
    for (const byte of arrival!.data) {
      crc ^= byte;
      for (let bit = 0; bit < 8; bit++) crc = (crc & 1) !== 0 ? (crc >>> 1) ^ 0xedb8_8320 : crc >>> 1;
    }
    expect(crc >>> 0).toBe(0xdebb_20e3);
  });
});

describe('7.1.5.2: packet types, and 7.1.11: checksums', () => {
  const received = (
    type: number,
    payload: readonly number[],
    rxcsum: number = Rxcsum.IPOFLD | Rxcsum.TUOFLD | Rxcsum.CRCOFL | Rxcsum.PCSD,
  ) => {
    const card = rig();
    card.set(Reg.RXCSUM, rxcsum);
    const [arrival] = card.fromWire(ethernet(STATION, SENDER, type, payload));
    return arrival!;
  };
  const v6 = {
    source: [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    destination: [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
  };
  const { IPCS, L4CS, UDPCS, IPE, L4E } = RxStatus;

  it.each([
    ['IPv4, TCP', 0x800, ipv4(6, tcp([1, 2, 3])), PacketType.IPV4 | PacketType.TCP, IPCS | L4CS],
    ['IPv4, UDP', 0x800, ipv4(17, udp([1, 2, 3])), PacketType.IPV4 | PacketType.UDP, IPCS | L4CS | UDPCS],
    ['IPv4 with options, ICMP', 0x800, ipv4(1, [8, 0, 0, 0], { options: [1, 1, 1, 0] }), PacketType.IPV4 | PacketType.IPV4_EX, IPCS],
    ['IPv4, a fragment', 0x800, ipv4(6, tcp([1]), { fragment: 0x2000 }), PacketType.IPV4, IPCS],
    ['IPv4, a later fragment', 0x800, ipv4(6, tcp([1]), { fragment: 9 }), PacketType.IPV4, IPCS],
    ['IPv6, TCP', 0x86dd, ipv6(6, tcp([1, 2, 3], v6)), PacketType.IPV6 | PacketType.TCP, L4CS],
    ['IPv6, UDP', 0x86dd, ipv6(17, udp([1, 2, 3], v6)), PacketType.IPV6 | PacketType.UDP, L4CS | UDPCS],
    [
      'IPv6, hop-by-hop, TCP',
      0x86dd,
      ipv6(0, [6, 0, 1, 4, 0, 0, 0, 0, ...tcp([1], v6)]),
      PacketType.IPV6 | PacketType.IPV6_EX | PacketType.TCP,
      L4CS,
    ],
    ['IPv6, a fragment', 0x86dd, ipv6(44, [6, 0, 0, 1, 0, 0, 0, 0, ...tcp([1], v6)]), PacketType.IPV6 | PacketType.IPV6_EX, 0],
    ['IPv6 in IPv4, UDP', 0x800, ipv4(41, ipv6(17, udp([1], v6))), PacketType.IPV4 | PacketType.IPV6 | PacketType.UDP, IPCS | L4CS | UDPCS],
    ['ARP', 0x806, [0, 1, 8, 0], 0, 0],
  ] as const)('%s', (_name, type, payload, packetType, status) => {
    expect(received(type, payload)).toMatchObject({ packetType, status, errors: 0 });
  });

  it('a wrong checksum is an error of its header', () => {
    const broken = (payload: readonly number[], at: number): number[] => payload.map((byte, i) => (i === at ? byte ^ 1 : byte));
    expect(received(0x800, broken(ipv4(6, tcp([1])), 10))).toMatchObject({ status: IPCS | L4CS, errors: IPE });
    expect(received(0x800, broken(ipv4(6, tcp([1])), 40))).toMatchObject({ status: IPCS | L4CS, errors: L4E });
    expect(received(0x86dd, broken(ipv6(17, udp([1], v6)), 47))).toMatchObject({ status: L4CS | UDPCS, errors: L4E });
  });

  it('a UDP checksum of 0 is none, and a UDP length that lies is an error', () => {
    const without = [0x03, 0xe8, 0x07, 0xd0, 0, 9, 0, 0, 1];
    expect(received(0x800, ipv4(17, without))).toMatchObject({ status: IPCS, errors: 0 });
    const lying = [0x03, 0xe8, 0x07, 0xd0, 0, 99, 1, 1, 1];
    expect(received(0x800, ipv4(17, lying))).toMatchObject({ status: IPCS | L4CS | UDPCS, errors: L4E });
  });

  it('SCTP has CRC32c, by CRCOFL (RFC 9260, appendix A)', () => {
    // The sum by its definition, bit by bit; the model has tables.
    const packet = [0x0b, 0x59, 0x0b, 0x59, 0, 0, 0, 14, 0, 0, 0, 0, 1, 2, 3, 4];
    let crc = -1;
    for (const byte of packet) {
      crc ^= byte;
      for (let bit = 0; bit < 8; bit++) crc = (crc & 1) !== 0 ? (crc >>> 1) ^ 0x82f6_3b78 : crc >>> 1;
    }
    const good = packet.map((byte, i) => (i >= 8 && i < 12 ? (~crc >>> (8 * (i - 8))) & 0xff : byte));
    expect(received(0x800, ipv4(132, good))).toMatchObject({
      packetType: PacketType.IPV4 | PacketType.SCTP,
      status: IPCS | L4CS,
      errors: 0,
    });
    expect(received(0x800, ipv4(132, packet))).toMatchObject({ status: IPCS | L4CS, errors: L4E });
    expect(received(0x800, ipv4(132, packet), Rxcsum.PCSD)).toMatchObject({ status: 0, errors: 0 });
  });

  it('without PCSD, the hash is the packet checksum and the identification of IP', () => {
    const arrival = received(0x800, ipv4(17, udp([1]), { id: 0x1234 }), 14);
    expect(arrival.rssHash & 0xffff).toBe(0x1234);
    let sum = 0;
    for (let i = 14; i < arrival.data.length; i += 2) sum += (arrival.data[i]! << 8) | arrival.data[i + 1]!;
    expect(arrival.rssHash >>> 16).toBe((sum & 0xffff) + (sum >>> 16));
  });

  it('7.1.10: headers end where PSRTYPE says, without the stripped tag', () => {
    const card = rig();
    const segment = ipv4(6, tcp([1, 2, 3]));
    const split = (psrtype: number, payload: readonly number[] = segment, type = 0x800): number => {
      card.set(Reg.PSRTYPE, psrtype);
      return card.fromWire(ethernet(STATION, SENDER, type, payload, { tags: [[0x8100, 5]] }))[0]!.headerLength;
    };
    expect(split(Psrtype.IPV4_TCP)).toBe(58);
    expect(split(Psrtype.IPV4_UDP)).toBe(0);
    expect(split(Psrtype.IPV4, ipv4(1, [8, 0, 0, 0]))).toBe(38);
    expect(split(Psrtype.IPV6_UDP, ipv6(17, udp([1], v6)), 0x86dd)).toBe(66);
    expect(split(Psrtype.L2, [1, 2], 0x88b5)).toBe(18);
    card.set(Reg.CTRL, Ctrl.VME);
    expect(split(Psrtype.IPV4_TCP)).toBe(54);
  });
});

describe('7.1.1.7: the hash', () => {
  const KEY = '6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa';
  function hashing(mode: number, functions: number): FilterRig {
    const card = rig();
    const key = Uint8Array.from(KEY.match(/../g)!.map((byte) => Number.parseInt(byte, 16)));
    const words = new Uint32Array(key.buffer);
    words.forEach((word, i) => {
      card.set(Reg.RSSRK, word, i);
    });
    for (let i = 0; i < 32; i++) card.set(Reg.RETA, 0x0f0e_0d00 + i * 0x0001_0101, i);
    card.set(Reg.RXCSUM, Rxcsum.PCSD);
    card.set(Reg.MRQC, functions | mode);
    return card;
  }
  const ends = { source: [66, 9, 149, 187], destination: [161, 142, 100, 80], from: 2794, to: 1766 };
  const packet = ipv4(6, tcp([1], ends), ends);
  const frame = ethernet(STATION, SENDER, 0x800, packet);

  it('of TCP over IPv4 selects the queue by RETA', () => {
    const card = hashing(Mrqc.RSS, Mrqc.TCP_IPV4 | Mrqc.IPV4);
    const entry = 0x51ccc178 & 127;
    const queue = (card.get(Reg.RETA, entry >>> 2) >>> ((entry & 3) * 8)) & 0xf;
    const [arrival] = card.fromWire(frame);
    expect(arrival!.rssHash >>> 0).toBe(0x51ccc178);
    expect(arrival).toMatchObject({ queue, rssType: RssType.TCP_IPV4 });
  });

  it('takes the next function that MRQC has, or the default queue', () => {
    const [byAddress] = hashing(Mrqc.RSS, Mrqc.IPV4).fromWire(frame);
    expect(byAddress!.rssHash >>> 0).toBe(0x323e8fc2);
    expect(byAddress!.rssType).toBe(RssType.IPV4);
    expect(hashing(Mrqc.RSS | (5 << 3), Mrqc.IPV6).fromWire(frame)).toMatchObject([{ queue: 5, rssType: 0, rssHash: 0 }]);
    expect(hashing(Mrqc.NONE | (6 << 3), Mrqc.IPV4).fromWire(frame)).toMatchObject([{ queue: 6, rssType: 0 }]);
  });

  it('of IPv6 takes the home address as the source where a function with Ex is on', () => {
    const home = [0x3f, 0xfe, 0x25, 1, 2, 0, 0x1f, 0xff, 0, 0, 0, 0, 0, 0, 0, 7];
    const destination = [0x3f, 0xfe, 0x25, 1, 2, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1];
    const v6 = { source: home, destination, from: 2794, to: 1766 };
    const options = [6, 2, 1, 2, 0, 0, 0xc9, 16, ...home];
    const moved = ethernet(STATION, SENDER, 0x86dd, ipv6(60, [...options, ...tcp([1], v6)], destination, destination));
    const [arrival] = hashing(Mrqc.RSS, Mrqc.TCP_IPV6_EX | Mrqc.IPV6).fromWire(moved);
    expect(arrival!.rssType).toBe(RssType.TCP_IPV6_EX);
    expect(arrival!.rssHash >>> 0).toBe(0x40207d3d);
  });
});

it('house: a frame that arrives while another one is being delivered leaves that one as it is', () => {
  const card = rig(Rctl.BAM);
  card.set(Reg.RXCSUM, Rxcsum.PCSD);
  let nested = 0;
  card.onArrival = () => {
    if (nested++ === 0) card.fromWire(frameTo(BROADCAST));
  };
  const frame = ethernet(STATION, SENDER, 0x800, ipv4(6, tcp([9])));
  card.fromWire(frame);
  expect(card.arrivals.map(({ data }) => data)).toEqual([frame, frameTo(BROADCAST)]);
  expect(card.good).toBe(2);
});

it('8.19: a frame that no queue takes is no good packet', () => {
  const card = rig();
  card.full = 1;
  expect(card.fromWire(frameTo(STATION))).toEqual([]);
  expect(card.good).toBe(0);
});

describe('7.1.2: filters that choose a queue', () => {
  const message = [0x2a, 2, 0, 44, ...Array<number>(40).fill(0)];
  const swapped = (port: number): number => ((port & 0xff) << 8) | (port >>> 8);

  it('by EtherType: queue, and its number in the packet type', () => {
    const card = rig();
    card.set(Reg.ETQF, (Etqf.FILTER_ENABLE | Etqf.QUEUE_ENABLE | (5 << Etqf.QUEUE_SHIFT) | 0x88b5) >>> 0, 6);
    expect(card.fromWire(frameTo(STATION))).toMatchObject([{ queue: 5, packetType: 0x806 }]);
    card.set(Reg.ETQF, (Etqf.FILTER_ENABLE | 0x88b5) >>> 0, 6);
    expect(card.fromWire(frameTo(STATION))).toMatchObject([{ queue: 0, packetType: 0x806 }]);
  });

  it('by SYN, then by five values in the order of their priority', () => {
    const card = rig();
    const segment = (flags: number): Uint8Array => ethernet(STATION, SENDER, 0x800, ipv4(6, tcp([1], { flags })));
    const filter = (index: number, queue: number, priority: number, port: number): void => {
      card.set(Reg.SAQF, 0x0100_000a, index);
      card.set(Reg.IMIR, ((priority << Imir.PRIORITY_SHIFT) | swapped(port)) >>> 0, index);
      const masks = Ftqf.MASK_DESTINATION | Ftqf.MASK_SOURCE_PORT;
      card.set(Reg.FTQF, (masks | Ftqf.QUEUE_ENABLE | (queue << Ftqf.QUEUE_SHIFT) | 6) >>> 0, index);
    };
    filter(1, 3, 1, 2000);
    filter(2, 9, 2, 2000);
    filter(3, 4, 7, 2001);
    expect(card.fromWire(segment(0x10))).toMatchObject([{ queue: 9 }]);
    card.set(Reg.SYNQF, Synqf.QUEUE_ENABLE | (7 << Synqf.QUEUE_SHIFT));
    expect(card.fromWire(segment(0x02))).toMatchObject([{ queue: 7 }]);
    expect(card.fromWire(segment(0x10))).toMatchObject([{ queue: 9 }]);
  });

  it('mark time messages, whose arrival is stamped once until software reads it (7.9)', () => {
    const card = rig();
    const layer2 = ethernet(STATION, SENDER, 0x88f7, message);
    card.set(Reg.ETQF, (Etqf.FILTER_ENABLE | Etqf.TIME_STAMP_1588 | 0x88f7) >>> 0, 3);
    expect(card.fromWire(layer2)).toMatchObject([{ status: 0 }]);
    card.set(Reg.TSYNCRXCTL, Tsyncctl.EN);
    expect(card.fromWire(layer2)).toMatchObject([{ status: RxStatus.TS }]);
    expect(card.fromWire(layer2)).toMatchObject([{ status: 0 }]);
    card.set(Reg.TSYNCRXCTL, Tsyncctl.EN);
    card.set(Reg.IMIR, swapped(319), 3);
    card.set(Reg.SPQF, swapped(319), 3);
    card.set(Reg.FTQF, (Ftqf.TIME_STAMP_1588 | Ftqf.MASK_SOURCE | Ftqf.MASK_DESTINATION | 17) >>> 0, 3);
    const over = (port: number): Uint8Array => ethernet(STATION, SENDER, 0x800, ipv4(17, udp(message, { from: 319, to: port })));
    card.fromWire(over(320));
    card.fromWire(over(319));
    expect(card.stamped).toEqual([0x2a, 0x2a]);
  });
});
