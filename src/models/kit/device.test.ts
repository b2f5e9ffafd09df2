import fc from 'fast-check';
import { expect, expectTypeOf, it } from 'vitest';
import type { Width } from '../../abi/device-host.ts';
import { bit, bits } from '../../base/bit-fields.ts';
import { u8, u16, u32, u64 } from '../../base/registers.ts';
import { aer } from '../../pci/capabilities.ts';
import { bar, memory } from './bar.ts';
import { device } from './device.ts';
import { PENDING_MAX } from './handlers.ts';
import { TestHost } from './test-host.ts';

const settle = async () => {
  for (let i = 0; i < 10; i++) await Promise.resolve();
};

it('declares ids, class, BARs and capabilities', () => {
  const { declaration } = device({
    id: '1af4:1041',
    subsystem: '1af4:1100',
    class: 'ethernet',
    revision: 1,
    name: 'a card',
    intx: 'B',
    pm: true,
    msi: 4,
    bars: { bar0: bar('4K', { a: u32(0) }), bar2: memory('16M', { type: 'mem64', prefetchable: true }) },
  });
  expect(declaration).toMatchObject({
    name: 'a card',
    vendor: 0x1af4,
    device: 0x1041,
    subsystemVendor: 0x1af4,
    subsystem: 0x1100,
    revision: 1,
    classCode: 0x020000,
    interruptPin: 2,
    bars: [
      { index: 0, size: 4096, type: 'mem32', prefetchable: false, backing: 'registers' },
      { index: 2, size: 2 ** 24, type: 'mem64', prefetchable: true, backing: 'memory' },
    ],
  });
  expect(declaration.capabilities!.map((c) => c.name)).toEqual(['Power Management', 'MSI', 'PCI Express']);
});

it('puts an MSI-X table in a BAR of its own, or in the BAR that the declaration names', () => {
  expect(device({ id: '1234:0001', msix: 100, bars: { bar0: bar('4K', {}) } }).declaration.bars!.map((b) => [b.index, b.size])).toEqual([
    [0, 4096],
    [5, 8192],
  ]);
  const own = device({
    id: '1234:0001',
    msix: { vectors: 2, bar: 0, tableOffset: 0x2000, pbaOffset: 0x3000 },
    bars: { bar0: bar('16K', {}) },
  });
  expect(own.declaration.bars).toHaveLength(1);
  expect(() => device({ id: '1234:0001', msix: { vectors: 2, bar: 0, tableOffset: 0xff0 }, bars: { bar0: bar('4K', {}) } })).toThrow(
    'past the end of BAR 0',
  );
});

it('refuses wrong declarations at load', () => {
  expect(() => device({ id: 'edu' })).toThrow("write it as 'vendor:device'");
  expect(() => bar('5K', {})).toThrow('power of two');
  expect(() => bar('4K', { a: u64(0x10), b: u32(0x14) })).toThrow('overlaps a');
  expect(() => bar('4K', { a: u32(0x1000) })).toThrow('past the end');
  expect(() => bar('4K', { a: u32(0x2) })).toThrow('multiple of 4');
  expect(() => u32(0, { a: bits(3, 0), b: bit(3) })).toThrow('belong to another field');
  expect(() => u32(0, { a: bits(0, 3) })).toThrow('most significant bit first');
  expect(() => u64(0, { a: bits(33, 31) })).toThrow('straddle');
  expect(() => bar('4K', { a: u8(0) }, { a: { reset: 256 } })).toThrow('does not fit in 8 bits');
  const bar0 = bar('4K', { a: u32(0, 'ro'), b: u32(4, 'wo') }, { a: { reset: 1 } });
  // biome-ignore lint/suspicious/noExplicitAny: names that the types would not let through
  const any = (handlers: object) => handlers as any;
  expect(() => device({ id: '1234:0001', bars: { bar0 }, on: any({ 'bar0.a': () => {} }) })).toThrow('read-only');
  expect(() => device({ id: '1234:0001', bars: { bar0 }, read: any({ 'bar0.b': () => 0 }) })).toThrow('write-only');
  expect(() => device({ id: '1234:0001', bars: { bar0 }, on: any({ 'bar0.c': () => {} }) })).toThrow('no register bar0.c');
});

