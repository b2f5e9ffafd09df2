import { expect, it } from 'vitest';
import { simulate } from '../src/api/simulation.ts';
import { DriverDevice } from '../src/drivers/kit/driver-device.ts';
import { NvmeDriver } from '../src/drivers/nvme/nvme-driver.ts';
import { nvme } from '../src/models/nvme/nvme.ts';
import { MemoryStorage } from '../src/models/storage/memory-storage.ts';
import { heapGrowth } from './kit/heap-growth.ts';

const DEPTH = 32;
const READS = 32_000;
const PAGES = 256;

it('reads and writes of 4 KiB allocate nothing, in the driver, the engine and the model', async () => {
  const storage = new MemoryStorage(PAGES * 4096);
  const pattern = Uint8Array.from({ length: PAGES * 4096 }, (_, i) => (i >>> 12) ^ i);
  storage.write(0, pattern);
  const { device, owns } = simulate(nvme({ namespaces: [{ storage, blockSize: 4096 }] }));
  await using driver = await NvmeDriver.start(DriverDevice.attach(device, { owns }), { interrupts: 'poll', depth: DEPTH });
  using buffer = driver.dev.dma.alloc(DEPTH * 4096);
  const ns = driver.namespace(1);
  const queue = driver.queue(0);
  const base = Number(buffer.iova);
  let left = 0;
  let next = 0;
  let failed = 0;
  let writes = false;
  const submit = (tag: number) => {
    if (left-- <= 0) return;
    next = (next + 97) % PAGES;
    if (writes) queue.submitWrite(ns, next, 1, base + tag * 4096, tag);
    else queue.submitRead(ns, next, 1, base + tag * 4096, tag);
  };
  queue.onComplete = (tag, status) => {
    if (status !== 0) failed++;
    submit(tag);
  };
  const run = () => {
    left = READS;
    for (let tag = 0; tag < DEPTH; tag++) submit(tag);
    do queue.ring();
    while (queue.poll() > 0);
  };
  const before = queue.completed;
  // An object for each command would be 500 KB or more, a boxed number 380 KB; a look for
  // completions, of which there are 1000, may make one.
  expect(heapGrowth(run, 300_000)).toBeLessThan(300_000);
  expect(queue.completed - before).toBeGreaterThanOrEqual(READS);
  // The last read of tag 0 is one of the pages, whole.
  const page = buffer.bytes.subarray(0, 4096);
  expect(Array.from({ length: PAGES }, (_, i) => i).some((i) => page.every((byte, at) => byte === pattern[i * 4096 + at]))).toBe(true);
  writes = true;
  // A write needs a view of its data, of about 200 bytes: nothing else.
  expect(heapGrowth(run, 300 * READS)).toBeLessThan(300 * READS);
  expect([failed, queue.inFlight]).toEqual([0, 0]);
});
