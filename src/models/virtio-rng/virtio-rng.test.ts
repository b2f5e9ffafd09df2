/** The entropy device, driven as virtio 1.2 says. */
import { expect, it } from 'vitest';
import { VirtioFeatureHigh as FeatureHigh, VirtioStatus as Status } from '../../abi/virtio.ts';
import { open } from '../../api/open.ts';
import { TestHost } from '../kit/test-host.ts';
import { VirtioRngRegisters, VirtioRngWindow, virtioRng, WINDOW } from './virtio-rng.ts';

const { VERSION_1, ACCESS_PLATFORM } = FeatureHigh;
const QUEUE = { size: 8, descriptors: 0x0000, driver: 0x1000, device: 0x2000, buffers: 0x4000 };

/** A device whose driver has gone through 3.1.1 of the specification. */
function ready(mode: 'msix' | 'intx' = 'msix') {
  const host = new TestHost({ mode, vectors: 2 });
  let asked = 0;
  const instance = host.plug(virtioRng({ source: (into: Uint8Array) => void into.fill(0xa0 + asked++) }));
  const registers = host.bar(4, VirtioRngRegisters);
  const memory = new DataView(host.memory.buffer);
  registers.deviceStatus = 0;
  registers.deviceStatus = Status.ACKNOWLEDGE | Status.DRIVER;
  registers.driverFeatureSelect = 1;
  registers.driverFeature = VERSION_1;
  registers.deviceStatus |= Status.FEATURES_OK;
  registers.queueSelect = 0;
  registers.queueSize = QUEUE.size;
  registers.queueVector = 1;
  registers.queueDescriptors = host.base + BigInt(QUEUE.descriptors);
  registers.queueDriver = host.base + BigInt(QUEUE.driver);
  registers.queueDevice = host.base + BigInt(QUEUE.device);
  registers.queueEnable = 1;
  registers.deviceStatus |= Status.DRIVER_OK;
  /** Makes buffer `i` of so many bytes available. */
  const offer = (i: number, bytes: number) => {
    const at = QUEUE.descriptors + 16 * i;
    memory.setBigUint64(at, host.base + BigInt(QUEUE.buffers + 0x100 * i), true);
    memory.setUint32(at + 8, bytes, true);
    memory.setUint16(at + 12, 2, true); // for the device to write
    const index = memory.getUint16(QUEUE.driver + 2, true);
    memory.setUint16(QUEUE.driver + 4 + 2 * (index % QUEUE.size), i, true);
    memory.setUint16(QUEUE.driver + 2, (index + 1) & 0xffff, true);
  };
  const used = () => memory.getUint16(QUEUE.device + 2, true);
  const bytesOf = (i: number, count: number) => [...host.memory.subarray(QUEUE.buffers + 0x100 * i, QUEUE.buffers + 0x100 * i + count)];
  return { host, instance, registers, memory, offer, used, bytesOf };
}

it('offers version 1 and addresses of its IOMMU', () => {
  const { registers } = ready();
  registers.deviceFeatureSelect = 1;
  expect([registers.deviceFeature, registers.deviceStatus & Status.FEATURES_OK]).toEqual([VERSION_1 | ACCESS_PLATFORM, Status.FEATURES_OK]);
  registers.deviceFeatureSelect = 0;
  expect(registers.deviceFeature).toBe(0);
  registers.deviceFeatureSelect = 2;
  expect(registers.deviceFeature).toBe(0);
});

it.each([
  ['of before version 1', 0, 0, 0],
  ['with version 1 alone', 0, VERSION_1, Status.FEATURES_OK],
  ['with all that is offered', 0, VERSION_1 | ACCESS_PLATFORM, Status.FEATURES_OK],
  ['with packed rings, which are not offered', 0, VERSION_1 | 4, 0],
  ['with indirect descriptors, which are not offered', 1 << 28, VERSION_1, 0],
])('a driver %s', (_, low, high, accepted) => {
  const { registers } = ready();
  registers.deviceStatus = 0;
  registers.deviceStatus = Status.ACKNOWLEDGE | Status.DRIVER;
  for (const [select, bits] of [low, high].entries()) {
    registers.driverFeatureSelect = select;
    registers.driverFeature = bits;
  }
  registers.deviceStatus |= Status.FEATURES_OK;
  expect(registers.deviceStatus & Status.FEATURES_OK).toBe(accepted);
});

it('features stay as they are once they are settled', () => {
  const { registers } = ready();
  registers.driverFeatureSelect = 1;
  registers.driverFeature = 0;
  expect(registers.driverFeature).toBe(VERSION_1);
});

