import { describe, expect, test } from 'vitest';
import { BUFFERS, MEMORY, pattern, RingsRig, RX_RING, TX_RING } from '../../../../tests/kit/82576/rings-rig.ts';
import { ofQueue, Reg, Xdctl } from '../../../abi/82576.ts';
import { RxStatus, TxCommand } from '../../../abi/82576-descriptors.ts';
import { Dma, type DmaPort, type Iova } from '../../../abi/device-host.ts';
import { decodePlain, encodePlain } from '../../kit/plain-data.ts';
import type { TestHost } from '../../kit/test-host.ts';

const EOP = TxCommand.EOP;
const RS = TxCommand.RS;
const DONE = RxStatus.DD | RxStatus.EOP;
/** Reads and writes from here to the end of memory never end. */
const DEAF = 0x30_0000;

/** Memory that answers by messages alone. */
function remote({ dma }: TestHost): DmaPort {
  const never = new Promise<void>(() => undefined);
  const deaf = (iova: Iova) => Number(iova) >= DEAF && Number(iova) < MEMORY;
  return {
    epoch: 0,
    tryRead: () => Dma.REMOTE,
    tryWrite: () => Dma.REMOTE,
    read: (iova, into) => (deaf(iova) ? never : dma.read(iova, into)),
    write: (iova, from) => (deaf(iova) ? never : dma.write(iova, from)),
    view: () => null,
    locate: () => false,
  };
}

/** Until all messages that can end have ended. */
async function settle(): Promise<void> {
  for (let i = 0; i < 40; i++) await new Promise((resolve) => setImmediate(resolve));
}

