import { describe, expect, it } from 'vitest';
import { Status } from '../../abi/nvme-status.ts';
import { type LoadOptions, type LoadQueue, runLoad } from './load.ts';
import type { Pattern } from './patterns.ts';

/** A queue whose commands take `delay` of the test's nanoseconds. */
class FakeQueue implements LoadQueue {
  onComplete: (tag: number, status: number) => void = () => {};
  readonly size: number;
  readonly seen: { readonly lba: number; readonly blocks: number; readonly isWrite: boolean }[] = [];
  mostInFlight = 0;
  failsAfter = Number.POSITIVE_INFINITY;
  interrupts = false;
  readonly #clock: { now: number };
  readonly #delay: number;
  #queued: number[] = [];
  #running: { readonly tag: number; readonly due: number }[] = [];

  constructor(clock: { now: number }, delay: number, size = 64) {
    this.#clock = clock;
    this.#delay = delay;
    this.size = size;
  }

  read(lba: number, blocks: number, tag: number): boolean {
    return this.#take(lba, blocks, tag, false);
  }

  write(lba: number, blocks: number, tag: number): boolean {
    return this.#take(lba, blocks, tag, true);
  }

  ring(): void {
    for (const tag of this.#queued.splice(0)) this.#running.push({ tag, due: this.#clock.now + this.#delay });
    if (this.interrupts) setImmediate(() => this.poll());
  }

  poll(): number {
    this.#clock.now += 10;
    const done = this.#running.filter(({ due }) => due <= this.#clock.now);
    this.#running = this.#running.filter(({ due }) => due > this.#clock.now);
    for (const { tag } of done) this.onComplete(tag, this.seen.length > this.failsAfter ? Status.LBA_OUT_OF_RANGE : 0);
    if (this.interrupts && this.#running.length > 0) setImmediate(() => this.poll());
    return done.length;
  }

  get inFlight(): number {
    return this.#queued.length + this.#running.length;
  }

  #take(lba: number, blocks: number, tag: number, isWrite: boolean): boolean {
    if (this.inFlight === this.size) return false;
    expect(this.#queued.includes(tag) || this.#running.some((r) => r.tag === tag)).toBe(false);
    this.#queued.push(tag);
    this.seen.push({ lba, blocks, isWrite });
    this.mostInFlight = Math.max(this.mostInFlight, this.inFlight);
    return true;
  }
}

function rig(delay: number, options: Partial<LoadOptions> = {}, queues = 1) {
  const clock = { now: 0 };
  const made = Array.from({ length: queues }, () => new FakeQueue(clock, delay));
  const run = () =>
    runLoad(made, {
      pattern: 'randread',
      blocks: 1000,
      blocksPerCommand: 8,
      blockSize: 512,
      depth: 4,
      seconds: 1e-4,
      warmupSeconds: 1e-5,
      now: () => clock.now++,
      ...options,
    });
  return { queues: made, queue: made[0]!, run };
}

describe('runLoad', () => {
  it('keeps so many commands in flight on each queue, and leaves none', async () => {
    const { queues, run } = rig(5000, { depth: 7 }, 3);
    await run();
    expect(queues.map((queue) => queue.mostInFlight)).toEqual([7, 7, 7]);
    expect(queues.map((queue) => queue.inFlight)).toEqual([0, 0, 0]);
  });

  it('reports rates and latencies that fit together (Little’s law)', async () => {
    const { run } = rig(5000, { seconds: 1e-3 });
    const { iops, seconds, latency, bytesPerSecond, reads, writes } = await run();
    expect(writes).toBe(0);
    expect(latency.percentile(50)).toBeGreaterThanOrEqual(5000);
    expect(iops).toBeCloseTo(reads / seconds);
    expect(bytesPerSecond).toBeCloseTo(iops * 4096);
    expect((iops * latency.mean) / 1e9).toBeGreaterThan(3.5);
    expect((iops * latency.mean) / 1e9).toBeLessThan(4.5);
  });

  it.each<[Pattern, readonly boolean[]]>([
    ['randread', [false]],
    ['read', [false]],
    ['randwrite', [true]],
    ['write', [true]],
    ['randrw', [false, true]],
  ])('%s reads and writes what it says, within the namespace, on whole commands', async (pattern, kinds) => {
    const { queue, run } = rig(100, { pattern, blocks: 43 });
    await run();
    expect([...new Set(queue.seen.map(({ isWrite }) => isWrite))].sort()).toEqual(kinds);
    const places = queue.seen.map(({ lba }) => lba);
    expect([...new Set(places)].sort((a, b) => a - b)).toEqual([0, 8, 16, 24, 32]);
    if (pattern === 'read' || pattern === 'write') expect(places.slice(0, 7)).toEqual([0, 8, 16, 24, 32, 0, 8]);
    else expect(places.slice(0, 20)).not.toEqual(Array.from({ length: 20 }, (_, i) => (i % 5) * 8));
  });

  it('spreads random places over namespaces larger than 2^32 commands', async () => {
    const { queue, run } = rig(100, { blocks: 2 ** 44, blocksPerCommand: 1, depth: 1 });
    await run();
    const high = queue.seen.filter(({ lba }) => lba >= 2 ** 43).length / queue.seen.length;
    expect(high).toBeGreaterThan(0.3);
    expect(high).toBeLessThan(0.7);
    expect(queue.seen.every(({ lba }) => Number.isInteger(lba) && lba < 2 ** 44)).toBe(true);
    expect(new Set(queue.seen.map(({ lba }) => lba % 1024)).size).toBeGreaterThan(20);
  });

  it('runs by interrupts too', async () => {
    const { queue, run } = rig(100, { interrupts: true });
    queue.interrupts = true;
    const { reads } = await run();
    expect(reads).toBeGreaterThan(4);
    expect(queue.inFlight).toBe(0);
  });

  it('ends with the first command that fails, naming it, with none in flight', async () => {
    const { queue, run } = rig(100, { seconds: 1e9 });
    queue.failsAfter = 50;
    await expect(run()).rejects.toThrow(/Read of 8 blocks at LBA \d+: LBA Out of Range/);
    expect(queue.inFlight).toBe(0);
  });

  it('ends at the signal, with the figures so far', async () => {
    const stop = new AbortController();
    const { queue, run } = rig(100, { seconds: 1e9, signal: stop.signal });
    setImmediate(() => setImmediate(() => stop.abort()));
    await run();
    expect(queue.inFlight).toBe(0);
  });

  it('rejects with ETIMEDOUT when answers stay away', async () => {
    await expect(rig(Number.POSITIVE_INFINITY, { patienceSeconds: 1e-7, seconds: 1e9 }).run()).rejects.toMatchObject({ code: 'ETIMEDOUT' });
  });

  it('refuses a queue that holds less than the depth, and a namespace smaller than a command', async () => {
    await expect(rig(100, { depth: 65 }).run()).rejects.toMatchObject({ code: 'ENOSPC' });
    await expect(rig(100, { blocks: 7 }).run()).rejects.toMatchObject({ code: 'EINVAL' });
  });
});