it('infers what handlers see from the declaration', () => {
  device({
    id: '1234:0001',
    bars: { bar0: bar('4K', { a: u32(0), b: u64(8), s: u32(0x10, { run: bit(0), level: bits(7, 4) }) }), bar1: memory('4K') },
    state: () => ({ n: 0 }),
    on: {
      'bar0.a'(dev, written, before) {
        expectTypeOf(written).toEqualTypeOf<number>();
        expectTypeOf(before).toEqualTypeOf<number>();
        expectTypeOf(dev.bar0.a).toEqualTypeOf<number>();
        expectTypeOf(dev.bar0.b).toEqualTypeOf<bigint>();
        expectTypeOf(dev.bar0.s.run).toEqualTypeOf<number>();
        expectTypeOf(dev.bar0.s.value).toEqualTypeOf<number>();
        expectTypeOf(dev.bar1).toEqualTypeOf<Uint8Array>();
        expectTypeOf(dev.state).toEqualTypeOf<{ n: number }>();
        // @ts-expect-error no such register
        void dev.bar0.nothing;
        // @ts-expect-error no such BAR
        void dev.bar2;
      },
      async 'bar0.b'(_dev, written) {
        expectTypeOf(written).toEqualTypeOf<bigint>();
      },
    },
  });
});

it('a write changes the bits that software may write, and no others', () => {
  const model = device({
    id: '1234:0001',
    bars: {
      bar0: bar(
        '4K',
        {
          ident: u32(0x00, 'ro'),
          all: u32(0x04),
          some: u32(0x08),
          clear: u32(0x0c, 'w1c'),
          fields: u32(0x10, { ro: bits(3, 0, 'ro', 5), rw: bits(7, 4, 'rw', 1), w1c: bits(11, 8, 'w1c', 0xf) }),
          secret: u32(0x14, 'wo'),
          not: u32(0x18),
          plus: u32(0x1c),
          wide: u64(0x20),
        },
        {
          ident: { reset: 0x1234_5678 },
          some: { writable: 0x00ff_0000, reset: 0x1 },
          not: { store: (v) => ~v },
          plus: { show: (v) => v + 1 },
        },
      ),
    },
  }).create(new TestHost());
  const afterWriting = (offset: number, value: number) => {
    model.write(0, offset, 4, value);
    return model.read(0, offset, 4);
  };
  expect(afterWriting(0x00, 0)).toBe(0x1234_5678);
  expect(afterWriting(0x04, 0xdead_beef)).toBe(0xdead_beef);
  expect(afterWriting(0x08, 0xffff_ffff)).toBe(0x00ff_0001);
  expect(model.read(0, 0x0c, 4)).toBe(0);
  expect(afterWriting(0x10, 0x0000_0320)).toBe(0xc25);
  expect(afterWriting(0x14, 7)).toBe(0);
  expect(afterWriting(0x18, 0x1234_5678)).toBe(0xedcb_a987);
  expect(afterWriting(0x1c, 0xffff_ffff)).toBe(0);
  model.write64!(0, 0x20, 0x0123_4567_89ab_cdefn);
  expect(model.read64!(0, 0x20)).toBe(0x0123_4567_89ab_cdefn);
  expect(model.read(0, 0x24, 4)).toBe(0x0123_4567);
  model.reset();
  expect([0, 4, 8, 0xc, 0x10].map((o) => model.read(0, o, 4))).toEqual([0x1234_5678, 0, 1, 0, 0xf15]);
});

