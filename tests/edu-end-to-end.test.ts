/**
 * The edu driver on the edu model, through the whole engine: the sequence of
 * kernel-answers/linux-7.2/edu-irq-dma.txt as a driver runs it.
 */
import { expect, it } from 'vitest';
import { EduCommand } from '../src/abi/edu.ts';
import { Feature } from '../src/abi/vfio.ts';
import { simulate } from '../src/api/simulation.ts';
import { ManualClock, SystemClock } from '../src/base/clock.ts';
import { registers, u32 } from '../src/base/registers.ts';
import { EduDriver } from '../src/drivers/edu/edu-driver.ts';
import { DriverDevice } from '../src/drivers/kit/driver-device.ts';
import { edu } from '../src/models/edu/edu.ts';
import { bar, memory } from '../src/models/kit/bar.ts';
import { device } from '../src/models/kit/device.ts';
import type { DeviceModel } from '../src/pci/declaration.ts';

function attach(model: DeviceModel = edu(), clock: ManualClock | SystemClock = new SystemClock()) {
  const logged: string[] = [];
  const simulation = simulate(model, { clock, log: { log: (level, message) => logged.push(`${level}: ${message}`) } });
  const dev = DriverDevice.attach(simulation.device, { owns: simulation.owns, clock });
  return { ...simulation, dev, clock, logged };
}

for (const interrupts of ['msi', 'intx', 'poll'] as const) {
  it(`factorials and DMA both ways, by ${interrupts}`, async () => {
    using dev = attach().dev;
    using driver = new EduDriver(dev, { interrupts, timeoutMs: 120_000 });
    expect(driver.version).toEqual({ major: 1, minor: 0 });
    expect([await driver.factorial(5), await driver.factorial(12), await driver.factorial(34)]).toEqual([120, 479001600, 0]);
    using ram = driver.alloc(8192);
    const text = new TextEncoder().encode('through the IOMMU');
    ram.bytes.set(text);
    await driver.copyToDevice(ram.iova, text.length, 100);
    await driver.copyFromDevice(ram.iova + 4096n, text.length, 100);
    expect(ram.bytes.subarray(4096, 4096 + text.length)).toEqual(text);
    if (interrupts === 'poll') await expect(driver.interrupt(2)).rejects.toMatchObject({ code: 'EINVAL' });
    else for (const cause of [0xab, 0xab]) expect(await driver.interrupt(cause)).toBe(cause);
  });
}

it('DMA that may not land does not: unmapped, read-only, or before bus mastering (S2-38)', async () => {
  using dev = attach().dev;
  using driver = new EduDriver(dev, { timeoutMs: 120_000 });
  using ram = driver.alloc(4096);
  using readOnly = dev.dma.alloc(4096, { access: 1, addressBits: 28 });
  ram.bytes.fill(0x55);
  await driver.copyToDevice(ram.iova, 64);
  await driver.copyFromDevice(ram.iova + 4096n * 100n, 64);
  await driver.copyFromDevice(readOnly.iova, 64);
  expect(readOnly.bytes.every((b) => b === 0)).toBe(true);
  dev.busMaster = false;
  ram.bytes.fill(0);
  const { registers } = driver;
  registers.dmaSource = 0x4_0000n;
  registers.dmaDestination = ram.iova;
  registers.dmaCount = 64n;
  registers.dmaCommand = EduCommand.RUN | EduCommand.TO_RAM;
  await dev.until(() => registers.dmaCommand === EduCommand.TO_RAM, { timeoutMs: 120_000 });
  expect(ram.bytes.every((b) => b === 0)).toBe(true);
});

it('B.9 INTX: it fires again when unmasked but not acknowledged, and stays quiet when acknowledged', async () => {
  const clock = new ManualClock();
  using dev = attach(edu(), clock).dev;
  const { registers } = new EduDriver(dev, { interrupts: 'poll' });
  using irq = dev.intx.enable();
  registers.irqRaise = 1;
  expect(irq.pending()).toBe(1);
  registers.irqRaise = 2;
  expect(irq.pending()).toBe(1);
  irq.unmask();
  expect(irq.pending()).toBe(2);
  registers.irqAcknowledge = 3;
  irq.unmask();
  expect(irq.pending()).toBe(2);
});

it('edu has no reset of its own: EINVAL', () => {
  using dev = attach().dev;
  expect(() => dev.reset()).toThrow(expect.objectContaining({ code: 'EINVAL' }));
});

