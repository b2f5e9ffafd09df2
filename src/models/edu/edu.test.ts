import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { Width } from '../../abi/device-host.ts';
import { ConfigSpace } from '../../pci/config-space.ts';
import { TestHost } from '../kit/test-host.ts';
import { type EduOptions, edu } from './edu.ts';

const Reg = {
  ID: 0x00,
  LIVE: 0x04,
  FACT: 0x08,
  STATUS: 0x20,
  IRQ: 0x24,
  RAISE: 0x60,
  ACK: 0x64,
  SRC: 0x80,
  DST: 0x88,
  CNT: 0x90,
  CMD: 0x98,
};

function make(options: EduOptions = {}, mode: 'intx' | 'msi' = 'msi') {
  const host = new TestHost({ mode });
  const model = edu({ factorialMs: 1, dmaMs: 100, ...options }).create(host);
  return {
    host,
    model,
    r: (offset: number) => model.read(0, offset, 4),
    w: (offset: number, value: number) => model.write(0, offset, 4, value),
    dma(source: bigint, destination: bigint, count: bigint, command: bigint) {
      model.write64!(0, Reg.SRC, source);
      model.write64!(0, Reg.DST, destination);
      model.write64!(0, Reg.CNT, count);
      model.write64!(0, Reg.CMD, command);
    },
  };
}

it('has the config space that Linux 7.2 saw', () => {
  const config = new ConfigSpace(edu().declaration);
  expect(config.size).toBe(256);
  const hex = (from: number, to: number) => Buffer.from(config.bytes.subarray(from, to)).toString('hex');
  expect(hex(0x00, 0x04)).toBe('3412e811');
  expect(hex(0x06, 0x10)).toBe('10001000ff0000000000');
  expect(hex(0x2c, 0x38)).toBe('f41a00110000000040000000');
  expect(config.read(0x3d, 1)).toBe(1);
  expect(hex(0x40, 0x50)).toBe('05008000000000000000000000000000');
  config.write(0x10, 4, 0xffff_ffff);
  expect(config.read(0x10, 4)).toBe(0xfff0_0000);
});

it('identifies itself and inverts the written value', () => {
  const { r, w } = make();
  expect(r(Reg.ID)).toBe(0x0100_00ed);
  w(Reg.ID, 0);
  expect(r(Reg.ID)).toBe(0x0100_00ed);
  w(Reg.LIVE, 0x1234_5678);
  expect(r(Reg.LIVE)).toBe(0xedcb_a987);
});

it('takes 4 bytes below 0x80, 4 or 8 from there on; the rest reads all ones and is dropped', () => {
  const { model, r, w } = make();
  const ones = { 1: 0xff, 2: 0xffff, 4: 0xffff_ffff };
  w(Reg.LIVE, 0);
  for (const width of [1, 2] as const) {
    model.write(0, Reg.LIVE, width, 5);
    for (const offset of [Reg.ID, Reg.LIVE, Reg.SRC]) expect(model.read(0, offset, width)).toBe(ones[width]);
  }
  model.write64!(0, Reg.LIVE - 4, 5n);
  expect(model.read64!(0, Reg.ID)).toBe(2n ** 64n - 1n);
  expect(r(Reg.LIVE)).toBe(0xffff_ffff);
  w(Reg.LIVE, 0xffff_ffff);
  expect(r(Reg.LIVE)).toBe(0);
  model.write64!(0, Reg.SRC, 0x1_2345_6789n);
  expect(model.read64!(0, Reg.SRC)).toBe(0x1_2345_6789n);
  expect(r(Reg.SRC)).toBe(0x2345_6789);
  expect(r(Reg.SRC + 4)).toBe(0xffff_ffff);
  w(Reg.SRC + 4, 7);
  expect(model.read64!(0, Reg.SRC)).toBe(0x1_2345_6789n);
  w(Reg.SRC, 5);
  expect(model.read64!(0, Reg.SRC)).toBe(5n);
  for (const offset of [0x0c, 0x28, Reg.RAISE, Reg.ACK, 0xa0, 0x4_0000, 0xf_fffc]) expect(r(offset)).toBe(0xffff_ffff);
});

