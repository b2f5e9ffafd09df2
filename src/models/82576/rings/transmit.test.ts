import { describe, expect, test } from 'vitest';
import { BUFFERS, pattern, RingsRig, TX_RING } from '../../../../tests/kit/82576/rings-rig.ts';
import { Dtxctl, Icr, ofQueue, Reg, Tctl, Tdwbal, Xdctl } from '../../../abi/82576.ts';
import { TxCommand, TxContext, TxLegacy, TxStatus } from '../../../abi/82576-descriptors.ts';
import { Stat } from '../../../abi/82576-statistics.ts';
import { frameCheckSequence } from '../filter/crc.ts';

const EOP = TxCommand.EOP;
const RS = TxCommand.RS;

describe('7.2.2: transmit descriptors', () => {
  test('7.2.2.3: a packet of one advanced descriptor leaves as it is, and is written back with RS', () => {
    const rig = new RingsRig();
    rig.startTransmit();
    const frame = pattern(100);
    rig.store(BUFFERS, frame);
    rig.putData(0, BUFFERS, 100, EOP | RS);
    rig.ring(1);
    expect(rig.sent).toEqual([{ queue: 0, vlan: -1, bytes: frame }]);
    expect(rig.read(Reg.TDH)).toBe(1);
    expect(rig.words(TX_RING, 0)[3]! & TxStatus.DD).toBe(1);
    expect(rig.interrupts).toEqual(['tx 0']);
  });

  test('7.2.2.3: without RS nothing is written back, and nothing interrupts', () => {
    const rig = new RingsRig();
    rig.startTransmit();
    rig.putData(0, BUFFERS, 100);
    const before = rig.words(TX_RING, 0);
    rig.ring(1);
    expect(rig.sent).toHaveLength(1);
    expect(rig.words(TX_RING, 0)).toEqual(before);
    expect(rig.interrupts).toEqual([]);
  });

  test('7.2.1: a packet of several descriptors is one frame, over two doorbells and the end of the ring', () => {
    const rig = new RingsRig();
    rig.startTransmit(0, 8);
    const frame = pattern(300);
    rig.store(BUFFERS, frame);
    for (let i = 0; i < 7; i++) rig.putData(i, BUFFERS, 64);
    rig.ring(7);
    rig.putData(7, BUFFERS, 100, 0);
    rig.ring(0);
    expect(rig.sent).toHaveLength(7);
    expect(rig.read(Reg.TDH)).toBe(0);
    rig.putData(0, BUFFERS + 100, 0, 0);
    rig.putData(1, BUFFERS + 100, 200, EOP | RS);
    rig.ring(2);
    expect(rig.sent[7]!.bytes).toEqual(frame);
  });

  test('7.2.2.1: a legacy descriptor inserts a checksum from CSS on at CSO, and a tag', () => {
    const rig = new RingsRig();
    rig.startTransmit();
    const frame = pattern(64);
    frame[20] = 0;
    frame[21] = 0;
    rig.store(BUFFERS, frame);
    const command = TxLegacy.EOP | TxLegacy.IFCS | TxLegacy.IC | TxLegacy.RS | TxLegacy.VLE | (20 << TxLegacy.CSO_SHIFT) | 64;
    rig.put(TX_RING, 0, [BUFFERS, 0, command, (0x2005 << TxLegacy.VLAN_SHIFT) | (14 << TxLegacy.CSS_SHIFT)]);
    rig.ring(1);
    const { bytes, vlan } = rig.sent[0]!;
    expect(vlan).toBe(0x2005);
    expect(sum(bytes.subarray(14))).toBe(0xffff);
    expect(rig.words(TX_RING, 0)[3]).toBe((0x2005 << 16) | (14 << 8) | 1);
  });

  test('7.2.2.4: the tag of VLE comes from the context that IDX names', () => {
    const rig = new RingsRig();
    rig.startTransmit();
    rig.put(TX_RING, 0, [0x0123_0000, 0, TxCommand.DEXT | TxCommand.DTYP_CONTEXT, 0]);
    rig.put(TX_RING, 1, [0x0456_0000, 0, TxCommand.DEXT | TxCommand.DTYP_CONTEXT, 1 << TxContext.IDX_SHIFT]);
    rig.putData(2, BUFFERS, 64, EOP | TxCommand.VLE);
    rig.putData(3, BUFFERS, 64, EOP | TxCommand.VLE, 1 << TxStatus.IDX_SHIFT);
    rig.ring(4);
    expect(rig.sent.map(({ vlan }) => vlan)).toEqual([0x123, 0x456]);
  });

  test('8.12.1: TCTL.PSP pads short frames with zeroes to 64 bytes with their check sequence', () => {
    const rig = new RingsRig();
    rig.startTransmit();
    rig.store(BUFFERS, pattern(200));
    rig.putData(0, BUFFERS, 120);
    rig.putData(1, BUFFERS, 20);
    rig.ring(2);
    expect(rig.sent[1]!.bytes).toEqual(Uint8Array.of(...pattern(20), ...new Uint8Array(40)));
    rig.write(Reg.TCTL, Tctl.EN);
    rig.putData(2, BUFFERS, 20);
    rig.ring(3);
    expect(rig.sent[2]!.bytes).toHaveLength(20);
  });

  test('7.2.2.3: without IFCS the frame brings its own check sequence, and a wrong one is not sent', () => {
    const rig = new RingsRig();
    rig.startTransmit();
    const frame = pattern(104);
    new DataView(frame.buffer).setUint32(100, frameCheckSequence(frame, 0, 100), true);
    rig.store(BUFFERS, frame);
    const command = (EOP | TxCommand.DEXT | TxCommand.DTYP_DATA | 104) >>> 0;
    rig.put(TX_RING, 0, [BUFFERS, 0, command, 0]);
    rig.put(TX_RING, 1, [BUFFERS + 1, 0, command, 0]);
    rig.ring(2);
    expect(rig.sent.map(({ bytes }) => bytes)).toEqual([frame.slice(0, 100)]);
    expect(rig.counted(Stat.HTDPMC)).toBe(1);
  });

  test('7.2.2.3: the time of a frame is asked for by MAC.1588 alone', () => {
    const rig = new RingsRig();
    rig.startTransmit();
    rig.putData(0, BUFFERS, 64, EOP | TxCommand.MAC_TSTAMP);
    rig.putData(1, BUFFERS, 64);
    rig.ring(2);
    expect(rig.stamped).toEqual([0]);
  });
});

