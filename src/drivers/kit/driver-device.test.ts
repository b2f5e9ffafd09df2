import { inspect } from 'node:util';
import { expect, expectTypeOf, it } from 'vitest';
import { FakeDevice } from '../../../tests/kit/fake-device.ts';
import { bit, bits } from '../../base/bit-fields.ts';
import { ManualClock } from '../../base/clock.ts';
import { VfioError } from '../../base/errno.ts';
import { registers, u8, u16, u32, u64 } from '../../base/registers.ts';
import { DriverDevice } from './driver-device.ts';
import { InterruptWaiter } from './interrupts.ts';

const settle = async () => {
  for (let i = 0; i < 10; i++) await Promise.resolve();
};

function make() {
  const fake = new FakeDevice();
  const clock = new ManualClock();
  return { fake, clock, dev: DriverDevice.attach(fake, { clock }) };
}

/** The error of a call that must fail. */
function failure(call: () => unknown): VfioError {
  try {
    call();
  } catch (error) {
    if (error instanceof VfioError) return error;
    throw error;
  }
  throw new Error('it did not fail');
}

const Layout = registers({
  byte: u8(1),
  half: u16(2),
  status: u32(4, { run: bit(0), level: bits(7, 4), error: bit(8, 'w1c'), late: bit(9, 'w1c') }),
  wide: u64(8),
  cap: u64(16, { low: bits(15, 0), high: bits(35, 32) }),
});

it('reads and writes registers by name, each as one access of its width', () => {
  const { fake, dev } = make();
  const r = dev.bar(0, Layout);
  expectTypeOf(r.byte).toEqualTypeOf<number>();
  expectTypeOf(r.wide).toEqualTypeOf<bigint>();
  expectTypeOf(r.status.level).toEqualTypeOf<number>();
  expectTypeOf(r.cap.value).toEqualTypeOf<bigint>();
  r.byte = 0xff;
  // A negative number, such as `~mask`, stands for its low bits.
  r.half = -1;
  r.wide = -1n;
  expect([r.byte, r.half, r.wide]).toEqual([0xff, 0xffff, 2n ** 64n - 1n]);
  expect(fake.bar0.getUint8(0)).toBe(0);
  r.status.level = 15;
  r.status.run = 1;
  expect(fake.bar0.getUint32(4, true)).toBe(0xf1);
  fake.bar0.setUint32(4, 0xffff_ffff, true);
  expect([r.status.run, r.status.level, r.status.value]).toEqual([1, 15, 0xffff_ffff]);
  r.cap.high = 0xa;
  expect([r.cap.value, r.cap.high, r.cap.low]).toEqual([0xa_0000_0000n, 0xa, 0]);
});