it('reads and writes by parts as bytes in memory would', () => {
  const bar0 = bar('4K', { a: u32(0x00), b: u16(0x04), c: u8(0x06), d: u64(0x08) });
  fc.assert(
    fc.property(
      fc.array(
        fc.record({ width: fc.constantFrom(1, 2, 4, 8), index: fc.nat(15), value: fc.bigInt(0n, 2n ** 64n - 1n), write: fc.boolean() }),
        { maxLength: 30 },
      ),
      (accesses) => {
        const model = device({ id: '1234:0001', bars: { bar0 } }).create(new TestHost());
        const bytes = new DataView(new ArrayBuffer(16));
        for (const { width, index, value, write } of accesses) {
          const offset = (index * width) % 16;
          if (write) {
            if (width === 8) model.write64!(0, offset, value);
            else model.write(0, offset, width as Width, Number(BigInt.asUintN(8 * width, value)));
            for (let i = 0; i < width; i++) if (offset + i !== 7) bytes.setUint8(offset + i, Number((value >> BigInt(8 * i)) & 0xffn));
          }
          if (width === 8) expect(model.read64!(0, offset)).toBe(bytes.getBigUint64(offset, true));
          else if (width === 4) expect(model.read(0, offset, 4)).toBe(bytes.getUint32(offset, true));
          else if (width === 2) expect(model.read(0, offset, 2)).toBe(bytes.getUint16(offset, true));
          else expect(model.read(0, offset, 1)).toBe(bytes.getUint8(offset));
        }
      },
    ),
  );
});

it('registers share bytes where one is read and the other written, or where a bank says which is there', () => {
  const model = device({
    id: '1234:0001',
    bars: {
      bar0: bar(
        8,
        { rx: u8(0, 'ro'), tx: u8(0, 'wo'), mode: u8(1), low: u8(2), high: u8(2), wide: u16(4), lower: u8(4), upper: u8(5) },
        { rx: { reset: 7 }, high: { when: (r) => r.mode === 1, reset: 0x55 }, wide: { when: (r) => r.mode !== 2 } },
        { type: 'io' },
      ),
    },
    on: {
      'bar0.tx'({ bar0 }, byte) {
        bar0.rx = byte + 1;
      },
    },
  }).create(new TestHost());
  model.write(0, 0, 1, 0x20);
  expect([model.read(0, 0, 1), model.read(0, 2, 1)]).toEqual([0x21, 0]);
  model.write(0, 2, 1, 3);
  model.write(0, 1, 1, 1);
  expect([model.read(0, 2, 1), model.read(0, 0, 4)]).toEqual([0x55, 0x0055_0121]);
  model.write(0, 2, 1, 4);
  model.write(0, 4, 2, 0xabcd);
  model.write(0, 1, 1, 2);
  expect([model.read(0, 2, 1), model.read(0, 4, 2)]).toEqual([3, 0]);
  model.write(0, 4, 2, 0xeeff);
  expect(model.read(0, 5, 1)).toBe(0xee);
  model.write(0, 1, 1, 1);
  expect([model.read(0, 2, 1), model.read(0, 4, 2)]).toEqual([4, 0xabcd]);
  expect(() => bar(8, { a: u8(0), b: u8(0) })).toThrow('register b at 0x0 overlaps a');
  expect(() => bar(8, { a: u8(0, 'ro'), b: u8(0, 'ro') })).toThrow('overlaps');
  expect(() => bar(8, { a: u16(0), b: u8(1) }, { b: { when: () => true } })).toThrow('would take a part of a');
});