it('computes factorials in its own time, modulo 2^32', () => {
  const { host, r, w } = make();
  const results = [0, 1, 5, 12, 13, 33, 34, 0xffff_ffff].map((n) => {
    w(Reg.FACT, n);
    expect(r(Reg.STATUS)).toBe(1);
    w(Reg.FACT, 3);
    host.clock.advance(1);
    expect(r(Reg.STATUS)).toBe(0);
    return r(Reg.FACT);
  });
  expect(results).toEqual([1, 1, 120, 479001600, 1932053504, 2147483648, 0, 0]);
  expect(host.irqEvents).toEqual([]);
});

it('interrupts after a factorial when asked, by message', () => {
  const { host, r, w } = make();
  w(Reg.STATUS, 0xffff_ffff);
  expect(r(Reg.STATUS)).toBe(0x80);
  w(Reg.FACT, 5);
  w(Reg.STATUS, 0x80);
  expect(r(Reg.STATUS)).toBe(0x81);
  host.clock.advance(1);
  expect([r(Reg.FACT), r(Reg.IRQ)]).toEqual([120, 1]);
  expect(host.irqEvents).toEqual(['trigger 0']);
  w(Reg.ACK, 1);
  expect(r(Reg.IRQ)).toBe(0);
});

it('raises and acknowledges: a message each time, the INTx pin as long as a cause is left', () => {
  const msi = make();
  msi.w(Reg.RAISE, 0xab);
  msi.w(Reg.RAISE, 0xab);
  expect(msi.r(Reg.IRQ)).toBe(0xab);
  expect(msi.host.irqEvents).toEqual(['trigger 0', 'trigger 0']);

  const { host, r, w } = make({}, 'intx');
  w(Reg.RAISE, 0);
  expect(host.asserted).toBe(false);
  w(Reg.RAISE, 0x3);
  expect(host.asserted).toBe(true);
  w(Reg.ACK, 0x1);
  expect([r(Reg.IRQ), host.asserted]).toEqual([2, true]);
  w(Reg.ACK, 0x2);
  expect([r(Reg.IRQ), host.asserted]).toEqual([0, false]);
  w(Reg.RAISE, 0x8000_0000);
  expect(r(Reg.IRQ)).toBe(0x8000_0000);
});

it('copies both ways through its buffer and interrupts', () => {
  const { host, r, w, model, dma } = make();
  const text = new TextEncoder().encode('through the IOMMU');
  host.memory.set(text);
  dma(0x10_0000n, 0x4_0000n, 18n, 1n | 4n);
  expect(model.read64!(0, Reg.CMD)).toBe(5n);
  host.clock.advance(99);
  expect(host.irqEvents).toEqual([]);
  host.clock.advance(1);
  expect([r(Reg.IRQ), r(Reg.CMD)]).toEqual([0x100, 4]);
  w(Reg.ACK, 0x100);
  dma(0x4_0000n, 0x10_1000n, 18n, 1n | 2n | 4n);
  host.clock.advance(100);
  expect([r(Reg.IRQ), r(Reg.CMD)]).toEqual([0x100, 6]);
  expect(host.memory.subarray(0x1000, 0x1000 + text.length)).toEqual(text);
  expect(host.irqEvents).toEqual(['trigger 0', 'trigger 0']);
});

it('DMA to an unmapped IOVA does not land; the command completes and interrupts', () => {
  const { host, r, dma } = make();
  dma(0x4_0000n, 0x90_1000n, 18n, 1n | 2n | 4n);
  host.clock.advance(100);
  expect([r(Reg.IRQ), r(Reg.CMD)]).toEqual([0x100, 6]);
  expect(host.irqEvents).toEqual(['trigger 0']);
  expect(host.logged).toEqual([]);
});

it('remote memory is reached too, and its faults end the command', async () => {
  const { host, r, dma } = make();
  const { tryWrite } = host.dma;
  host.dma.tryWrite = () => 2;
  host.dma.write = async (iova, from) => void tryWrite(iova, from);
  dma(0x4_0000n, 0x10_0000n, 4n, 1n | 2n | 4n);
  host.clock.advance(100);
  expect(r(Reg.CMD)).toBe(7);
  for (let i = 0; i < 10; i++) await Promise.resolve();
  expect([r(Reg.IRQ), r(Reg.CMD)]).toEqual([0x100, 6]);
});