it('a register that is not declared, and a value that does not fit, are errors that name it', () => {
  const { fake, dev } = make();
  // biome-ignore lint/suspicious/noExplicitAny: JavaScript that no compiler has seen
  const r: any = dev.bar(0, Layout);
  const bad: [() => unknown, string, string?][] = [
    [() => r.staus, "there is no register 'staus'", "Did you mean 'status'?"],
    [() => r.nothing, "there is no register 'nothing'", 'There is byte, half, status, wide, cap.'],
    [() => (r.hlaf = 1), "there is no register 'hlaf'", "Did you mean 'half'?"],
    [() => r.status.runn, "there is no field of register status: 'runn'", "Did you mean 'run'?"],
    [() => (r.status.levle = 1), "there is no field of register status: 'levle'", "Did you mean 'level'?"],
    [() => (r.byte = 0x100), 'byte is given 256; it takes an integer of 8 bits'],
    [() => (r.half = -0x8001), 'half is given -32769; it takes an integer of 16 bits'],
    [() => (r.status.value = 2 ** 40), 'status is given 1099511627776; it takes an integer of 32 bits'],
    [() => (r.half = 1.5), 'half is given 1.5; it takes an integer of 16 bits'],
    [() => (r.half = 'x'), 'half is given "x"; it takes an integer of 16 bits'],
    [() => (r.half = undefined), 'half is given undefined; it takes an integer of 16 bits'],
    [() => (r.half = Number.NaN), 'half is given NaN; it takes an integer of 16 bits'],
    [() => (r.half = 1n), 'half is given 1n; it takes an integer of 16 bits'],
    [() => (r.status.run = 2), 'status.run is given 2; it takes an integer of 1 bit'],
    [() => (r.status.level = 0x1f), 'status.level is given 31; it takes an integer of 4 bits'],
    [() => (r.wide = 4096), 'wide is given 4096; it takes a bigint of 64 bits: write 4096n'],
    [() => (r.wide = 2n ** 64n), 'wide is given 18446744073709551616n; it takes a bigint of 64 bits'],
  ];
  for (const [act, message, fix] of bad) {
    expect(failure(act), message).toMatchObject({ code: 'EINVAL', message, fix });
  }
  expect(() => (r.status = 1)).toThrow(TypeError);
  expect(new Uint8Array(fake.bar0.buffer).every((byte) => byte === 0)).toBe(true);
  // Tools may inspect the view as any object. They read no register.
  fake.bar0.getUint32 = () => expect.unreachable('a register was read');
  expect([r.then, 'nothing' in r, 'half' in r]).toEqual([undefined, false, true]);
  expect(inspect(r)).toContain('half (u16 at 0x2)');
  expect(inspect(r.status)).toBe('register status (u32 at 0x4) with run, level, error, late');
});

it('a register map with other values than registers is refused', () => {
  const registersOf = registers as (declared: Record<string, unknown>) => unknown;
  expect(failure(() => registersOf({ a: 4 }))).toMatchObject({ code: 'EINVAL', message: "registers(): 'a' is no register" });
  expect(failure(() => u32(2)).message).toBe('u32(0x2): the offset must be a multiple of 4');
});

it('a map lies at any offset of a BAR, and within the BAR', () => {
  const { fake, dev } = make();
  const there = dev.bar(0, registers({ a: u32(0), f: u32(4, { top: bit(31) }) }), { at: 0x100 });
  there.a = 5;
  there.f.top = 1;
  expect([fake.bar0.getUint32(0x100, true), fake.bar0.getUint32(0x104, true)]).toEqual([5, 0x8000_0000]);
  const { size } = dev.device.region(0).info;
  expect(failure(() => dev.bar(0, Layout, { at: size - 16 }))).toMatchObject({
    code: 'EINVAL',
    fix: `The BAR has 0x${size.toString(16)} bytes.`,
  });
});

it('a driver writes no register and no field that software only reads', () => {
  const { dev } = make();
  const r = dev.bar(0, registers({ id: u32(0, 'ro'), s: u32(4, { done: bit(0, 'ro'), go: bit(1) }) }));
  // @ts-expect-error it is read-only
  expect(failure(() => (r.id = 1)).message).toBe('id is read-only: a driver cannot write it');
  // @ts-expect-error it is read-only
  expect(failure(() => (r.s.done = 1)).message).toBe('s.done is read-only: a driver cannot write it');
  r.s.go = 1;
  expect([r.id, r.s.value]).toEqual([0, 2]);
});

it('writing a field does not clear its neighbours that ones clear', () => {
  const { fake, dev } = make();
  const r = dev.bar(0, Layout);
  fake.bar0.setUint32(4, 0x301, true);
  r.status.level = 2;
  expect(fake.bar0.getUint32(4, true)).toBe(0x021);
  fake.bar0.setUint32(4, 0x301, true);
  r.status.error = 1;
  expect(fake.bar0.getUint32(4, true)).toBe(0x101);
});

it('refuses wrong register declarations at load', () => {
  expect(() => u32(2)).toThrow('multiple of 4');
  expect(() => u8(0, { a: bit(8) })).toThrow('do not lie in a register of 8 bits');
});

