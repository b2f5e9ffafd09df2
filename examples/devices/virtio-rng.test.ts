/** The entropy device, driven as virtio 1.2 says. */
import { open, TestHost } from 'vfio-ts';
import { expect, it } from 'vitest';
import virtioRng, { Status, Virtio, WINDOW, Window } from './virtio-rng.ts';

const VERSION_1 = 1;
const QUEUE = { size: 8, descriptors: 0x0000, driver: 0x1000, device: 0x2000, buffers: 0x4000 };

/** A device whose driver has gone through 3.1.1 of the specification. */
function ready(mode: 'msix' | 'intx' = 'msix') {
  const host = new TestHost({ mode, vectors: 2 });
  let asked = 0;
  const instance = host.plug(virtioRng({ source: (into) => void into.fill(0xa0 + asked++) }));
  const registers = host.bar(4, Virtio);
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

it('offers version 1, and takes no driver without it', () => {
  const { registers } = ready();
  registers.deviceFeatureSelect = 1;
  expect([registers.deviceFeature, registers.deviceStatus & Status.FEATURES_OK]).toEqual([VERSION_1, Status.FEATURES_OK]);
  registers.deviceStatus = 0;
  registers.deviceStatus = Status.ACKNOWLEDGE | Status.DRIVER | Status.FEATURES_OK;
  expect(registers.deviceStatus & Status.FEATURES_OK).toBe(0);
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
  const window = dev.config.registers(Window);
  window.bar = 4;
  window.offset = 0x18;
  window.length = 2;
  expect([window.data & 0xffff, dev.bar(4, Virtio).queueSize]).toEqual([64, 64]);
});