it('answers only the widths a register takes, and holes as declared', () => {
  const bar0 = bar(
    '1M',
    { a: u32(0x00), q: u64(0x80) },
    { a: { widths: [4], reset: 1 }, q: { widths: [4, 8], zeroExtend: true } },
    { holes: 'ones' },
  );
  const model = device({ id: '1234:0001', bars: { bar0 } }).create(new TestHost());
  expect([model.read(0, 0, 1), model.read(0, 0, 2), model.read(0, 0, 4), model.read64!(0, 0)]).toEqual([0xff, 0xffff, 1, 2n ** 64n - 1n]);
  model.write(0, 0, 2, 7);
  model.write64!(0, 0, 7n);
  expect(model.read(0, 0, 4)).toBe(1);
  model.write64!(0, 0x80, 0x1111_1111_2222_2222n);
  expect([model.read(0, 0x80, 4), model.read(0, 0x84, 4)]).toEqual([0x2222_2222, 0xffff_ffff]);
  model.write(0, 0x84, 4, 5);
  expect(model.read64!(0, 0x80)).toBe(0x1111_1111_2222_2222n);
  model.write(0, 0x80, 4, 0x8000_0001);
  expect(model.read64!(0, 0x80)).toBe(0x8000_0001n);
  for (const offset of [4, 0x7c, 0x88, 0x4_0000, 0xf_fffc]) expect(model.read(0, offset, 4)).toBe(0xffff_ffff);
  expect(model.read(3, 0, 4)).toBe(0xffff_ffff);
});

it('handlers get the value written and the value before', () => {
  const seen: unknown[] = [];
  const model = device({
    id: '1234:0001',
    bars: { bar0: bar('4K', { a: u32(0), q: u64(8), f: u32(0x10, { go: bit(0) }) }, { a: { writable: 0xff, reset: 1 } }) },
    on: {
      'bar0.a': (dev, written, before) => void seen.push(['a', written, before, dev.bar0.a]),
      'bar0.q': (_, written, before) => void seen.push(['q', written, before]),
      'bar0.f': (dev, written) => {
        seen.push(['f', written, dev.bar0.f.go]);
        dev.bar0.f.go = 0;
      },
    },
  }).create(new TestHost());
  model.write(0, 0, 4, 0x1234);
  model.write(0, 1, 1, 0xab);
  model.write(0, 8, 4, 1);
  model.write(0, 12, 4, 2);
  model.write(0, 0x10, 4, 3);
  expect(seen).toEqual([
    ['a', 0x1234, 1, 0x34],
    ['a', 0xab34, 0x34, 0x34],
    ['q', 1n, 0n],
    ['q', 0x2_0000_0001n, 1n],
    ['f', 3, 1],
  ]);
  expect(model.read(0, 0x10, 4)).toBe(0);
});

it('a handler in `read` makes up the value that a read shows', () => {
  const host = new TestHost();
  const model = device({
    id: '1234:0001',
    bars: { bar0: bar('4K', { ns: u64(0, 'ro'), events: u32(8, 'ro') }) },
    state: () => ({ events: 3 }),
    read: {
      'bar0.ns': (dev) => BigInt(dev.clock.nowNs()),
      'bar0.events': (dev) => dev.state.events--,
    },
  }).create(host);
  host.clock.advance(5000);
  expect(model.read64!(0, 0)).toBe(5_000_000_000n);
  expect(model.read(0, 4, 4)).toBe(1);
  expect([model.read(0, 8, 4), model.read(0, 8, 4)]).toEqual([3, 2]);
});

it('registers keep answering while a handler waits', async () => {
  const host = new TestHost();
  const model = device({
    id: '1234:0001',
    msi: 1,
    bars: { bar0: bar('4K', { go: u32(0), busy: u32(4) }) },
    on: {
      async 'bar0.go'(dev) {
        dev.bar0.busy = 1;
        await dev.sleep(10);
        dev.bar0.busy = 0;
        dev.irq.trigger(0);
      },
    },
  }).create(host);
  model.write(0, 0, 4, 1);
  expect(model.read(0, 4, 4)).toBe(1);
  host.clock.advance(10);
  await settle();
  expect(model.read(0, 4, 4)).toBe(0);
  expect(host.irqEvents).toEqual(['trigger 0']);
});

