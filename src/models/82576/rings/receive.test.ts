import { describe, expect, test } from 'vitest';
import { BUFFERS, pattern, RingsRig, RX_RING } from '../../../../tests/kit/82576/rings-rig.ts';
import { Ctrl, Fcrtl, Icr, ofQueue, Reg, Srrctl, Xdctl } from '../../../abi/82576.ts';
import { PacketType, RxInfo, RxStatus } from '../../../abi/82576-descriptors.ts';
import { Stat } from '../../../abi/82576-statistics.ts';

const HEADERS = 0x18_0000;
const DONE = RxStatus.DD | RxStatus.EOP;

describe('7.1.5: advanced receive descriptors', () => {
  test('7.1.5.2: a frame of one buffer, and all that its descriptor says', () => {
    const rig = new RingsRig();
    rig.startReceive();
    const frame = pattern(100);
    const taken = rig.receive(frame, 1, {
      packetType: PacketType.IPV4 | PacketType.TCP,
      rssType: 1,
      rssHash: 0xdead_beef,
      status: RxStatus.IPCS | RxStatus.L4CS,
      errors: RxStatus.L4E,
    });
    expect(taken).toBe(1);
    expect(rig.load(BUFFERS, 100)).toEqual(frame);
    const status = (DONE | RxStatus.IPCS | RxStatus.L4CS | RxStatus.L4E) >>> 0;
    expect(rig.words(RX_RING, 0)).toEqual([(0x11 << RxInfo.PACKET_TYPE_SHIFT) | 1, 0xdead_beef, status, 100]);
    expect(rig.read(Reg.RDH)).toBe(1);
    expect(rig.interrupts).toEqual(['rx 0']);
  });

  test('7.4.3: a tag that is stripped stands in the descriptor, and not in memory', () => {
    const rig = new RingsRig();
    rig.startReceive();
    const frame = pattern(100);
    rig.receive(frame, 1, { vlan: 0x2123, vlanOffset: 12, status: RxStatus.VP });
    expect(rig.load(BUFFERS, 96)).toEqual(Uint8Array.of(...frame.subarray(0, 12), ...frame.subarray(16)));
    expect(rig.words(RX_RING, 0)[3]).toBe(0x2123_0060);
  });

  test('7.1.5: a frame of several buffers; only the last descriptor says what it is', () => {
    const rig = new RingsRig();
    rig.startReceive(0, 8, { size: 1024 });
    const frame = pattern(2500);
    rig.receive(frame, 1, { rssHash: 5, packetType: 1 });
    expect(rig.load(BUFFERS, 2500)).toEqual(frame);
    expect([0, 1, 2].map((i) => rig.words(RX_RING, i))).toEqual([
      [0, 0, RxStatus.DD, 1024],
      [0, 0, RxStatus.DD, 1024],
      [16, 5, DONE, 452],
    ]);
    expect(rig.interrupts).toEqual(['rx 0']);
  });

  test('8.10.2: without SRRCTL.BSIZEPACKET the size is RCTL.BSIZE', () => {
    const rig = new RingsRig();
    rig.startReceive(0, 8, { size: 512 });
    rig.write(Reg.RCTL, rig.read(Reg.RCTL) | (2 << 16));
    rig.receive(pattern(600));
    expect([0, 1].map((i) => rig.words(RX_RING, i)[3])).toEqual([512, 88]);
  });

  test('7.1.4: the legacy format keeps the address, and has status and errors of a byte each', () => {
    const rig = new RingsRig();
    rig.startReceive(0, 8, { srrctl: Srrctl.LEGACY });
    const status = RxStatus.IPCS | RxStatus.L4CS | RxStatus.VP;
    rig.receive(pattern(64), 1, { status, errors: RxStatus.IPE, rssHash: 0x1234_5678, vlan: 0x77, vlanOffset: 12 });
    expect(rig.words(RX_RING, 0)).toEqual([BUFFERS, 0, 0x1234_003c, 0x77_4000 + ((DONE | status) & 0xff)]);
  });

  const split = (mode: number, header: number, length: number) => {
    const rig = new RingsRig();
    // Header buffers of 128 bytes.
    rig.startReceive(0, 8, { srrctl: mode | (2 << Srrctl.BSIZEHEADER_SHIFT), header: HEADERS });
    const frame = pattern(length);
    rig.receive(frame, 1, { headerLength: header });
    const [info, , status, bytes] = rig.words(RX_RING, 0) as [number, number, number, number];
    const inHeader = rig.load(HEADERS, 1024);
    const inPacket = rig.load(BUFFERS, 2048);
    const stored = (at: Uint8Array, from: number, size: number) => expect(at.subarray(0, size)).toEqual(frame.subarray(from, from + size));
    return {
      facts: [info >>> 31, (status & RxStatus.HBO) !== 0 ? 1 : 0, bytes, (info & RxInfo.HDR_LEN) >>> RxInfo.HDR_LEN_SHIFT],
      header: (size: number) => {
        stored(inHeader, 0, size);
        expect(inHeader.subarray(size).every((byte) => byte === 0)).toBe(true);
      },
      packet: (from: number, size: number) => {
        stored(inPacket, from, size);
        expect(inPacket.subarray(size).every((byte) => byte === 0)).toBe(true);
      },
    };
  };

  // SPH, HBO, PKT_LEN, HDR_LEN; bytes in the header buffer; where the packet buffer begins.
  test.each([
    ['split, header unknown', Srrctl.ADV_SPLIT, 0, 300, [0, 0, 300, 0], 0, 0],
    ['split', Srrctl.ADV_SPLIT, 54, 300, [1, 0, 246, 54], 54, 54],
    ['split, header too long', Srrctl.ADV_SPLIT, 200, 300, [1, 1, 300, 200], 0, 0],
    ['always, short', Srrctl.ADV_SPLIT_ALWAYS, 54, 100, [0, 0, 0, 100], 100, 100],
    ['always, header unknown', Srrctl.ADV_SPLIT_ALWAYS, 0, 300, [0, 0, 172, 128], 128, 128],
    ['always', Srrctl.ADV_SPLIT_ALWAYS, 54, 300, [1, 0, 246, 54], 54, 54],
    ['always, header too long', Srrctl.ADV_SPLIT_ALWAYS, 200, 300, [1, 1, 172, 200], 128, 128],
    ['replication', Srrctl.ADV_REPLICATION, 54, 300, [1, 0, 300, 54], 128, 0],
    ['replication of large packets, short', Srrctl.ADV_REPLICATION_LARGE, 54, 100, [1, 0, 0, 100], 100, 100],
    ['replication of large packets', Srrctl.ADV_REPLICATION_LARGE, 54, 300, [1, 0, 300, 54], 128, 0],
  ])('7.1.10: header and payload: %s', (_, mode, header, length, facts, inHeader, from) => {
    const seen = split(mode, header, length);
    expect(seen.facts).toEqual(facts);
    seen.header(inHeader);
    seen.packet(from, length - from);
  });
});

