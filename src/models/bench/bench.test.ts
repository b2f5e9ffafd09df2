import { describe, expect, it } from 'vitest';
import { IrqIndex, RegionFlags } from '../../abi/vfio.ts';
import { simulate } from '../../api/simulation.ts';
import { SystemClock } from '../../base/clock.ts';
import { silentLogger } from '../../base/log.ts';
import { FakeEventFd } from '../../sys/fake.ts';
import { TestHost } from '../kit/test-host.ts';
import { bench } from './bench.ts';

const BASE = 0x10_0000n;

interface Request {
  readonly op: number;
  readonly len?: number;
  readonly iova?: bigint;
  readonly count?: bigint;
  readonly arg?: bigint;
}

/** The 32 bytes of a control write. */
function control({ op, len = 0, iova = BASE, count = 1n, arg = 0n }: Request): Uint8Array {
  const bytes = new Uint8Array(32);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, op, true);
  view.setUint32(4, len, true);
  view.setBigUint64(8, iova, true);
  view.setBigUint64(16, count, true);
  view.setBigUint64(24, arg, true);
  return bytes;
}

function alone() {
  const host = new TestHost({ mode: 'intx', base: BASE, memorySize: 64 * 4096 });
  for (let i = 0; i < host.memory.length; i++) host.memory[i] = i % 251;
  const model = bench().create(host);
  const result = (at: number) => model.read64!(2, 0x40 + at);
  return {
    host,
    model,
    async run(request: Request) {
      const view = new DataView(control(request).buffer);
      for (let at = 0; at < 32; at += 8) model.write64!(2, at, view.getBigUint64(at, true));
      await Promise.all(host.held);
      return { t0: result(0), t1: result(8), ok: result(16), sum: result(24) };
    },
  };
}

/**
 * The sum of the last bytes of `count` transfers of `len` bytes, over memory that holds i mod
 * 251.
 */
function sumOf(count: number, len: number): bigint {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += ((i % 64) * len + len - 1) % 251;
  return BigInt(sum);
}

describe('the control block', () => {
  it.each([
    ['read by messages', 1],
    ['look up and copy', 2],
    ['read what is mapped', 6],
  ])('%s: goes through 64 places in turn, counts and sums up', async (_, op) => {
    expect(await alone().run({ op, len: 4096, count: 130n })).toMatchObject({ ok: 130n, sum: sumOf(130, 4096) });
    expect(await alone().run({ op, len: 1, count: 600n })).toMatchObject({ ok: 600n, sum: sumOf(600, 1) });
  });

  it('look up: counts what it finds and touches nothing', async () => {
    expect(await alone().run({ op: 3, len: 4096, count: 64n })).toMatchObject({ ok: 64n, sum: 0n });
    expect(await alone().run({ op: 3, len: 4096, count: 64n, iova: BASE + 60n * 4096n })).toMatchObject({ ok: 4n });
  });

  it('write: the last byte of transfer i is i mod 256', async () => {
    const { host, run } = alone();
    expect(await run({ op: 5, len: 16, count: 300n })).toMatchObject({ ok: 300n, sum: BigInt((255 * 256) / 2 + (43 * 44) / 2) });
    expect(host.memory[16 * 43 + 15]).toBe(299 & 0xff);
    expect(host.memory[16 * 44 + 15]).toBe(236);
  });

  it('what is not mapped is not counted, by any kind of transfer', async () => {
    for (const op of [1, 2, 3, 5, 6]) expect(await alone().run({ op, len: 4096, count: 64n, iova: 0n })).toMatchObject({ ok: 0n, sum: 0n });
  });

  it('refuses what makes no sense, and says so at once', async () => {
    const { run } = alone();
    expect((await run({ op: 2, len: 8, count: 1n })).ok).toBe(1n);
    for (const request of [
      { op: 0, len: 8 },
      { op: 7, len: 8 },
      { op: 0xffff_ffff, len: 8 },
      { op: 2, len: 0 },
      { op: 2, len: 2 ** 24 + 1 },
      { op: 2, len: 0xffff_ffff, count: 2n ** 64n - 1n },
      { op: 1, len: 8, iova: 2n ** 64n - 8n },
      { op: 4, arg: 1_000_001n },
      { op: 4, arg: 2n ** 64n - 1n },
    ]) {
      expect(await run(request)).toMatchObject({ ok: 0n, sum: 0n });
    }
  });

  it('one control write after the other: the second waits for the first', async () => {
    const { host, model, run } = alone();
    host.dmaDelayMs = 1;
    const first = run({ op: 1, len: 1, count: 1n });
    const second = run({ op: 1, len: 1, count: 2n });
    expect(host.held).toHaveLength(2);
    for (let ms = 0; ms < 3; ms++) {
      for (let turn = 0; turn < 20; turn++) await Promise.resolve();
      host.clock.advance(1);
    }
    await Promise.all([first, second]);
    expect(model.read64!(2, 0x50)).toBe(2n);
  });

  it('a reset ends the work that is under way', async () => {
    const { host, model, run } = alone();
    host.dmaDelayMs = 5;
    const work = run({ op: 1, len: 1, count: 1_000_000n });
    model.reset();
    host.clock.advance(5);
    await expect(work).rejects.toThrow('reset');
    expect(model.read64!(2, 0x50)).toBe(0n);
  });

  it('interrupt: a pulse of INTx, after spinning', async () => {
    const { host, run } = alone();
    expect(await run({ op: 4, arg: 5n })).toMatchObject({ ok: 1n });
    expect(host.irqEvents).toEqual(['raise', 'lower']);
  });
});