it('a handler started before a reset reaches neither DMA nor interrupts nor registers afterwards', async () => {
  const host = new TestHost();
  const seen: string[] = [];
  const model = device({
    id: '1234:0001',
    msi: 1,
    bars: { bar0: bar('4K', { sleep: u32(0), dma: u32(4), own: u32(8), timer: u32(12), mark: u32(16) }) },
    state: () => ({ lives: 1 }),
    on: {
      async 'bar0.sleep'(dev) {
        await dev.sleep(10);
        seen.push('slept');
      },
      async 'bar0.dma'(dev) {
        await dev.dma.read(host.base, 4);
        seen.push('read');
      },
      async 'bar0.own'(dev) {
        await new Promise<void>((resolve) => host.clock.after(10, resolve));
        dev.bar0.mark = 77;
        dev.irq.raise();
        dev.irq.trigger(0);
        dev.dma.tryWrite(host.base, Uint8Array.of(1));
        dev.after(1, () => seen.push('after'));
        await dev.dma.write(host.base, Uint8Array.of(1));
        seen.push('wrote');
      },
      'bar0.timer'(dev) {
        dev.after(10, () => seen.push('timer'));
        dev.irq.raise();
      },
    },
  }).create(host);
  host.dmaDelayMs = 10;
  for (const offset of [0, 4, 8, 12]) model.write(0, offset, 4, 1);
  model.reset();
  expect(host.irqEvents).toEqual(['raise', 'lower']);
  host.clock.advance(100);
  await settle();
  expect(seen).toEqual([]);
  expect(host.irqEvents).toEqual(['raise', 'lower']);
  expect(host.memory[0]).toBe(0);
  expect(model.read(0, 16, 4)).toBe(0);
  expect(host.clock.pendingTimers).toBe(0);
  expect(host.logged).toEqual([]);
});

it('errors of handlers are logged and go no further', async () => {
  const host = new TestHost();
  const model = device({
    id: '1234:0001',
    name: 'broken',
    bars: {
      bar0: bar(
        '4K',
        { sync: u32(0), async: u32(4), dma: u32(8), read: u32(12), map: u32(16) },
        {
          map: {
            show: () => {
              throw new Error('map');
            },
          },
        },
      ),
    },
    on: {
      'bar0.sync'() {
        throw new Error('sync');
      },
      async 'bar0.async'() {
        throw new Error('async');
      },
      async 'bar0.dma'(dev) {
        await dev.dma.read(0xdead_0000, 16);
      },
    },
    read: {
      'bar0.read'() {
        throw new Error('read');
      },
    },
  }).create(host);
  for (const offset of [0, 4, 8]) model.write(0, offset, 4, 1);
  expect(model.read(0, 12, 4)).toBe(0xffff_ffff);
  expect(model.read(0, 16, 4)).toBe(0xffff_ffff);
  await settle();
  expect(host.logged.map((l) => [l.level, l.message.split('\n')[0]])).toEqual([
    ['error', 'broken: bar0.sync failed: Error: sync'],
    ['error', 'broken: a read of BAR 0 at 0xc failed: Error: read'],
    ['error', 'broken: a read of BAR 0 at 0x10 failed: Error: map'],
    ['error', 'broken: bar0.async failed: Error: async'],
    ['warn', 'broken: bar0.dma: DMA fault at 0xdead0000: not-mapped'],
  ]);
});

it('S0-08 a register written in a loop neither floods the log nor piles up work', async () => {
  const host = new TestHost();
  let started = 0;
  let acks = 0;
  const model = device({
    id: '1234:0001',
    bars: { bar0: bar('4K', { go: u32(0), ack: u32(4), bad: u32(8) }) },
    on: {
      async 'bar0.go'(dev) {
        started++;
        await dev.sleep(1000);
      },
      'bar0.ack'() {
        acks++;
      },
      'bar0.bad'() {
        throw new Error('bad');
      },
    },
  }).create(host);
  for (let i = 0; i < 10_000; i++) {
    model.write(0, 0, 4, i);
    model.write(0, 4, 4, i);
    model.write(0, 8, 4, i);
  }
  expect(started).toBe(PENDING_MAX);
  expect(acks).toBe(10_000);
  expect(host.logged).toHaveLength(2);
  host.clock.advance(1000);
  await settle();
  model.write(0, 0, 4, 1);
  expect(started).toBe(PENDING_MAX + 1);
});