it('maps a BAR once where it can be mapped, and names the existing BARs in the error for others', () => {
  const { fake, dev } = make();
  dev.bar(0);
  dev.bar(0);
  expect(fake.trace.filter((t) => t === 'map')).toHaveLength(1);
  expect(failure(() => dev.bar(1))).toMatchObject({ code: 'EINVAL', message: '0000:00:04.0 has no BAR 1', fix: 'It has BAR 0.' });
  expect(failure(() => dev.bar(7)).code).toBe('EINVAL');
  const unmappable = new FakeDevice();
  unmappable.mappable = false;
  DriverDevice.attach(unmappable).bar(0).write32(0, 5);
  expect([unmappable.bar0.getUint32(0, true), unmappable.trace.includes('map')]).toEqual([5, false]);
});

it('refuses a device that does not match, and closes it', () => {
  const fake = new FakeDevice();
  const error = failure(() => DriverDevice.attach(fake, { match: ['8086:0001', '8086:0002'] }));
  expect(error).toMatchObject({ code: 'ENXIO', message: '0000:00:04.0 is 1234:11e8, and this driver is for 8086:0001 or 8086:0002' });
  expect(fake.trace).toEqual(['close']);
  expect(DriverDevice.attach(new FakeDevice(), { match: '1234:11E8' }).config.ids).toBe('1234:11e8');
});

it('S2-38 switches memory decoding on and leaves bus mastering to the driver', () => {
  const { fake, dev } = make();
  expect(fake.trace).toEqual(['command 0x2']);
  expect(dev.busMaster).toBe(false);
  dev.busMaster = true;
  expect(dev.config.command).toBe(6);
});

it('finds capabilities, and ends on chains that loop', () => {
  const { fake, dev } = make();
  expect(dev.config.findCapability(5)).toBe(0);
  fake.config.setUint16(6, 0x10, true);
  fake.config.setUint8(0x34, 0x40);
  fake.config.setUint16(0x40, 0x5005, true);
  fake.config.setUint16(0x50, 0x4011, true);
  expect([5, 0x11, 0x10].map((id) => dev.config.findCapability(id))).toEqual([0x40, 0x50, 0]);
  expect(dev.config.findExtendedCapability(1)).toBe(0);
});

it('an interrupt ends a wait, or counts for the next one', async () => {
  const { fake, dev } = make();
  using irq = dev.msi.enable(2);
  fake.signal(1, 0);
  fake.signal(1, 0);
  expect(irq.pending(0)).toBe(2);
  await irq.next(0);
  await irq.next();
  const seen: number[] = [];
  const waits = [1, 2].map(async (i) => {
    await irq.next(1);
    seen.push(i);
  });
  fake.signal(1, 1);
  await settle();
  expect(seen).toEqual([1]);
  fake.signal(1, 1);
  await Promise.all(waits);
  fake.signal(1, 1);
  expect([irq.drain(1), irq.pending(1)]).toEqual([1, 0]);
  let heard = 0;
  using _listening = irq.listen(1, () => heard++);
  fake.signal(1, 1);
  expect(heard).toBe(1);
  expect(failure(() => irq.next(2)).code).toBe('EINVAL');
});

it('a wait ends after its timeout, and the error names a likely cause', async () => {
  const { clock, dev } = make();
  using irq = dev.msi.enable();
  const wait = irq.next(0, { timeoutMs: 1000 });
  clock.advance(1000);
  await expect(wait).rejects.toMatchObject({
    code: 'ETIMEDOUT',
    message: '0000:00:04.0: no MSI interrupt on vector 0 within 1000 ms',
    fix: expect.stringContaining('busMaster = true'),
  });
  dev.busMaster = true;
  const second = irq.next(0, { timeoutMs: 1000 });
  clock.advance(1000);
  await expect(second).rejects.toMatchObject({ fix: undefined });
  expect(clock.pendingTimers).toBe(0);
});

