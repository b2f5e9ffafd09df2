/** Queues: depths, numbers, many commands in flight, and each way to learn of completions. */
import { describe, expect, it } from 'vitest';
import type { NvmeDriver } from '../../../src/drivers/nvme/nvme-driver.ts';
import { LARGE, SMALL } from './disk.ts';
import { begin, type OpenNvme, pattern, same } from './subject.ts';

/**
 * Reads as many blocks as the ring has entries, in flight at once on every queue, until `count` are
 * done.
 */
async function ringLoad(driver: NvmeDriver, count: number): Promise<number> {
  const ns = driver.namespace(LARGE);
  const queues = Array.from({ length: driver.queueCount }, (_, i) => driver.queue(i));
  const depth = Math.min(...queues.map((q) => q.depth));
  using buffer = driver.dev.dma.alloc(queues.length * depth * 4096);
  const view = new DataView(buffer.bytes.buffer, buffer.bytes.byteOffset);
  let put = 0;
  let done = 0;
  let wrong = 0;
  await new Promise<void>((resolve) => {
    queues.forEach((queue, q) => {
      const at = (tag: number) => (q * depth + tag) * 4096;
      const lbas = new Float64Array(depth);
      const send = (tag: number) => {
        const lba = (put * 7919) % 1024;
        lbas[tag] = lba;
        if (!queue.submitRead(ns, lba, 1, Number(buffer.iova) + at(tag), tag)) throw new Error('the queue is full too early');
        put++;
      };
      queue.onComplete = (tag, status) => {
        if (status !== 0 || view.getUint32(at(tag), true) !== lbas[tag]) wrong++;
        done++;
        if (put < count) send(tag);
        if (done === count) resolve();
        // Commands that are submitted during a poll go with one doorbell after it.
        if (queue.inFlight > 0) queueMicrotask(() => queue.ring());
      };
      for (let tag = 0; tag < depth && put < count; tag++) send(tag);
      queue.ring();
    });
  });
  return wrong;
}

/** Block n of the namespace begins with n. */
async function number(driver: NvmeDriver): Promise<void> {
  const data = new Uint8Array(1024 * 4096);
  const view = new DataView(data.buffer);
  for (let i = 0; i < 1024; i++) view.setUint32(i * 4096, i, true);
  await driver.namespace(LARGE).write(0, data);
}

export function queueCases(open: OpenNvme): void {
  describe('queues', () => {
    it.each([1, 2, 31, 255])('4.1 %i in flight', async (depth) => {
      const { driver } = await begin(open, { depth });
      expect(driver.queue().depth).toBe(depth);
      await number(driver);
      expect(await ringLoad(driver, Math.min(3000, 50 * depth))).toBe(0);
    });

    it('4.1 thousands in flight, on every queue that there is', async () => {
      const { driver } = await begin(open, { queues: 64, depth: 1000 });
      expect([driver.queueCount, driver.queue(7).depth]).toEqual([8, 255]);
      await number(driver);
      expect(await ringLoad(driver, 10_000)).toBe(0);
      expect(Array.from({ length: 8 }, (_, i) => driver.queue(i).completed > 0)).not.toContain(false);
    });

    it.each(['msix', 'msi', 'intx', 'poll'] as const)('7.5 completions by %s', async (interrupts) => {
      const { driver } = await begin(open, { interrupts, queues: 3 });
      expect(driver.interrupts).toBe(interrupts);
      const lost: string[] = [];
      driver.on(({ kind }) => lost.push(kind));
      await number(driver);
      expect(await ringLoad(driver, 3000)).toBe(0);
      for (let i = 0; i < 50; i++) await driver.namespace(SMALL).flush();
      expect(lost).toEqual([]);
    });

    it('5.7 shadow doorbells: the same, with fewer writes of registers', async () => {
      const { driver, subject } = await begin(open, { doorbells: 'shadow', depth: 32 });
      expect(driver.shadowDoorbells).toBe(subject.mappedDoorbells !== true);
      await number(driver);
      const lost: string[] = [];
      driver.on(({ kind }) => lost.push(kind));
      expect(await ringLoad(driver, 5000)).toBe(0);
      for (let i = 0; i < 50; i++) await driver.namespace(SMALL).flush();
      expect(lost).toEqual([]);
    });

    it('promises by the thousand, each its own answer', async () => {
      const { driver } = await begin(open, { queues: 2, depth: 20 });
      const ns = driver.namespace(SMALL);
      const n = 2000;
      await Promise.all(Array.from({ length: n }, (_, i) => ns.write(i, pattern(512, i))));
      const blocks = await Promise.all(Array.from({ length: n }, (_, i) => ns.read(i, 1)));
      expect(blocks.findIndex((block, i) => !same(block, pattern(512, i)))).toBe(-1);
    });
  });
}