describe('house: rings in memory that is reached by messages', () => {
  test('packets leave in order, over the end of the ring, and their descriptors are written back', async () => {
    const rig = new RingsRig(remote);
    rig.startTransmit(0, 8);
    for (let i = 0; i < 5; i++) {
      rig.store(BUFFERS + i * 256, pattern(100 + i, i));
      rig.putData(i, BUFFERS + i * 256, 100 + i, EOP | RS);
    }
    rig.ring(5);
    await settle();
    rig.putData(5, BUFFERS, 40, 0);
    rig.putData(6, BUFFERS + 40, 60, EOP | RS);
    for (let i = 0; i < 2; i++) rig.putData((7 + i) % 8, BUFFERS, 100, EOP | RS);
    rig.ring(1);
    await settle();
    expect(rig.sent.map(({ bytes }) => bytes.length)).toEqual([100, 101, 102, 103, 104, 100, 100, 100]);
    expect(rig.sent[4]!.bytes).toEqual(pattern(104, 4));
    expect(rig.sent[5]!.bytes).toEqual(pattern(100, 0));
    expect([0, 1, 2, 3, 4, 6, 7].map((i) => rig.words(TX_RING, i)[3]! & 1)).toEqual([1, 1, 1, 1, 1, 1, 1]);
    expect(rig.read(Reg.TDH)).toBe(1);
    expect(rig.interrupts.length).toBeGreaterThan(0);
  });

  test('frames arrive in order, in several buffers and over the end of the ring', async () => {
    const rig = new RingsRig(remote);
    rig.startReceive(0, 8, { size: 1024 });
    for (let i = 0; i < 3; i++) expect(rig.receive(pattern(1500, i))).toBe(1);
    await settle();
    for (let i = 0; i < 6; i++) rig.put(RX_RING, i, [BUFFERS + i * 1024, 0, 0, 0]);
    rig.write(Reg.RDT, 5);
    for (let i = 3; i < 6; i++) expect(rig.receive(pattern(1500, i))).toBe(1);
    await settle();
    const at = (i: number) => BUFFERS + (i % 8) * 1024;
    for (const i of [3, 4, 5]) {
      const first = i * 2;
      expect(Uint8Array.of(...rig.load(at(first), 1024), ...rig.load(at(first + 1), 476))).toEqual(pattern(1500, i));
      expect([first, first + 1].map((n) => rig.words(RX_RING, n % 8)[2])).toEqual([RxStatus.DD, DONE]);
    }
    expect(rig.read(Reg.RDH)).toBe(4);
  });

  test('a peer that never answers holds its own queues, and no others', async () => {
    const rig = new RingsRig(remote);
    rig.startTransmit(0, 8, DEAF);
    rig.startTransmit(1, 8);
    rig.startReceive(0, 8, { ring: DEAF + 0x1000 });
    rig.startReceive(1, 8);
    rig.putData(0, BUFFERS, 64);
    rig.ring(1, 0);
    rig.ring(1, 1);
    for (let i = 0; i < 7; i++) rig.receive(pattern(64, i), 3);
    await settle();
    expect(rig.sent.map(({ queue }) => queue)).toEqual([1]);
    expect(rig.load(BUFFERS, 64)).toEqual(pattern(64, 0));
    expect(rig.read(ofQueue(Reg.RDH, 1))).toBe(7);
  });

  test('a reset abandons what is under way: nothing of it leaves, lands or interrupts', async () => {
    const rig = new RingsRig(remote);
    rig.startTransmit();
    rig.startReceive();
    rig.putData(0, BUFFERS, 64, EOP | RS);
    rig.ring(1);
    rig.receive(pattern(64));
    rig.registers.reset();
    rig.rings.reset({ kind: 'device' });
    await settle();
    expect(rig.sent).toEqual([]);
    expect(rig.interrupts).toEqual([]);
    expect(rig.words(RX_RING, 0)[2]).toBe(0);
    expect([rig.read(Reg.TDH), rig.read(Reg.RDH)]).toEqual([0, 0]);
  });

  test('a halt keeps the work, which begins again', async () => {
    const rig = new RingsRig(remote);
    rig.startTransmit();
    rig.startReceive();
    rig.putData(0, BUFFERS, 64, EOP | RS);
    rig.ring(1);
    rig.receive(pattern(64));
    rig.rings.halt();
    await settle();
    expect(rig.sent).toEqual([]);
    rig.rings.goOn();
    await settle();
    expect(rig.sent).toHaveLength(1);
    expect(rig.words(RX_RING, 0)[2]).toBe(DONE);
  });

  test('a descriptor that cannot be read stops its queue until it is enabled anew', async () => {
    const rig = new RingsRig(remote);
    rig.startTransmit();
    rig.write(Reg.TDBAL, 0x2000_0000);
    rig.ring(1);
    await settle();
    rig.write(Reg.TDBAL, TX_RING);
    rig.putData(0, BUFFERS, 64, EOP | RS);
    rig.ring(1);
    await settle();
    expect(rig.sent).toEqual([]);
    rig.write(Reg.TXDCTL, 0);
    rig.write(Reg.TXDCTL, Xdctl.ENABLE);
    await settle();
    expect(rig.sent).toHaveLength(1);
  });

  test('write-backs that take longer than reads begin no descriptor twice, and a halt loses none', async () => {
    const rig = new RingsRig((host) => {
      const port = remote(host);
      const write = async (iova: Iova, from: Uint8Array) => {
        for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
        await port.write(iova, from);
      };
      return { ...port, write };
    });
    rig.startTransmit(0, 128);
    for (let i = 0; i < 100; i++) rig.putData(i, BUFFERS + i, 64, EOP | RS);
    rig.ring(100);
    for (let i = 0; i < 7; i++) await settle();
    rig.rings.halt();
    rig.rings.goOn();
    for (let i = 0; i < 10; i++) await settle();
    expect(rig.sent).toHaveLength(100);
    expect(rig.read(Reg.TDH)).toBe(100);
    for (let i = 0; i < 100; i++) expect(rig.words(TX_RING, i)[3]! & 1).toBe(1);
  });

  test('write-backs that a halt cuts off go along to another card, and land there', async () => {
    const rig = new RingsRig(remote);
    rig.write(Reg.TDWBAL, DEAF | 1);
    rig.startTransmit();
    for (let i = 0; i < 20; i++) rig.putData(i, BUFFERS, 64, EOP | RS);
    rig.ring(20);
    await settle();
    expect(rig.sent).toHaveLength(20);
    rig.rings.halt();
    const other = new RingsRig((host) => ({ ...remote(host), write: (iova, from) => host.dma.write(iova, from) }));
    other.host.memory.set(rig.host.memory);
    other.registers.words.set(rig.registers.words);
    other.rings.halt();
    other.rings.load(-1, decodePlain(encodePlain(rig.rings.save(-1))));
    await settle();
    expect(other.view.getUint32(DEAF, true)).toBe(0);
    other.rings.goOn();
    await settle();
    expect(other.view.getUint32(DEAF, true)).toBe(20);
    expect([other.sent.length, other.interrupts.filter((one) => one === 'tx 0').length]).toEqual([0, 20]);
  });

  test('a state whose write-backs lie is refused with EINVAL', async () => {
    const rig = new RingsRig(remote);
    rig.write(Reg.TDWBAL, DEAF | 1);
    rig.startTransmit();
    rig.putData(0, BUFFERS, 64, EOP | RS);
    rig.ring(1);
    await settle();
    rig.rings.halt();
    const state = () => structuredClone(rig.rings.save(-1)) as { transmit: { state: { unwritten: Record<string, unknown>[] } }[] };
    const whole = { iova: DEAF, bytes: new Uint8Array(4) };
    expect(state().transmit[0]!.state.unwritten).toEqual([{ iova: DEAF, bytes: Uint8Array.of(1, 0, 0, 0) }]);
    const load = (unwritten: unknown) => {
      const saved = state();
      Object.assign(saved.transmit[0]!.state, { unwritten });
      new RingsRig().rings.load(-1, saved);
    };
    for (const one of [
      { ...whole, iova: -1 },
      { ...whole, iova: 0.5 },
      { ...whole, iova: 1n << 64n },
      { ...whole, iova: -1n },
      { ...whole, iova: '4' },
      { ...whole, bytes: new Uint8Array(3) },
      { ...whole, bytes: new Uint8Array(5) },
      { ...whole, bytes: [0, 0, 0, 0] },
    ]) {
      expect(() => load([one])).toThrow(/the state of the rings of an 82576/);
    }
    expect(() => load(undefined)).toThrow(/no write-backs/);
    expect(() => load(new Array(33).fill(whole))).toThrow(/no write-backs/);
    expect(() => load([{ ...whole, iova: (1n << 64n) - 4n }])).not.toThrow();
  });

  test('a peer that never answered is not waited for after a reset', async () => {
    const rig = new RingsRig(remote);
    rig.write(Reg.TDWBAL, DEAF | 1);
    rig.startTransmit();
    for (let i = 0; i < 40; i++) rig.putData(i, BUFFERS, 64, EOP | RS);
    rig.ring(40);
    await settle();
    rig.write(Reg.TXDCTL, 0);
    rig.write(Reg.TDWBAL, 0);
    rig.sent.length = 0;
    rig.startTransmit();
    rig.putData(0, BUFFERS, 64, EOP | RS);
    rig.ring(1);
    await settle();
    expect(rig.sent).toHaveLength(1);
    expect(rig.words(TX_RING, 0)[3]! & 1).toBe(1);
  });
});