it('an interrupt that comes in time leaves no timer behind', async () => {
  const { fake, clock, dev } = make();
  using irq = dev.intx.enable();
  const wait = irq.next(0, { timeoutMs: 1000 });
  fake.signal(0);
  await wait;
  expect(clock.pendingTimers).toBe(0);
  irq.unmask();
  expect(fake.trace.at(-1)).toBe('unmask');
});

it('enable takes as many vectors as the device has, and no more', () => {
  const { fake, dev } = make();
  expect(dev.msi.count).toBe(4);
  expect(failure(() => dev.msi.enable(5))).toMatchObject({
    code: 'ENOSPC',
    message: '0000:00:04.0 has 4 MSI vectors; 5 cannot be enabled',
    fix: 'Enable from 1 to 4.',
  });
  expect(failure(() => dev.msix.enable(1))).toMatchObject({
    code: 'ENOSPC',
    message: '0000:00:04.0 has no MSI-X',
    fix: expect.stringContaining('MSI: dev.msi.enable(…)'),
  });
  for (const bad of [0, -1, 1.5, Number.NaN, 2 ** 53]) expect(failure(() => dev.msi.enable(bad)).code).toBe('EINVAL');
  fake.irqCounts[1] = 1;
  expect(failure(() => dev.msi.enable(0))).toMatchObject({
    message: '0000:00:04.0 has 1 MSI vector; 0 cannot be enabled',
    fix: 'Enable 1.',
  });
  fake.irqCounts[1] = 4;
  fake.vectorsAvailable = 2;
  expect(failure(() => dev.msi.enable(4)).message).toContain('2 of 4 MSI vectors');
});

it('interrupts of a kind are enabled once: a second enable() is EBUSY and leaves the first at work', async () => {
  const { fake, dev } = make();
  {
    using irq = dev.msi.enable(2);
    expect(failure(() => dev.msi.enable(1))).toMatchObject({
      code: 'EBUSY',
      message: '0000:00:04.0: MSI is enabled already, with 2 of its vectors',
    });
    fake.signal(1, 1);
    await irq.next(1);
  }
  using again = dev.msi.enable(1);
  expect(again.count).toBe(1);
});

it('after close every call says that the device is closed', () => {
  const { dev } = make();
  dev.close();
  expect(failure(() => dev.dma.alloc(4096))).toMatchObject({ code: 'ENODEV', message: 'no DMA buffer can be had: the device is closed' });
});

it('a wait fails when the device goes, and when its interrupts are disabled', async () => {
  const { fake, dev } = make();
  const irq = dev.msi.enable();
  const gone = irq.next();
  fake.emit({ kind: 'gone', reason: 'unplugged' });
  await expect(gone).rejects.toMatchObject({ code: 'ENODEV', message: '0000:00:04.0 is gone: unplugged' });
  await expect(irq.next()).rejects.toMatchObject({ code: 'ENODEV' });
  const other = make();
  const disabled = other.dev.msi.enable();
  const wait = disabled.next();
  disabled[Symbol.dispose]();
  await expect(wait).rejects.toMatchObject({ code: 'ENODEV', message: '0000:00:04.0: MSI was disabled' });
});

it('a sink keeps its count, and takes no signal after its last put', () => {
  const sink = new InterruptWaiter(new ManualClock());
  expect(sink.get().references).toBe(2);
  sink.put();
  sink.signal();
  sink.put();
  sink.signal();
  expect([sink.references, sink.total]).toEqual([0, 1]);
});