describe('7.1.8: receive descriptors, and frames without', () => {
  test('7.1.8: a frame waits in the packet buffer for a descriptor, in order, and is counted', () => {
    const rig = new RingsRig();
    rig.startReceive(0, 8);
    rig.write(Reg.RDT, 0);
    for (let i = 0; i < 3; i++) expect(rig.receive(pattern(200, i))).toBe(1);
    expect(rig.counted(Stat.RNBC)).toBe(3);
    expect(rig.interrupts).toEqual([]);
    rig.write(Reg.RDT, 2);
    rig.write(Reg.RDT, 7);
    for (let i = 0; i < 3; i++) expect(rig.load(BUFFERS + i * 2048, 200)).toEqual(pattern(200, i));
    expect(rig.interrupts).toEqual(['rx 0', 'rx 0']);
  });

  test.each(['SRRCTL.Drop_En', 'QDE'])('8.10.2: a queue with %s drops, and RQDPC counts until it is read', (way) => {
    const rig = new RingsRig();
    rig.startReceive(5, 8, { srrctl: way === 'QDE' ? Srrctl.ADV_ONE_BUFFER : (Srrctl.ADV_ONE_BUFFER | Srrctl.DROP_EN) >>> 0 });
    if (way === 'QDE') rig.write(Reg.QDE, 1 << 5);
    rig.write(ofQueue(Reg.RDT, 5), 0);
    expect(rig.receive(pattern(64), 1 << 5)).toBe(0);
    expect(rig.read(ofQueue(Reg.RQDPC, 5))).toBe(1);
    expect(rig.read(ofQueue(Reg.RQDPC, 5))).toBe(0);
  });

  test('8.3.1: a full packet buffer misses frames: MPC, and RXO', () => {
    const rig = new RingsRig();
    rig.startReceive(0, 8);
    rig.write(Reg.RDT, 0);
    rig.write(Reg.RXPBS, 4);
    let taken = 0;
    for (let i = 0; i < 40; i++) taken += rig.receive(pattern(1000, i));
    expect(taken).toBe(4);
    expect(rig.counted(Stat.MPC)).toBe(36);
    expect(rig.interrupts).toContain(`icr 0x${Icr.RXO.toString(16)}`);
  });

  test('house: of a virtualized card no queue takes the whole packet buffer', () => {
    const rig = new RingsRig();
    rig.virtualized = true;
    rig.write(Reg.VFRE, 0xff);
    rig.startReceive(0, 8);
    rig.startReceive(1, 8, { ring: RX_RING + 0x1000, at: BUFFERS + 0x10_0000 });
    rig.write(ofQueue(Reg.RDT, 0), 0);
    rig.write(ofQueue(Reg.RDT, 1), 0);
    for (let i = 0; i < 200; i++) rig.receive(pattern(1000), 1);
    expect(rig.receive(pattern(1000), 2)).toBe(2);
  });

  test('8.10.2: the threshold of free descriptors interrupts when it is reached', () => {
    const rig = new RingsRig();
    rig.startReceive(0, 64, { srrctl: Srrctl.ADV_ONE_BUFFER | (1 << Srrctl.RDMTS_SHIFT) });
    for (let i = 0; i < 60; i++) rig.receive(pattern(64));
    expect(rig.interrupts.filter((one) => one === `icr 0x${Icr.RXDMT0.toString(16)}`)).toHaveLength(1);
    expect(rig.counted(Stat.RXDMTC)).toBe(1);
  });

  test('8.10.9: RDT of a queue that is not enabled does not change', () => {
    const rig = new RingsRig();
    rig.startReceive(4, 8);
    rig.write(ofQueue(Reg.RXDCTL, 4), 0);
    rig.write(ofQueue(Reg.RDT, 4), 3);
    expect(rig.read(ofQueue(Reg.RDT, 4))).toBe(7);
    expect(rig.receive(pattern(64), 1 << 4)).toBe(0);
    rig.write(ofQueue(Reg.RXDCTL, 4), Xdctl.ENABLE);
    rig.write(0x2818, 5);
    expect(rig.read(Reg.RDT)).toBe(5);
  });

  test('7.1.2.2: a frame goes to several queues', () => {
    const rig = new RingsRig();
    rig.startReceive(0, 8);
    rig.startReceive(9, 8, { ring: RX_RING + 0x1000, at: BUFFERS + 0x10_0000 });
    expect(rig.receive(pattern(64), 0x201)).toBe(0x201);
    expect(rig.load(BUFFERS + 0x10_0000, 64)).toEqual(pattern(64));
    expect(rig.interrupts).toEqual(['rx 0', 'rx 9']);
  });

  test('house: a frame that the whole ring cannot hold is dropped, and does not block the queue', () => {
    const rig = new RingsRig();
    rig.startReceive(0, 8, { size: 1024 });
    expect(rig.receive(pattern(8000))).toBe(0);
    expect(rig.receive(pattern(7000))).toBe(1);
  });

  test('house: a buffer that is nowhere loses its frame, as a posted write does; a ring that is nowhere stops', () => {
    const rig = new RingsRig();
    rig.startReceive(0, 8);
    rig.put(RX_RING, 0, [0, 0x8000_0000, 0, 0]);
    expect(rig.receive(pattern(64))).toBe(1);
    expect(rig.words(RX_RING, 0)[2]).toBe(DONE);
    rig.write(Reg.RDBAH, 1);
    expect(rig.receive(pattern(64))).toBe(0);
    expect(rig.read(Reg.RQDPC)).toBe(1);
  });

  test('house: frames that wait move to another card', () => {
    const rig = new RingsRig();
    rig.startReceive(0, 8);
    rig.rings.halt();
    for (let i = 0; i < 3; i++) rig.receive(pattern(300, i), 1, { rssHash: 1 - i, errors: i << 30 });
    const other = new RingsRig();
    other.host.memory.set(rig.host.memory);
    other.registers.words.set(rig.registers.words);
    other.rings.load(-1, structuredClone(rig.rings.save(-1)));
    other.rings.wake();
    for (let i = 0; i < 3; i++) {
      expect(other.load(BUFFERS + i * 2048, 300)).toEqual(pattern(300, i));
      expect(other.words(RX_RING, i).slice(1, 3)).toEqual([(1 - i) >>> 0, (DONE | (i << 30)) >>> 0]);
    }
  });
});