describe('opened through VFIO', () => {
  it('has the regions and the interrupt of its contract', () => {
    const { device, owns } = simulate(bench(), { log: silentLogger });
    const size = (index: number) => device.region(index).info.size;
    expect([0, 1, 2].map(size)).toEqual([4096, 2 ** 20, 4096]);
    expect(device.region(1).info.flags & RegionFlags.MMAP).toBe(0);
    expect(device.irq(IrqIndex.INTX).count).toBe(1);
    device.region(0).write32(0, 0x1234_5678);
    expect(device.region(0).read32(0)).toBe(0x1234_5678);
    const bytes = Uint8Array.from({ length: 65536 }, (_, i) => i);
    device.region(1).write(0xf_0000, bytes);
    const back = new Uint8Array(65536);
    expect([device.region(1).read(0xf_0000, back), back]).toEqual([65536, bytes]);
    device.close();
    owns[Symbol.dispose]();
  });

  it('does DMA without bus mastering, and reports the time of CLOCK_MONOTONIC', async () => {
    const { device, owns } = simulate(bench(), { log: silentLogger, clock: new SystemClock() });
    const memory = device.dma.allocate(2 ** 20);
    memory.windows[0]!.fill(3);
    device.dma.map({ iova: 0x100_0000n, memory });
    const before = process.hrtime.bigint();
    device.region(2).write(0, control({ op: 1, len: 4096, count: 1000n, iova: 0x100_0000n }));
    await device.heldAnswer!();
    const after = process.hrtime.bigint();
    const [t0, t1, ok, sum] = [0x40, 0x48, 0x50, 0x58].map((at) => device.region(2).read64(at)) as [bigint, bigint, bigint, bigint];
    expect([ok, sum]).toEqual([1000n, 3000n]);
    expect(before - 1000n < t0 && t0 <= t1 && t1 < after + 1000n).toBe(true);
    expect(device.heldAnswer!()).toBeNull();
    device.close();
    owns[Symbol.dispose]();
    memory[Symbol.dispose]();
  });

  it('interrupts as often as the driver unmasks, and not by unmasking', () => {
    const { device, owns } = simulate(bench(), { log: silentLogger });
    const sink = new FakeEventFd();
    device.setIrqs({ index: IrqIndex.INTX, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [sink] });
    for (let i = 0; i < 3; i++) {
      device.region(2).write(0, control({ op: 4 }));
      expect(sink.read()).toBe(1n);
      device.setIrqs({ index: IrqIndex.INTX, start: 0, count: 1, action: 'unmask', data: 'none' });
      expect(sink.read()).toBeNull();
    }
    device.close();
    owns[Symbol.dispose]();
  });
});