it('has one queue: others have no registers', () => {
  const { registers } = ready();
  registers.queueSelect = 1;
  registers.queueSize = 4;
  expect([registers.queueSize, registers.queueEnable]).toEqual([0, 0]);
  registers.queueSelect = 0;
  expect([registers.queueSize, registers.queueEnable]).toEqual([QUEUE.size, 1]);
});

it('fills the buffers of the queue and sends the message of its vector', async () => {
  const { host, registers, memory, offer, used, bytesOf } = ready();
  offer(0, 4);
  offer(1, 2);
  registers.notify = 0;
  await host.idle();
  expect([used(), bytesOf(0, 5), bytesOf(1, 3)]).toEqual([2, [0xa0, 0xa0, 0xa0, 0xa0, 0], [0xa1, 0xa1, 0]]);
  expect([memory.getUint32(QUEUE.device + 4, true), memory.getUint32(QUEUE.device + 8, true)]).toEqual([0, 4]);
  expect(host.irqEvents).toEqual(['trigger 1']);
});

it('notifications while it is at work are one more round', async () => {
  const { host, registers, offer, used } = ready();
  host.dmaDelayMs = 1;
  for (let i = 0; i < 6; i++) {
    offer(i, 8);
    registers.notify = 0;
  }
  await expect(host.idle()).rejects.toThrow('the clock stands still');
  await host.advance(100);
  expect([used(), host.irqEvents]).toEqual([6, ['trigger 1']]);
  await host.idle();
});

it('without MSI-X it raises its pin, and a read of the ISR lowers it', async () => {
  const { host, registers, offer } = ready('intx');
  offer(0, 1);
  registers.notify = 0;
  await host.idle();
  expect([host.asserted, registers.isr, registers.isr, host.asserted]).toEqual([true, 1, 0, false]);
});

it('a reset by its driver ends the work: nothing more is written', async () => {
  const { host, registers, offer, used } = ready();
  host.dmaDelayMs = 1;
  offer(0, 8);
  registers.notify = 0;
  registers.deviceStatus = 0;
  await host.advance(100);
  expect([used(), registers.queueEnable, registers.queueVector, host.irqEvents]).toEqual([0, 0, 0xffff, []]);
});

it('the window in config space reads and writes the BAR', () => {
  const { host, registers } = ready();
  const window = (offset: number, length: number) => {
    host.config.write(WINDOW + 4, 1, 4);
    host.config.write(WINDOW + 8, 4, offset);
    host.config.write(WINDOW + 12, 4, length);
  };
  window(0x12, 2);
  expect(host.config.read(WINDOW + 16, 4)).toBe(1);
  window(0x08, 4);
  host.config.write(WINDOW + 16, 4, 7);
  expect(registers.driverFeatureSelect).toBe(7);
  window(0x01, 4);
  expect(host.config.read(WINDOW + 16, 4)).toBe(0);
});

it('a driver behind VFIO finds its capabilities by id, and has the window', async () => {
  using dev = await open(virtioRng(), { match: '1af4:1044' });
  const types = dev.config.findCapabilities(0x09).map((at) => dev.config.read8(at + 3));
  expect(types).toEqual([1, 2, 3, 4, 5]);
  const window = dev.config.registers(VirtioRngWindow);
  window.bar = 4;
  window.offset = 0x18;
  window.length = 2;
  expect([window.data & 0xffff, dev.bar(4, VirtioRngRegisters).queueSize]).toEqual([64, 64]);
});

it('one chain gets 4096 bytes at most, over all its buffers, and buffers to read stay as they are', async () => {
  const { host, registers, memory, offer, used } = ready();
  offer(0, 3000);
  // Descriptor 0 goes on with 1, which the device reads, and 2.
  memory.setUint16(QUEUE.descriptors + 12, 2 | 1, true);
  memory.setUint16(QUEUE.descriptors + 14, 1, true);
  for (const [i, flags, next] of [
    [1, 1, 2],
    [2, 2, 0],
  ] as const) {
    const at = QUEUE.descriptors + 16 * i;
    memory.setBigUint64(at, host.base + BigInt(0x8000 + 0x2000 * i), true);
    memory.setUint32(at + 8, 0x2000, true);
    memory.setUint16(at + 12, flags, true);
    memory.setUint16(at + 14, next, true);
  }
  registers.notify = 0;
  await host.idle();
  expect([used(), memory.getUint32(QUEUE.device + 8, true)]).toEqual([1, 4096]);
  expect([host.memory[0xa000], host.memory[0xc000], host.memory[0xc000 + 1095], host.memory[0xc000 + 1096]]).toEqual([0, 0xa1, 0xa1, 0]);
});