it('a size read from a register does not decide how much is allocated', async () => {
  const host = new TestHost();
  const model = device({
    id: '1234:0001',
    bars: { bar0: bar('4K', { size: u64(0), go: u32(8) }) },
    on: {
      async 'bar0.go'(dev) {
        await dev.dma.read(host.base, dev.bar0.size);
      },
    },
  }).create(host);
  model.write64!(0, 0, 2n ** 63n);
  model.write(0, 8, 4, 1);
  await settle();
  expect(host.logged[0]!.message).toContain('DMA read of 9223372036854775808 bytes');
});

it('memory BARs are bytes to the model, and survive a reset', () => {
  const host = new TestHost();
  const model = device({
    id: '1234:0001',
    bars: { bar0: bar('4K', { fill: u32(0) }), bar1: memory('64K') },
    on: {
      'bar0.fill'(dev, value) {
        dev.bar1.fill(value);
      },
    },
  }).create(host);
  model.write(0, 0, 4, 9);
  model.reset();
  expect(host.barMemory(1).windows[0]![100]).toBe(9);
});

it('start, power and config run', () => {
  const seen: unknown[] = [];
  const model = device({
    id: '1234:0001',
    bars: { bar0: bar('4K', { a: u32(0) }) },
    on: {
      start: (dev) => {
        dev.bar0.a = 5;
        seen.push('start');
      },
      power: (_, state) => void seen.push(state),
      config: (_, offset, width) => void seen.push([offset, width]),
    },
  }).create(new TestHost());
  model.power!('D3hot');
  model.configWritten!(4, 2);
  model.reset();
  expect(seen).toEqual(['start', 'D3hot', [4, 2], 'start']);
  expect(model.read(0, 0, 4)).toBe(5);
});

it('a delay from a register is a delay, whatever it says', async () => {
  const host = new TestHost();
  let woken = 0;
  const model = device({
    id: '1234:0001',
    bars: { bar0: bar('4K', { delay: u32(0) }) },
    on: {
      async 'bar0.delay'(dev, ms) {
        await dev.sleep(ms === 1 ? Number.NaN : ms);
        woken++;
      },
    },
  }).create(host);
  model.write(0, 0, 4, 1);
  model.write(0, 0, 4, 0xffff_ffff);
  host.clock.advance(1);
  await settle();
  expect([woken, host.clock.pendingTimers]).toEqual([1, 1]);
});

it('handlers report errors and wake their host; one of before a reset does neither', () => {
  let stale: { reportError(kind: 'fatal'): boolean; wake(): boolean } | undefined;
  const host = new TestHost();
  const model = device({
    id: '1234:0001',
    pm: { pme: true, dsi: true },
    extendedCapabilities: [aer()],
    bars: { bar0: bar('4K', { fail: u32(0), wake: u32(4) }) },
    on: {
      'bar0.fail'(dev, status) {
        stale = dev;
        dev.reportError('nonfatal', status);
      },
      'bar0.wake': (dev) => dev.wake(),
    },
  }).create(host);
  model.write(0, 0, 4, 0x4000);
  model.write(0, 4, 4, 1);
  expect([host.errors, host.wakes]).toEqual([[{ kind: 'nonfatal', status: 0x4000 }], 1]);
  model.reset();
  expect([stale!.reportError('fatal'), stale!.wake()]).toEqual([false, false]);
  expect([host.errors.length, host.wakes]).toEqual([1, 1]);
});