describe('8.5: flow control', () => {
  const PAUSE = [0x01, 0x80, 0xc2, 0, 0, 1, 2, 0, 0, 0, 0, 9, 0x88, 0x08, 0, 1];

  function full(): RingsRig {
    const rig = new RingsRig();
    rig.startReceive(0, 64);
    rig.write(Reg.RDT, 0);
    rig.write(Reg.CTRL, Ctrl.TFCE | Ctrl.RFCE);
    rig.write(Reg.RAL, 0x0000_0002);
    rig.write(Reg.RAH, 0x0900);
    rig.write(Reg.FCTTV, 0x680);
    rig.write(Reg.FCRTH0, 8192);
    rig.write(Reg.FCRTL0, (4096 | Fcrtl.XONE) >>> 0);
    return rig;
  }

  test('8.5.6: at the high mark the partner is asked to pause, at the low one to go on', () => {
    const rig = full();
    for (let i = 0; i < 20; i++) rig.receive(pattern(1000));
    expect(rig.controls.map((frame) => [...frame.subarray(0, 18)])).toEqual([[...PAUSE, 0x06, 0x80]]);
    expect(rig.controls[0]).toHaveLength(60);
    rig.write(Reg.RDT, 63);
    expect(rig.controls.map((frame) => [...frame.subarray(16, 18)])).toEqual([
      [0x06, 0x80],
      [0, 0],
    ]);
    expect([Stat.XOFFTXC, Stat.XONTXC].map((one) => rig.counted(one))).toEqual([1, 1]);
  });

  test('8.5.7: while the buffer stays full, the pause is asked for again before it ends', () => {
    const rig = full();
    rig.write(Reg.FCRTV, 0x340);
    for (let i = 0; i < 20; i++) rig.receive(pattern(1000));
    rig.host.clock.advance((0x340 * 512 * 3) / 1e6 + 0.001);
    expect(rig.counted(Stat.XOFFTXC)).toBe(4);
    rig.write(Reg.RDT, 63);
    expect(rig.host.clock.pendingTimers).toBe(0);
  });

  test('3.5.5.1: a pause of the partner holds the transmit queues for its time, and a time of 0 ends it', () => {
    const rig = full();
    rig.startTransmit();
    const pause = (time: number) => rig.rings.takesControl(Uint8Array.of(...PAUSE, time >>> 8, time, ...new Uint8Array(42)), 0, 60);
    expect(pause(1000)).toBe(false);
    rig.putData(0, BUFFERS, 64);
    rig.putData(1, BUFFERS, 64);
    rig.ring(1);
    expect(rig.sent).toEqual([]);
    rig.host.clock.advance(1000 * 512e-6 - 0.001);
    expect(rig.sent).toEqual([]);
    rig.host.clock.advance(0.002);
    expect(rig.sent).toHaveLength(1);
    pause(0xffff);
    rig.ring(2);
    pause(0);
    expect(rig.sent).toHaveLength(2);
    expect([Stat.XOFFRXC, Stat.XONRXC].map((one) => rig.counted(one))).toEqual([2, 1]);
  });

  test('8.2.1: without CTRL.RFCE no frame is a control frame: not one of zeroes, as FCAL and FCT are', () => {
    const rig = full();
    rig.write(Reg.CTRL, 0);
    for (const register of [Reg.FCAL, Reg.FCAH, Reg.FCT]) rig.write(register, 0);
    expect(rig.rings.takesControl(new Uint8Array(64), 0, 64)).toBe(false);
    expect(rig.counted(Stat.FCRUC)).toBe(0);
    rig.write(Reg.CTRL, Ctrl.RFCE);
    expect(rig.rings.takesControl(new Uint8Array(64), 0, 64)).toBe(true);
  });

  test('8.2.1: without CTRL.RFCE a pause is counted, and holds nothing', () => {
    const rig = full();
    rig.write(Reg.CTRL, 0);
    rig.startTransmit();
    rig.rings.takesControl(Uint8Array.of(...PAUSE, 0xff, 0xff, ...new Uint8Array(42)), 0, 60);
    rig.putData(0, BUFFERS, 64);
    rig.ring(1);
    expect(rig.sent).toHaveLength(1);
    expect(rig.counted(Stat.XOFFRXC)).toBe(1);
  });
});