it('allocates IOVAs first fit, within the ranges and the device’s address bits', () => {
  const { fake, dev } = make();
  const a = dev.dma.alloc(5000);
  const b = dev.dma.alloc(1);
  const c = dev.dma.alloc(4096, { iova: 0x5000n });
  expect([a.iova, b.iova, c.iova]).toEqual([0x10_0000n, 0x10_2000n, 0x5000n]);
  expect([a.size, a.bytes.length, fake.mappings.get(a.iova)!.size]).toEqual([5000, 5000, 8192]);
  a[Symbol.dispose]();
  a[Symbol.dispose]();
  expect(dev.dma.alloc(4096).iova).toBe(0x10_0000n);
  expect(dev.dma.alloc(8192).iova).toBe(0x10_3000n);
  expect(failure(() => dev.dma.alloc(2 ** 20, { addressBits: 20 })).code).toBe('ENOSPC');
  fake.ranges.splice(0, 2, { first: 0xfef0_0000n, last: 0xfef0_ffffn });
  expect(dev.dma.alloc(4096).iova).toBe(0xfef0_0000n);
  expect(failure(() => dev.dma.alloc(2 ** 20)).code).toBe('ENOSPC');
  expect(fake.memoryAlive).toBe(dev.dma.buffers);
  for (const bad of [0, -1, 1.5, Number.NaN, 2 ** 53, 2 ** 32 + 1]) expect(failure(() => dev.dma.alloc(bad)).code).toBe('EINVAL');
});

it('begins large buffers at a multiple of 2 MiB, where there is room for that', () => {
  const { fake, dev } = make();
  expect([dev.dma.alloc(4096).iova, dev.dma.alloc(2 ** 21).iova, dev.dma.alloc(2 ** 21 + 1).iova]).toEqual([
    0x10_0000n,
    0x20_0000n,
    0x40_0000n,
  ]);
  fake.ranges.splice(0, 2, { first: 0x1000_1000n, last: 0x1020_0fffn });
  expect(dev.dma.alloc(2 ** 21).iova).toBe(0x1000_1000n);
});

it('S1-07 steps over mappings of others in the same container', () => {
  const { fake, dev } = make();
  const other = fake.dma.allocate(3 * 4096);
  fake.dma.map({ iova: 0x10_0000n, memory: other });
  expect(dev.dma.alloc(4096).iova).toBe(0x10_3000n);
  expect(failure(() => dev.dma.alloc(4096, { iova: 0x10_1000n })).code).toBe('EEXIST');
});

it('S2-30 close quiets the device before memory is unmapped, and closes it last', () => {
  const { fake, dev } = make();
  let owned = 0;
  const owner = { [Symbol.dispose]: () => owned++ };
  const with_ = DriverDevice.attach(fake, { owns: owner });
  with_.bar(0);
  with_.busMaster = true;
  with_.msi.enable();
  with_.dma.alloc(4096);
  fake.trace.length = 0;
  with_.close();
  with_.close();
  expect(fake.trace).toEqual(['command 0x2', 'disable', 'unmap 0x100000', 'unmap BAR', 'close']);
  expect([owned, fake.memoryAlive, fake.mappings.size, fake.sinks.size]).toEqual([1, 0, 0, 0]);
  dev.close();
  expect(fake.listeners).toBe(0);
});

it('polls until a condition holds, or gives up', async () => {
  const { clock, dev } = make();
  let done = false;
  const wait = dev.until(() => done, { timeoutMs: 10 });
  clock.advance(5);
  await settle();
  done = true;
  clock.advance(1);
  await wait;
  const never = expect(dev.until(() => false, { timeoutMs: 2, everyMs: 1 })).rejects.toMatchObject({ code: 'ETIMEDOUT' });
  for (let i = 0; i < 4; i++) {
    clock.advance(1);
    await settle();
  }
  await never;
});

it("S2-41 a request for the device goes to the driver's own listener, or else to onRequest", () => {
  const fake = new FakeDevice();
  const asked: string[] = [];
  const dev = DriverDevice.attach(fake, { onRequest: (device) => asked.push(device) });
  fake.emit({ kind: 'request' });
  expect(asked).toEqual(['0000:00:04.0']);
  const own = dev.on(() => {});
  dev.on(() => {}, ['gone']);
  fake.emit({ kind: 'request' });
  expect(asked).toHaveLength(1);
  own[Symbol.dispose]();
  own[Symbol.dispose]();
  fake.emit({ kind: 'request' });
  expect(asked).toHaveLength(2);
});
