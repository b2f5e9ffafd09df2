/** Scripted sessions of drivers, which are the same on a model and at the end of a socket. */
import { VfioError } from '../../src/base/errno.ts';
import { EduDriver } from '../../src/drivers/edu/edu-driver.ts';
import type { DriverDevice } from '../../src/drivers/kit/driver-device.ts';
import { NvmeDriver } from '../../src/drivers/nvme/nvme-driver.ts';
import { edu } from '../../src/models/edu/edu.ts';
import { nvme } from '../../src/models/nvme/nvme.ts';
import { MemoryStorage } from '../../src/models/storage/memory-storage.ts';
import type { DeviceModel } from '../../src/pci/declaration.ts';
import { HeapMemory } from '../../src/sys/fake.ts';

/** The device and its driver are both that much older afterwards, and have done all that is due. */
export type Pass = (ms: number) => Promise<void>;

export interface DriverSession {
  model(): DeviceModel;
  run(dev: DriverDevice, pass: Pass): Promise<void>;
}

/** `work` needs `ms` of the device's time. */
async function within<T>(work: Promise<T>, pass: Pass, ms: number): Promise<T> {
  for (let i = 0; i < ms; i++) await pass(1);
  return await work;
}

const bytes = Uint8Array.from({ length: 4096 }, (_, i) => (i * 7) & 0xff);

export const sessions = {
  /**
   * Computation, DMA both ways and past the mapped memory, interrupts, and a reset that is refused.
   */
  edu: {
    model: () => edu({ factorialMs: 3, dmaMs: 2 }),
    async run(dev, pass) {
      using driver = new EduDriver(dev);
      using ram = driver.alloc(8192);
      ram.bytes.set(bytes);
      await within(driver.factorial(5), pass, 5);
      await within(driver.copyToDevice(ram.iova, 4096), pass, 5);
      await within(driver.copyFromDevice(ram.iova + 4096n, 4096), pass, 5);
      await within(driver.interrupt(2), pass, 2);
      // Nothing is mapped there: the transfer does not land.
      await within(driver.copyToDevice(0x800_0000n, 16), pass, 5);
      // It has no reset of its own: the refusal is an event.
      try {
        dev.reset();
      } catch (error) {
        if (!(error instanceof VfioError)) throw error;
      }
    },
  },
  /** DMA to memory that the driver does not share: the device reaches it by messages. */
  remote: {
    model: () => edu({ dmaMs: 2 }),
    async run(dev, pass) {
      using driver = new EduDriver(dev);
      using memory = HeapMemory.allocate(8192);
      memory.windows[0]!.set(bytes);
      dev.device.dma.map({ iova: 0x1_0000n, memory });
      await within(driver.copyToDevice(0x1_0000n, 4096), pass, 5);
      await within(driver.copyFromDevice(0x1_1000n, 4096), pass, 5);
      dev.device.dma.unmap(0x1_0000n, 8192n);
    },
  },
  /** Initialisation, Identify, writes and reads with two queues. */
  nvme: {
    model: () => nvme({ serial: 'E', namespaces: [{ storage: new MemoryStorage(2 ** 20), limits: { latencyMs: 1 } }] }),
    async run(dev, pass) {
      await using driver = await within(NvmeDriver.start(dev, { queues: 2, depth: 4 }), pass, 60);
      const ns = driver.namespace(1);
      for (let i = 0; i < 4; i++) await within(ns.write(8 * i, bytes), pass, 4);
      for (let i = 0; i < 4; i++) await within(ns.read(8 * i, 8), pass, 4);
      await within(ns.flush(), pass, 4);
      await within(driver.close(), pass, 20);
    },
  },
} satisfies Record<string, DriverSession>;
