/** The ring and its parts: slots, PRPs, doorbells and their shadows, bounce buffers. */
import fc from 'fast-check';
import { afterEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { bytes, clock, closeAll, failsWith, pass, start, within } from '../../../tests/kit/nvme/driver-under-test.ts';
import { FakeController } from '../../../tests/kit/nvme/fake-controller.ts';
import { NvmOpcode } from '../../abi/nvme.ts';
import { VfioError } from '../../base/errno.ts';
import { DriverDevice } from '../kit/driver-device.ts';
import { BouncePool } from './bounce-pool.ts';
import { DmaRange } from './dma-range.ts';
import { Doorbells } from './doorbells.ts';
import { listBytes, longestTransfer, PrpLists } from './prp.ts';

afterEach(closeAll);

const io = ({ queue }: { queue: number }) => queue === 1;

describe('4.3 PRPs', () => {
  it('4.3 describe any data, at any alignment, page by page', () => {
    const dev = DriverDevice.attach(new FakeController(), { clock });
    const pageSize = 4096;
    const maxBytes = 2 ** 17;
    const slots = 8;
    const range = DmaRange.alloc(dev, slots * listBytes(maxBytes, pageSize), pageSize);
    const lists = new PrpLists(range, slots, maxBytes, pageSize);
    const sqe = new Uint32Array(32);
    fc.assert(
      fc.property(
        fc.nat(slots - 1),
        fc.nat(2 ** 40).map((n) => 4 * n),
        fc.integer({ min: 1, max: maxBytes }),
        (slot, iova, size) => {
          lists.write(slot, sqe, 16, iova, size);
          const at = (i: number) => sqe[16 + i]! + sqe[17 + i]! * 2 ** 32;
          const first = Math.min(size, pageSize - (iova % pageSize));
          const rest = Math.ceil((size - first) / pageSize);
          const view = new DataView(range.bytes.buffer, range.bytes.byteOffset);
          const list = at(8) - range.iova;
          const pages =
            rest < 2 ? [at(8)].slice(0, rest) : Array.from({ length: rest }, (_, i) => Number(view.getBigUint64(list + 8 * i, true)));
          expect(at(6)).toBe(iova);
          expect(pages).toEqual(Array.from({ length: rest }, (_, i) => iova + first + i * pageSize));
          if (rest === 0) expect(at(8)).toBe(0);
          if (rest > 1)
            expect([list >= slot * listBytes(maxBytes, pageSize), (list % pageSize) + 8 * rest <= pageSize]).toEqual([true, true]);
        },
      ),
    );
    expect([longestTransfer(4096), listBytes(longestTransfer(4096), 4096), listBytes(4096, 4096)]).toEqual([2 ** 21, 4096, 8]);
    dev.close();
  });

  it('an admin command may have as much data as its lists describe, and no more', async () => {
    const fake = new FakeController();
    fake.controller.mdts = 0;
    const driver = await start(fake);
    expect(driver.maxTransfer).toBe(2 ** 20);
    const request = { opcode: 2, cdw10: 0xc0 | (0x7fff << 16), nsid: 0 };
    const read = new Uint8Array(2 ** 17);
    await driver.admin({ ...request, read });
    expect(read.every((byte) => byte === 0xc0)).toBe(true);
    expect(await failsWith(driver.admin({ ...request, read: new Uint8Array(2 ** 17 + 4) }))).toMatchObject({ code: 'EINVAL' });
  });

  it('refuses data that PRPs cannot describe', async () => {
    const driver = await start(new FakeController());
    const ns = driver.namespace(1);
    using buffer = driver.dev.dma.alloc(8192);
    for (const offset of [1, 2, 4094]) expect((await failsWith(ns.readInto(0, 1, buffer, offset))).code).toBe('EINVAL');
    await ns.readInto(0, 1, buffer, 4);
    for (const iova of [2, -4, Number.NaN, 2 ** 53]) expect(() => driver.queue().submitRead(ns, 0, 1, iova, 1)).toThrow(/IOVA/);
  });
});

describe('the ring', () => {
  it('takes as many commands as it has room for, announces them with one doorbell, and gives the tags back', async () => {
    const fake = new FakeController();
    const driver = await start(fake, { interrupts: 'poll' });
    const ns = driver.namespace(1);
    const queue = driver.queue();
    using buffer = driver.dev.dma.alloc(64 * 512);
    fake.disks.get(1)!.data.set(bytes(64 * 512));
    const seen: number[] = [];
    queue.onComplete = (tag, status) => seen.push(status === 0 ? tag : Number.NaN);
    const before = driver.doorbellWrites;
    let put = 0;
    while (queue.submitRead(ns, put, 1, Number(buffer.iova) + 512 * put, put)) put++;
    expect([put, queue.room, queue.inFlight, fake.commands.filter(io).length]).toEqual([63, 0, 63, 0]);
    queue.ring();
    queue.ring();
    expect([driver.doorbellWrites - before, fake.commands.filter(io).length]).toEqual([1, 63]);
    expect([queue.poll(10), queue.poll(), queue.poll()]).toEqual([10, 53, 0]);
    expect([driver.doorbellWrites - before, queue.inFlight, queue.completed]).toEqual([3, 0, 63]);
    expect(seen).toEqual(Array.from({ length: 63 }, (_, i) => i));
    expect(buffer.bytes.subarray(0, 63 * 512)).toEqual(bytes(63 * 512));
  });

  it('goes round and round, in any order of completion', async () => {
    const fake = new FakeController();
    const driver = await start(fake, { interrupts: 'poll' });
    const queue = driver.queue();
    const ns = driver.namespace(1);
    const open = new Set<number>();
    queue.onComplete = (tag, status) => {
      expect([open.delete(tag), status]).toEqual([true, 0]);
    };
    fake.script = (command) => (io(command) ? 'hold' : undefined);
    let tag = 0;
    fc.assert(
      fc.property(fc.array(fc.nat(), { maxLength: 80 }), (order) => {
        for (let i = 0; i < order.length && queue.submitFlush(ns, tag); i++) open.add(tag++);
        queue.ring();
        for (const pick of order) if (fake.held.length > 0) fake.complete(fake.held.splice(pick % fake.held.length, 1)[0]!);
        queue.poll();
        expect(queue.inFlight).toBe(open.size);
      }),
      { numRuns: 300 },
    );
    expect(tag).toBeGreaterThan(1000);
    while (fake.held.length > 0) fake.complete(fake.held.pop()!);
    queue.poll();
    expect(open.size).toBe(0);
  });

  it('commands put during a completion go with the next doorbell, and an error of the listener does not stop the queue', async () => {
    const fake = new FakeController();
    const driver = await start(fake);
    const ns = driver.namespace(1);
    const queue = driver.queue();
    let left = 500;
    queue.onComplete = () => {
      if (left-- > 0 && queue.submitFlush(ns, left)) queue.ring();
    };
    for (let i = 0; i < 8; i++) queue.submitFlush(ns, -i);
    queue.ring();
    for (let i = 0; i < 100; i++) await pass();
    expect([queue.inFlight, fake.commands.filter(io).length]).toEqual([0, 508]);
    const listeners = process.rawListeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    const thrown: unknown[] = [];
    process.on('uncaughtException', (error) => thrown.push(error));
    queue.onComplete = (tag) => {
      throw new Error(`tag ${tag}`);
    };
    queue.submitFlush(ns, 1);
    queue.submitFlush(ns, 2);
    queue.ring();
    await pass();
    process.removeAllListeners('uncaughtException');
    for (const listener of listeners) process.on('uncaughtException', listener as (error: Error) => void);
    expect(thrown.map(String)).toEqual(['Error: tag 1', 'Error: tag 2']);
    expect(queue.inFlight).toBe(0);
  });

  it('refuses blocks that the namespace lacks, and puts nothing', async () => {
    const driver = await start(new FakeController());
    const ns = driver.namespace(1);
    const queue = driver.queue();
    for (const [lba, blocks] of [
      [2048, 1],
      [2047, 2],
      [-1, 1],
      [0, 0],
      [0.5, 1],
      [0, 1.5],
      [Number.NaN, 1],
      [0, 257],
      [2 ** 53, 1],
    ] as const) {
      expect(() => queue.submitRead(ns, lba, blocks, 0x10_0000, 1)).toThrow(/of which a command of the ring moves 1 to 256/);
    }
    expect(queue.inFlight).toBe(0);
    expect([queue.submitWriteZeroes(ns, 0, 2048, 1), queue.inFlight]).toEqual([true, 1]);
    queue.ring();
    await pass();
  });

  it('keeps the process alive while a command is in flight, and not for events', async () => {
    // Timers of the driver alone: those of the test runner come and go.
    const timers: NodeJS.Timeout[] = [];
    const { setInterval: real } = globalThis;
    const spy = vi.spyOn(globalThis, 'setInterval').mockImplementation(((call: () => void, ms: number) => {
      const timer = real(call, ms);
      timers.push(timer);
      return timer;
    }) as typeof setInterval);
    onTestFinished(() => spy.mockRestore());
    const active = () => timers.filter((timer) => timer.hasRef()).length;
    const fake = new FakeController();
    const driver = await start(fake);
    await pass();
    const idle = active();
    fake.script = (command) => (io(command) ? 'hold' : undefined);
    const read = driver.namespace(1).read(0, 1);
    await pass();
    expect(active()).toBe(idle + 1);
    fake.complete(fake.held.pop()!);
    await read;
    expect(active()).toBe(idle);
  });
});

describe('5.7 shadow doorbells', () => {
  it('5.7 are written to memory, and to the register only when the event index is passed', async () => {
    const fake = new FakeController();
    fake.controller.oacs |= 0x100;
    const driver = await start(fake, { doorbells: 'shadow', interrupts: 'poll' });
    expect(driver.shadowDoorbells).toBe(true);
    const ns = driver.namespace(1);
    const queue = driver.queue();
    fake.doorbells.length = 0;
    queue.submitFlush(ns, 1);
    queue.ring();
    // The controller asks for a doorbell at any value after 0.
    expect(fake.doorbells).toEqual([[0x1008, 1]]);
    queue.submitFlush(ns, 2);
    queue.ring();
    expect([fake.doorbells.length, fake.shadow![2]]).toEqual([1, 2]);
    fake.lookAtShadows();
    expect(queue.poll()).toBe(2);
    queue.submitFlush(ns, 3);
    queue.ring();
    expect(fake.doorbells.filter(([offset]) => offset === 0x1008)).toEqual([
      [0x1008, 1],
      [0x1008, 3],
    ]);
    await driver.reset();
    expect([driver.shadowDoorbells, fake.shadow![2]]).toEqual([true, 0]);
  });

  it('5.7 a controller that did not look at its shadow gets a register write before any abort', async () => {
    const fake = new FakeController();
    fake.controller.oacs |= 0x100;
    const driver = await start(fake, { doorbells: 'shadow' });
    const ns = driver.namespace(1);
    await ns.flush();
    const kinds: string[] = [];
    driver.on(({ kind }) => kinds.push(kind));
    fake.eventIndexes![2] = 40;
    const flush = ns.flush();
    await pass();
    expect(fake.commands.filter(io)).toHaveLength(1);
    await within(3000, flush);
    expect([kinds.includes('reset'), fake.enables]).toEqual([false, 1]);
  });

  it('5.7 the register is written exactly when a value in (old, new] was asked for, round the ring too', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 4096 }), fc.nat(), fc.nat(), fc.nat(), (entries, o, v, e) => {
        const [old, value, event] = [o % entries, v % entries, e % entries];
        if (old === value) return;
        let written = 0;
        const doorbells = new Doorbells({ write32: () => written++ }, 4);
        const memory = new Uint8Array(8192);
        doorbells.shadow({ iova: 0, bytes: memory } as DmaRange, 4096);
        new Int32Array(memory.buffer, 4096)[2] = event;
        doorbells.ring(2, old, value);
        const ahead = (from: number, to: number) => (to - from + entries) % entries;
        const asked = ahead(old, event) < ahead(old, value);
        expect([written === 1, new Int32Array(memory.buffer)[2]]).toEqual([asked, value]);
      }),
    );
  });

  it('5.7 the admin queue has a shadow too, and its register is written all the same', async () => {
    const fake = new FakeController();
    fake.controller.oacs |= 0x100;
    const driver = await start(fake, { doorbells: 'shadow' });
    fake.doorbells.length = 0;
    await driver.smart();
    const [, tail] = fake.doorbells.find(([offset]) => offset === 0x1000)!;
    expect([fake.shadow![0], fake.doorbells.length]).toEqual([tail, 2]);
  });

  it('5.7 by default only where registers are slow', async () => {
    const fake = new FakeController();
    fake.controller.oacs |= 0x100;
    expect((await start(fake)).shadowDoorbells).toBe(false);
    const without = new FakeController();
    expect((await start(without, { doorbells: 'shadow' })).shadowDoorbells).toBe(false);
  });
});