describe('4.2.2: rings of a virtual function', () => {
  test('4.2.2.1: its reset leaves no frame behind, and other functions theirs', () => {
    const rig = new RingsRig();
    rig.startReceive(2, 8);
    rig.startReceive(3, 8, { ring: RX_RING + 0x1000, at: BUFFERS + 0x10_0000 });
    rig.write(ofQueue(Reg.RDT, 2), 0);
    rig.receive(pattern(64), 1 << 2);
    // The card has reset the registers when its rooms hear of it.
    for (const register of [Reg.RDBAL, Reg.RDLEN, Reg.RDT, Reg.RXDCTL]) rig.registers.words[ofQueue(register, 2) >>> 2] = 0;
    rig.rings.reset({ kind: 'vf', vf: 2 });
    expect(rig.receive(pattern(64), 1 << 2)).toBe(0);
    rig.startReceive(2, 8);
    expect(rig.read(ofQueue(Reg.RDH, 2))).toBe(0);
    expect(rig.receive(pattern(64), 1 << 3)).toBe(8);
  });

  test('house: a halt of one function holds its queues alone, also when the others go on', () => {
    const rig = new RingsRig();
    rig.startTransmit(1, 8);
    rig.startTransmit(2, 8, 0x3000);
    rig.putData(0, BUFFERS, 64);
    rig.putData(0, BUFFERS, 64, undefined, 0, 0x3000);
    rig.rings.halt(1);
    rig.rings.halt();
    rig.ring(1, 1);
    rig.ring(1, 2);
    rig.rings.goOn();
    expect(rig.sent.map(({ queue }) => queue)).toEqual([2]);
    rig.rings.goOn(1);
    expect(rig.sent.map(({ queue }) => queue)).toEqual([2, 1]);
  });

  test('house: saved state that lies is refused with EINVAL', () => {
    const rig = new RingsRig();
    rig.startReceive(0, 8);
    rig.rings.halt();
    rig.receive(pattern(64), 1, { vlan: 5, vlanOffset: 12 });
    const state = () => structuredClone(rig.rings.save(-1)) as { receive: { frames: Record<string, unknown>[] }[]; transmit: unknown[] };
    const lies: ((saved: ReturnType<typeof state>) => void)[] = [
      (saved) => (saved.receive[0]!.frames[0]!.vlanOffset = 4000),
      (saved) => (saved.receive[0]!.frames[0]!.bytes = [1, 2]),
      (saved) => (saved.receive[0]!.frames[0]!.rssHash = 'x'),
      (saved) => (saved.transmit[0] = { queue: 99, state: null }),
      (saved) => Object.assign(saved, { receive: null }),
    ];
    for (const lie of lies) {
      const saved = state();
      lie(saved);
      expect(() => new RingsRig().rings.load(-1, saved)).toThrow(/the state of the rings of an 82576/);
    }
  });
});