describe('7.2.3: the transmit ring', () => {
  test('7.2.3.5: TDWBAL.HEAD_WB_EN writes the head to memory, and no descriptor', () => {
    const rig = new RingsRig();
    rig.write(Reg.TDWBAL, 0x3000 | Tdwbal.HEAD_WB_EN);
    rig.startTransmit();
    rig.putData(0, BUFFERS, 64, EOP);
    rig.putData(1, BUFFERS, 64, EOP | RS);
    rig.ring(2);
    expect(rig.view.getUint32(0x3000, true)).toBe(2);
    expect(rig.words(TX_RING, 1)[3]! & TxStatus.DD).toBe(0);
    expect(rig.interrupts).toEqual(['tx 0']);
  });

  test('8.12.15: a queue without ENABLE, and a port without TCTL.EN, send nothing until they have it', () => {
    const rig = new RingsRig();
    rig.startTransmit(3);
    rig.write(Reg.TCTL, 0);
    rig.write(ofQueue(Reg.TXDCTL, 3), 0);
    rig.putData(0, BUFFERS, 64);
    rig.ring(1, 3);
    rig.write(ofQueue(Reg.TXDCTL, 3), Xdctl.ENABLE);
    expect(rig.sent).toEqual([]);
    rig.write(Reg.TCTL, Tctl.EN);
    expect(rig.sent).toHaveLength(1);
  });

  test('8.12.14: a tail beyond the ring, and a ring of no bytes, name no descriptor', () => {
    const rig = new RingsRig();
    rig.startTransmit(0, 8);
    rig.ring(8);
    rig.ring(0xffff);
    rig.write(Reg.TDLEN, 0);
    rig.ring(1);
    expect(rig.sent).toEqual([]);
    expect(rig.read(Reg.TDH)).toBe(0);
  });

  test('7.2.1: queues 0 to 3 have a second address', () => {
    const rig = new RingsRig();
    rig.startTransmit(2);
    rig.putData(0, BUFFERS, 64);
    rig.write(0x3818 + 0x200, 1);
    expect(rig.sent[0]!.queue).toBe(2);
  });

  test('7.2.1: queues have turns, and one doorbell ends after a bounded number of packets', () => {
    const rig = new RingsRig();
    rig.startTransmit(0, 4096, 0x20_0000);
    rig.startTransmit(1, 64);
    for (let i = 0; i < 4095; i++) rig.putData(i, BUFFERS, 60, EOP, 0, 0x20_0000);
    for (let i = 0; i < 4; i++) rig.putData(i, BUFFERS, 60);
    rig.ready = false;
    rig.ring(4095, 0);
    rig.ring(4, 1);
    rig.ready = true;
    rig.rings.wake();
    const second = rig.sent.findIndex(({ queue }) => queue === 1);
    expect(second).toBeLessThan(64);
    expect(rig.sent.length).toBeLessThan(4000);
    expect(rig.host.clock.pendingTimers).toBe(1);
    rig.host.clock.advance(0);
    rig.host.clock.advance(0);
    rig.host.clock.advance(0);
    expect(rig.sent).toHaveLength(4099);
    expect(rig.host.clock.pendingTimers).toBe(0);
  });

  test('house: a port that takes no frames keeps them in memory, and goes on', () => {
    const rig = new RingsRig();
    rig.startTransmit();
    for (let i = 0; i < 3; i++) rig.putData(i, BUFFERS, 64, EOP | RS);
    rig.onSend = () => {
      rig.ready = false;
    };
    rig.ring(3);
    expect(rig.sent).toHaveLength(1);
    expect(rig.read(Reg.TDH)).toBe(1);
    rig.ready = true;
    rig.onSend = () => undefined;
    rig.rings.wake();
    expect(rig.sent).toHaveLength(3);
  });

  test('house: a reset from within a frame ends the queue, and the frames behind it', () => {
    const rig = new RingsRig();
    rig.startTransmit();
    for (let i = 0; i < 3; i++) rig.putData(i, BUFFERS, 64, EOP | RS);
    rig.onSend = () => {
      rig.registers.reset();
      rig.rings.reset({ kind: 'device' });
    };
    rig.ring(3);
    expect(rig.sent).toHaveLength(1);
    expect(rig.read(Reg.TDH)).toBe(0);
    expect(rig.interrupts).toEqual([]);
  });

  test('house: a descriptor that points nowhere stops its queue until it is enabled anew, and no other', () => {
    const rig = new RingsRig();
    rig.startTransmit(0);
    rig.startTransmit(1, 64, TX_RING + 0x1000);
    rig.put(TX_RING, 0, [0, 0xffff_ffff, (EOP | TxCommand.DEXT | TxCommand.DTYP_DATA | TxCommand.IFCS | 64) >>> 0, 0]);
    rig.putData(1, BUFFERS, 64);
    rig.ring(2);
    expect(rig.sent).toEqual([]);
    expect(rig.read(Reg.TDH)).toBe(0);
    rig.putData(0, BUFFERS, 64, EOP, 0, TX_RING + 0x1000);
    rig.ring(1, 1);
    expect(rig.sent).toHaveLength(1);
    rig.putData(0, BUFFERS, 64);
    rig.write(Reg.TXDCTL, 0);
    rig.write(Reg.TXDCTL, Xdctl.ENABLE);
    expect(rig.sent).toHaveLength(3);
  });

  test('house: packets that are no frames are thrown away and counted: too short, too long, without an end', () => {
    const rig = new RingsRig();
    rig.startTransmit();
    rig.putData(0, BUFFERS, 13);
    rig.putData(1, BUFFERS, 0);
    for (let i = 2; i < 20; i++) rig.putData(i, BUFFERS, 0xffff, 0);
    rig.putData(20, BUFFERS, 64, EOP | RS);
    rig.putData(21, BUFFERS, 64);
    rig.ring(22);
    expect(rig.sent).toHaveLength(1);
    expect(rig.counted(Stat.HTDPMC)).toBe(3);
    expect(rig.words(TX_RING, 20)[3]! & 1).toBe(1);
  });

  test('7.1.4.3: the longest frame has 9728 bytes with its check sequence', () => {
    const rig = new RingsRig();
    rig.startTransmit();
    rig.putData(0, BUFFERS, 9724);
    rig.putData(1, BUFFERS, 9725);
    rig.ring(2);
    expect(rig.sent.map(({ bytes }) => bytes.length)).toEqual([9724]);
  });
});