it('a kit device is reset by FLR: registers, handlers and interrupts start afresh', async () => {
  const clock = new ManualClock();
  const Registers = registers({ a: u32(0), go: u32(4) });
  const { dev, logged } = attach(
    device({
      id: '1234:0001',
      msi: 2,
      bars: { bar0: bar('4K', Registers, { a: { reset: 5 } }) },
      on: {
        async 'bar0.go'({ sleep, irq }, vector) {
          await sleep(10);
          irq.trigger(vector);
        },
      },
    }),
    clock,
  );
  using _dev = dev;
  const card = dev.bar(0, Registers);
  dev.busMaster = true;
  using irq = dev.msi.enable(2);
  card.go = 1;
  clock.advance(10);
  await irq.next(1);
  card.a = 7;
  card.go = 0;
  dev.reset();
  dev.config.memoryEnabled = true;
  clock.advance(100);
  await Promise.resolve();
  expect([card.a, irq.pending(0)]).toEqual([5, 0]);
  expect(logged.filter((l) => l.startsWith('error'))).toEqual([]);
});

it('MSI-X: messages by vector, the model does not see the table', async () => {
  using dev = attach(
    device({
      id: '1234:0001',
      msix: 4,
      bars: { bar0: bar('4K', { go: u32(0) }) },
      on: { 'bar0.go': ({ irq }, vector) => irq.trigger(vector) },
    }),
  ).dev;
  dev.busMaster = true;
  using irq = dev.msix.enable(3);
  const bar0 = dev.bar(0);
  for (const vector of [2, 0, 3]) bar0.write32(0, vector);
  await irq.next(2);
  await irq.next(0);
  expect([0, 1, 2].map((v) => irq.pending(v))).toEqual([0, 0, 0]);
});

it('memory BARs are shared between driver and model without copies', () => {
  using dev = attach(
    device({
      id: '1234:0001',
      bars: { bar0: bar('4K', { fill: u32(0) }), bar2: memory('1M', { type: 'mem64', prefetchable: true }) },
      on: { 'bar0.fill': ({ bar2 }, value) => bar2.fill(value) },
    }),
  ).dev;
  const ram = dev.bar(2);
  ram.write32(0x100, 0x1234_5678);
  dev.bar(0).write32(0, 0xab);
  expect(ram.read32(0x100)).toBe(0xabab_abab);
});

it('the machine takes the bus master bit and DMA back at close, and nothing is left', () => {
  const { dev, machine, logged } = attach();
  const driver = new EduDriver(dev);
  driver.alloc(4096);
  const [group] = machine.groups.values();
  dev.close();
  expect(group!.file).toBeNull();
  expect(machine.process.lockedBytes ?? 0).toBe(0);
  expect(logged.filter((l) => /^(warn|error)/.test(l))).toEqual([]);
  expect(() => driver.registers.identification).toThrow(expect.objectContaining({ code: expect.stringMatching(/ENODEV|EFAULT/) }));
});

it('features the device has are probed through the raw device', () => {
  using dev = attach().dev;
  expect(() => dev.device.feature({ feature: Feature.BUS_MASTER, probe: true, data: new Uint8Array(0) })).toThrow(
    expect.objectContaining({ code: 'ENOTTY' }),
  );
});

it('impossible requests are refused with an errno, and nothing changes', () => {
  using dev = attach().dev;
  const bad = [Number.NaN, -1, 1.5, 2 ** 53, Number.POSITIVE_INFINITY, 6, 9, 40];
  for (const value of bad) {
    expect(() => dev.bar(value), `bar ${value}`).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    if (value !== 6 && value !== 9 && value !== 40) {
      expect(() => dev.dma.alloc(value), `alloc ${value}`).toThrow(expect.objectContaining({ code: 'EINVAL' }));
      expect(() => dev.dma.alloc(4096, { addressBits: value })).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    }
    expect(() => dev.msi.enable(value), `enable ${value}`).toThrow(
      expect.objectContaining({ code: expect.stringMatching(/EINVAL|ENOSPC/) }),
    );
  }
  for (const iova of [-4096n, 1n, 2n ** 64n, 0xfee0_0000n, 2n ** 60n]) {
    expect(() => dev.dma.alloc(4096, { iova }), `iova ${iova}`).toThrow(
      expect.objectContaining({ code: expect.stringMatching(/EINVAL|EOVERFLOW/) }),
    );
  }
  expect(() => dev.dma.alloc(4096, { access: 0 as never })).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  using irq = dev.msi.enable(1);
  for (const timeoutMs of [Number.NaN, -1, 2 ** 31, Number.POSITIVE_INFINITY]) {
    expect(() => irq.next(0, { timeoutMs })).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  }
  expect(dev.dma.buffers).toBe(0);
  expect(dev.dma.space.available).toBe(65535);
});