it('sends no interrupt that the driver does not want', async () => {
  const { host, registers, memory, offer, used } = ready();
  memory.setUint16(QUEUE.driver, 1, true);
  offer(0, 4);
  registers.notify = 0;
  await host.idle();
  expect([used(), host.irqEvents]).toEqual([1, []]);
});

it.each([
  ['more chains than it has entries', (memory: DataView) => memory.setUint16(QUEUE.driver + 2, QUEUE.size + 1, true)],
  ['a head outside of its table', (memory: DataView) => memory.setUint16(QUEUE.driver + 4, QUEUE.size, true)],
  ['a chain that goes on outside of it', (memory: DataView) => memory.setUint32(QUEUE.descriptors + 12, 3 | (QUEUE.size << 16), true)],
  ['a chain without an end', (memory: DataView) => memory.setUint32(QUEUE.descriptors + 12, 3, true)],
  ['a buffer that is not mapped', (memory: DataView) => memory.setBigUint64(QUEUE.descriptors, 0n, true)],
])('a queue with %s: the device needs a reset, says so, and works after one', async (_, spoil) => {
  const { host, registers, memory, offer } = ready();
  registers.configVector = 0;
  offer(0, 4);
  spoil(memory);
  registers.notify = 0;
  await host.idle();
  expect([registers.deviceStatus & Status.NEEDS_RESET, host.irqEvents]).toEqual([Status.NEEDS_RESET, ['trigger 0']]);
  expect(host.logged.map(({ level }) => level)).toEqual(['warn']);
  registers.notify = 0;
  await host.idle();
  registers.deviceStatus = Status.ACKNOWLEDGE;
  expect([registers.deviceStatus, host.irqEvents.length]).toEqual([Status.ACKNOWLEDGE | Status.NEEDS_RESET, 1]);
  registers.deviceStatus = 0;
  expect([registers.deviceStatus, registers.queueEnable]).toEqual([0, 0]);
});

it('the window reaches the structures and nothing else', () => {
  const { host, registers } = ready();
  const window = (bar: number, offset: number, length: number) => {
    host.config.write(WINDOW + 4, 1, bar);
    host.config.write(WINDOW + 8, 4, offset);
    host.config.write(WINDOW + 12, 4, length);
    return host.config.read(WINDOW + 16, 4);
  };
  expect(window(4, 0x12, 2)).toBe(1);
  for (const [bar, offset, length] of [
    [0, 0x12, 2],
    [5, 0, 4],
    [255, 0, 4],
    [4, 0x4000, 4],
    [4, 0xffff_fffc, 4],
    [4, 0x12, 3],
    [4, 0x12, 0],
    [4, 0x13, 2],
  ] as const) {
    expect(window(bar, offset, length)).toBe(0);
    host.config.write(WINDOW + 16, 4, 0xffff_ffff);
  }
  expect(registers.queueSelect).toBe(0);
});

it('the package has it by name, with bytes of the computer', async () => {
  using dev = await open('sim:virtio-rng', { match: '1af4:1044' });
  const registers = dev.bar(4, VirtioRngRegisters);
  const irq = dev.msix.enable(2);
  const buffer = dev.dma.alloc(0x4000);
  dev.busMaster = true;
  registers.deviceStatus = Status.ACKNOWLEDGE | Status.DRIVER;
  registers.driverFeatureSelect = 1;
  registers.driverFeature = VERSION_1 | ACCESS_PLATFORM;
  registers.deviceStatus |= Status.FEATURES_OK;
  registers.queueSize = 8;
  registers.queueVector = 1;
  registers.queueDescriptors = buffer.iova;
  registers.queueDriver = buffer.iova + 0x1000n;
  registers.queueDevice = buffer.iova + 0x2000n;
  registers.queueEnable = 1;
  registers.deviceStatus |= Status.DRIVER_OK;
  const memory = new DataView(buffer.bytes.buffer, buffer.bytes.byteOffset);
  memory.setBigUint64(0, buffer.iova + 0x3000n, true);
  memory.setUint32(8, 32, true);
  memory.setUint16(12, 2, true);
  memory.setUint16(0x1002, 1, true);
  registers.notify = 0;
  await irq.next(1, { timeoutMs: 10_000 });
  expect([memory.getUint16(0x2002, true), memory.getUint32(0x2008, true)]).toEqual([1, 32]);
  expect(buffer.bytes.subarray(0x3000, 0x3020).some((byte) => byte !== 0)).toBe(true);
});