describe('7.2.4: segmentation', () => {
  const MAC = 14;

  /** A packet of TCP over IPv4 with `payload` bytes; its field has the pseudo header's sum. */
  function tcp(payload: number): Uint8Array {
    const packet = pattern(MAC + 40 + payload, 5);
    const view = new DataView(packet.buffer);
    packet.set([0x45, 0, 0, 0, 0x12, 0xff, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2], MAC);
    view.setUint32(MAC + 24, 0xffff_ff00);
    view.setUint16(MAC + 32, 0x50ff);
    view.setUint16(MAC + 36, sum(Uint8Array.of(10, 0, 0, 1, 10, 0, 0, 2, 0, 6)));
    return packet;
  }

  function segment(rig: RingsRig, packet: Uint8Array, mss: number, { payload = packet.length - MAC - 40 } = {}): void {
    rig.store(BUFFERS, packet);
    const context = TxCommand.DEXT | TxCommand.DTYP_CONTEXT | TxContext.IPV4 | TxContext.L4T_TCP;
    rig.put(TX_RING, 0, [(MAC << TxContext.MACLEN_SHIFT) | 20, 0, context, (mss << TxContext.MSS_SHIFT) | (20 << TxContext.L4LEN_SHIFT)]);
    const data = (TxCommand.DEXT | TxCommand.DTYP_DATA | TxCommand.TSE | TxCommand.IFCS) >>> 0;
    const options = (TxStatus.IXSM | TxStatus.TXSM | (payload << TxStatus.PAYLEN_SHIFT)) >>> 0;
    rig.put(TX_RING, 1, [BUFFERS, 0, (data | 100) >>> 0, options]);
    rig.put(TX_RING, 2, [BUFFERS + 100, 0, (data | EOP | RS | (packet.length - 100)) >>> 0, options]);
    rig.ring(3);
  }

  test('7.2.4.7: each frame has its lengths, identification, sequence, flags and checksums', () => {
    const rig = new RingsRig();
    rig.startTransmit();
    const packet = tcp(2500);
    segment(rig, packet, 1000);
    expect(rig.sent.map(({ bytes }) => bytes.length)).toEqual([1054, 1054, 554]);
    const views = rig.sent.map(({ bytes }) => new DataView(bytes.buffer));
    expect(views.map((v) => v.getUint16(MAC + 2))).toEqual([1040, 1040, 540]);
    expect(views.map((v) => v.getUint16(MAC + 4))).toEqual([0x12ff, 0x1300, 0x1301]);
    expect(views.map((v) => v.getUint32(MAC + 24))).toEqual([0xffff_ff00, 0x2e8, 0x6d0]);
    // FIN and PSH are the last frame's, CWR is not.
    expect(views.map((v) => v.getUint8(MAC + 33))).toEqual([0xf6, 0xf6, 0x7f]);
    for (const { bytes } of rig.sent) {
      expect(sum(bytes.subarray(MAC, MAC + 20))).toBe(0xffff);
      const pseudo = Uint8Array.of(10, 0, 0, 1, 10, 0, 0, 2, 0, 6, (bytes.length - 34) >>> 8, bytes.length - 34);
      expect(sum(Uint8Array.of(...pseudo, ...bytes.subarray(MAC + 20)))).toBe(0xffff);
    }
    const payload = rig.sent.flatMap(({ bytes }) => [...bytes.subarray(MAC + 40)]);
    expect(payload).toEqual([...packet.subarray(MAC + 40)]);
    expect(rig.counted(Stat.TSCTC)).toBe(1);
    expect(rig.words(TX_RING, 2)[3]! & 1).toBe(1);
  });

  test('7.2.4.2: a PAYLEN that lies sends nothing, and is out of sync where DTXCTL says so', () => {
    const rig = new RingsRig();
    rig.startTransmit();
    rig.write(Reg.DTXCTL, Dtxctl.OUT_OF_SYNC_EN);
    segment(rig, tcp(2500), 1000, { payload: 2501 });
    expect(rig.sent).toEqual([]);
    expect(rig.interrupts).toEqual([`icr 0x${Icr.DOUTSYNC.toString(16)}`, 'tx 0']);
    expect(rig.counted(Stat.HTDPMC)).toBe(1);
  });

  test('house: an MSS of 0, and one beyond any frame, send nothing; one of 1 does not hold the thread', () => {
    for (const mss of [0, 0xffff]) {
      const rig = new RingsRig();
      rig.startTransmit();
      segment(rig, tcp(2500), mss);
      expect(rig.sent).toEqual([]);
    }
    const rig = new RingsRig();
    rig.startTransmit();
    segment(rig, tcp(9000), 1);
    expect(rig.sent.length).toBeLessThan(4000);
    expect(rig.read(Reg.TDH)).toBe(2);
    for (let i = 0; i < 10; i++) rig.host.clock.advance(0);
    expect(rig.sent).toHaveLength(9000);
    expect(rig.read(Reg.TDH)).toBe(3);
  });

  test('house: a packet that is half sent goes on in another card', () => {
    const rig = new RingsRig();
    rig.startTransmit();
    rig.onSend = () => {
      rig.ready = rig.sent.length < 2;
    };
    const packet = tcp(2500);
    segment(rig, packet, 1000);
    expect(rig.sent).toHaveLength(2);
    rig.rings.halt();
    const other = new RingsRig();
    other.host.memory.set(rig.host.memory);
    other.registers.words.set(rig.registers.words);
    other.rings.load(-1, structuredClone(rig.rings.save(-1)));
    other.rings.wake();
    const all = [...rig.sent, ...other.sent].flatMap(({ bytes }) => [...bytes.subarray(MAC + 40)]);
    expect(all).toEqual([...packet.subarray(MAC + 40)]);
    expect(other.words(TX_RING, 2)[3]! & 1).toBe(1);
  });
});

/** The sum of 16-bit words with its carries, the slow and plain way. */
function sum(bytes: Uint8Array): number {
  let total = 0;
  bytes.forEach((byte, i) => {
    total += i % 2 === 0 ? byte << 8 : byte;
  });
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return total;
}