it('DMA registers keep their values while a transfer runs', () => {
  const { host, model, r, dma } = make();
  dma(0x10_0000n, 0x4_0000n, 16n, 1n);
  dma(1n, 2n, 3n, 3n);
  expect([Reg.SRC, Reg.DST, Reg.CNT, Reg.CMD].map((o) => model.read64!(0, o))).toEqual([0x10_0000n, 0x4_0000n, 16n, 1n]);
  host.clock.advance(100);
  model.write64!(0, Reg.CMD, 6n);
  expect(r(Reg.CMD)).toBe(0);
  expect(host.clock.pendingTimers).toBe(0);
});

it('addresses are cut to the mask, with a word in the log', () => {
  const { host, dma } = make();
  host.memory[0] = 42;
  dma(0xff_1010_0000n, 0x4_0000n, 1n, 1n);
  host.clock.advance(100);
  dma(0x4_0000n, 0x10_0001n, 1n, 3n);
  host.clock.advance(100);
  expect(host.memory[1]).toBe(42);
  expect(host.logged).toEqual([
    { level: 'warn', message: 'edu: DMA address 0xff10100000 was cut to 0x100000, which is what the device can drive' },
  ]);
  const wide = make({ dmaMask: 2n ** 64n - 1n });
  wide.dma(0x4_0000n, 0xff_1010_0000n, 1n, 3n);
  wide.host.clock.advance(100);
  expect(wide.host.memory[0]).toBe(0);
});

it('a transfer outside its buffer moves nothing, whatever the registers say', () => {
  const u64 = fc.oneof(fc.bigInt(0n, 2n ** 64n - 1n), fc.bigInt(0x3_fff0n, 0x4_1010n), fc.bigInt(0n, 5000n));
  fc.assert(
    fc.property(u64, u64, u64, fc.boolean(), (source, destination, count, toRam) => {
      const { host, r, dma } = make();
      host.memory.fill(0x55);
      dma(source, destination, count, toRam ? 7n : 5n);
      host.clock.advance(100);
      expect(r(Reg.IRQ)).toBe(0x100);
      const iova = destination & 0xfff_ffffn;
      const lands =
        toRam && source >= 0x4_0000n && source + count <= 0x4_1000n && iova >= host.base && iova + count <= host.base + 0x1_0000n;
      expect(host.memory.filter((b) => b !== 0x55).length).toBe(lands ? Number(count) : 0);
    }),
  );
});

it('a reset ends what was under way', () => {
  const { host, model, r, w, dma } = make({}, 'intx');
  w(Reg.STATUS, 0x80);
  w(Reg.FACT, 10);
  w(Reg.RAISE, 2);
  dma(0x4_0000n, 0x10_0000n, 16n, 7n);
  host.memory.fill(0x55);
  model.reset();
  host.clock.advance(1000);
  expect([Reg.LIVE, Reg.FACT, Reg.STATUS, Reg.IRQ, Reg.SRC, Reg.CMD].map(r)).toEqual([0, 0, 0, 0, 0, 0]);
  expect(host.memory.every((b) => b === 0x55)).toBe(true);
  expect(host.irqEvents).toEqual(['raise', 'lower']);
});

it('any access of any offset, width and value is answered', () => {
  const { host, model } = make();
  fc.assert(
    fc.property(fc.nat(0xf_ffff), fc.constantFrom(1, 2, 4), fc.nat(0xffff_ffff), (at, width, value) => {
      const offset = at - (at % width);
      model.write(0, offset, width as Width, value);
      const read = model.read(0, offset, width as Width);
      host.clock.advance(100);
      return Number.isInteger(read) && read >= 0 && read < 2 ** (8 * width);
    }),
  );
});

it('S3-15 with VFs it is a PCI Express device, and each VF a small edu without INTx', () => {
  const { declaration, sriov } = edu({ vfs: 3, factorialMs: 0 });
  expect(new ConfigSpace(declaration).size).toBe(4096);
  expect(edu().sriov).toBe(undefined);
  expect([sriov!.totalVfs, sriov!.vf.declaration.interruptPin, sriov!.vf.declaration.bars!.map((b) => b.size)]).toEqual([3, 0, [4096]]);
  const host = new TestHost({ mode: 'msi' });
  const vf = sriov!.vf.create(host, 0, null);
  vf.write(0, Reg.STATUS, 4, 0x80);
  vf.write(0, Reg.FACT, 4, 5);
  host.clock.advance(0);
  expect([vf.read(0, Reg.FACT, 4), host.irqEvents]).toEqual([120, ['trigger 0']]);
});