describe('bounce buffers', () => {
  it('lends returned buffers again, and a request for too much waits', async () => {
    const dev = DriverDevice.attach(new FakeController(), { clock });
    const pool = new BouncePool(dev, 4096);
    const first = pool.take(100);
    if (first instanceof Promise) throw new Error('nothing is lent yet');
    expect([first.bytes.length, first.iova % 4096]).toEqual([4096, 0]);
    pool.give(first);
    expect(pool.take(4096)).toBe(first);
    const large = Array.from({ length: 40 }, () => pool.take(2 ** 20));
    const waiting = large.filter((l) => l instanceof Promise);
    expect(waiting).toHaveLength(9);
    pool.give(large[0] as Awaited<(typeof large)[0]>);
    expect((await waiting[0])!.bytes.length).toBe(2 ** 20);
    expect(pool.lent).toBeLessThanOrEqual(32 * 2 ** 20);
    dev.close();
  });

  /** A space that takes `most` mappings, as some servers do without saying so. */
  function fewMappings(fake: FakeController, most: number): FakeController {
    const { map, unmap } = fake.dma;
    let mapped = 0;
    fake.dma.map = (request) => {
      if (mapped === most) throw new VfioError('EINVAL', 'that is one too many');
      map.call(fake.dma, request);
      mapped++;
    };
    fake.dma.unmap = (...args) => {
      mapped--;
      return unmap.call(fake.dma, ...args);
    };
    return fake;
  }

  it('buffers and queues are in few mappings: 16 are enough for all of them', async () => {
    const driver = await start(fewMappings(new FakeController(), 16), { queues: 2, depth: 255 });
    const pool = new BouncePool(driver.dev, 4096);
    for (let size = 4096; size <= 2 ** 20; size *= 2) await pool.take(size);
    while (pool.lent + 2 ** 20 <= 32 * 2 ** 20) await pool.take(2 ** 20);
    expect(driver.dev.dma.buffers).toBeLessThanOrEqual(12);
  });

  it('requests wait for one another when memory is short, and a larger buffer serves a small request', async () => {
    const dev = DriverDevice.attach(fewMappings(new FakeController(), 1), { clock });
    const pool = new BouncePool(dev, 4096);
    const large = pool.take(2 ** 20);
    const waits = pool.take(4096);
    expect([large instanceof Promise, waits instanceof Promise]).toEqual([false, true]);
    pool.give(await large);
    expect((await waits).bytes.length).toBe(2 ** 20);
    const more = pool.take(2 ** 20);
    pool.give(await waits);
    pool.give(await more);
    expect(pool.lent).toBe(0);
    expect(() => pool.take(2 ** 21)).toThrow('that is one too many');
    dev.close();
  });

  it('do not show a reader the data of another', async () => {
    const fake = new FakeController();
    const driver = await start(fake);
    const ns = driver.namespace(1);
    await ns.write(0, bytes(4096));
    fake.script = ({ opcode, queue }) => (queue === 0 && opcode === 2 ? 0 : undefined);
    expect((await driver.log(0xc0, 512)).every((byte) => byte === 0)).toBe(true);
  });

  it('6 a copied transfer is checked like one in place', async () => {
    const fake = new FakeController();
    const driver = await start(fake);
    const ns = driver.namespace(1);
    const other = (await start(new FakeController())).dev.dma.alloc(4096);
    expect((await failsWith(ns.write(0, other))).message).toContain('is not of 0000:00:04.0');
    using mine = driver.dev.dma.alloc(4096);
    mine[Symbol.dispose]();
    expect((await failsWith(ns.readInto(0, 1, mine))).code).toBe('EINVAL');
    expect((await failsWith(ns.write(0, new Uint8Array(100)))).code).toBe('EINVAL');
    expect((await failsWith(ns.readInto(0, 2, new Uint8Array(1000)))).code).toBe('EINVAL');
    expect((await failsWith(ns.read(2047, 2))).code).toBe('EINVAL');
    expect(fake.commands.filter(io)).toHaveLength(0);
    expect(fake.commands.some(({ opcode, queue }) => queue === 1 && opcode === NvmOpcode.READ)).toBe(false);
  });
});
