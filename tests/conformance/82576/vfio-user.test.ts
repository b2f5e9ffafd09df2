/**
 * The 82576 driver over sockets, on models in another process: with memory that the server maps,
 * and with memory that it reaches by messages alone.
 */
import { afterAll, beforeAll } from 'vitest';
import type { Device } from '../../../src/abi/device.ts';
import { DriverDma } from '../../../src/drivers/kit/dma.ts';
import { DriverDevice } from '../../../src/drivers/kit/driver-device.ts';
import { HeapMemory } from '../../../src/sys/fake.ts';
import { VfioUserDevice } from '../../../src/vfio-user/client.ts';
import { CardsProcess } from './cards-process.ts';
import { netConformance } from './net-conformance.ts';
import type { NetSubject } from './subject.ts';

const TIMEOUT_MS = 120_000;

let cards: CardsProcess;
beforeAll(async () => {
  cards = await CardsProcess.start();
});
afterAll(() => cards[Symbol.asyncDispose]());

/** Buffers of this process, which no descriptor leads to. */
function ownMemory(device: Device): DriverDma {
  const { dma } = device;
  return new DriverDma({
    pageSizes: dma.pageSizes,
    ranges: dma.ranges,
    get available() {
      return dma.available;
    },
    allocate: HeapMemory.allocate,
    map: (request) => dma.map(request),
    unmap: (iova, size) => dma.unmap(iova, size),
    unmapAll: () => dma.unmapAll(),
  });
}

async function subject(memory: 'mapped' | 'remote'): Promise<NetSubject> {
  await cards.fresh();
  const opened: DriverDevice[] = [];
  const attach = (name: string) => {
    const device = VfioUserDevice.connect(cards.path(name), { timeoutMs: TIMEOUT_MS });
    const dev = DriverDevice.attach(device, memory === 'remote' ? { dma: ownMemory(device) } : {});
    opened.push(dev);
    return dev;
  };
  return {
    open: (card) => attach(`card${card}`),
    enableVfs: (count) => cards.enableVfs(count),
    openVf: (vf) => attach(`vf${vf}`),
    async unplug() {
      await cards.kill();
      cards = await CardsProcess.start();
    },
    async [Symbol.asyncDispose]() {
      for (const dev of opened) dev.close();
    },
  };
}

netConformance('vfio-user, with mapped memory', () => subject('mapped'));
netConformance('vfio-user, with remote memory', () => subject('remote'));
