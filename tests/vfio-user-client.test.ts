/**
 * Our client with our server in another process: behaviour that needs both, and the effect of
 * either's death on the other.
 */

import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { DeviceEvent } from '../src/abi/device.ts';
import type { DirectMemory } from '../src/abi/memory.ts';
import { IrqIndex } from '../src/abi/vfio.ts';
import { EduDriver } from '../src/drivers/edu/edu-driver.ts';
import { DriverDevice } from '../src/drivers/kit/driver-device.ts';
import { BenchControl, BenchOp } from '../src/models/bench/bench.ts';
import { EventFd } from '../src/sys/eventfd.ts';
import { HeapMemory } from '../src/sys/fake.ts';
import { MemfdMemory } from '../src/sys/memfd.ts';
import { VfioUserDevice, type VfioUserOptions } from '../src/vfio-user/client.ts';
import { errnoFrom } from './kit/errno.ts';
import { openDescriptors } from './kit/open-descriptors.ts';
import { ServerProcess } from './kit/server-process.ts';

const TIMEOUT_MS = 120_000;

describe('a driver over a socket', () => {
  let server: ServerProcess;
  beforeAll(async () => {
    server = await ServerProcess.start({ model: 'edu' });
  });
  afterAll(() => server[Symbol.asyncDispose]());

  it.each(['msi', 'intx', 'poll'] as const)('the edu driver runs unchanged, with %s', async (interrupts) => {
    await server.fresh();
    using dev = DriverDevice.attach(VfioUserDevice.connect(server.path, { timeoutMs: TIMEOUT_MS }), { match: EduDriver.ids });
    using driver = new EduDriver(dev, { interrupts, timeoutMs: TIMEOUT_MS });
    expect(await driver.factorial(10)).toBe(3_628_800);
  });

  it('B.9 MSI: an interrupt that came in time is not late, though this thread had no time to check', async () => {
    await server.fresh();
    using dev = DriverDevice.attach(VfioUserDevice.connect(server.path, { timeoutMs: TIMEOUT_MS }), { match: EduDriver.ids });
    using driver = new EduDriver(dev, { interrupts: 'poll', timeoutMs: TIMEOUT_MS });
    dev.busMaster = true;
    using irq = dev.msi.enable(1);
    const next = irq.next(0, { timeoutMs: 5 });
    driver.registers.irqRaise = 1;
    for (const begun = performance.now(); performance.now() - begun < 20; );
    await next;
  });

  it('attached and detached many times, nothing is left behind on either side', async () => {
    await server.fresh();
    const use = (twinSocket: boolean) => {
      const device = VfioUserDevice.connect(server.path, { timeoutMs: TIMEOUT_MS, twinSocket });
      using memory = device.dma.allocate(0x10000);
      using fd = EventFd.create();
      device.dma.map({ iova: 0n, memory });
      device.setIrqs({ index: IrqIndex.MSI, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [fd] });
      device.on(() => {});
      using _mapping = device.region(0).map();
      device.close();
    };
    const settled = async () => {
      let look = await server.look();
      while (look.sessions > 0) look = await server.look();
      return look.descriptors;
    };
    for (let i = 0; i < 5; i++) use(i % 2 === 0);
    const [ours, theirs] = [openDescriptors(), await settled()];
    for (let i = 0; i < 200; i++) use(i % 2 === 0);
    expect([openDescriptors(), await settled()]).toEqual([ours, theirs]);
  });
});

describe('memory', () => {
  let server: ServerProcess;
  beforeAll(async () => {
    server = await ServerProcess.start({ model: new URL('./kit/many-bars-model.ts', import.meta.url).pathname });
  });
  afterAll(() => server[Symbol.asyncDispose]());

  it.each([false, true])('a BAR of memory is mapped without a copy, registers are not; twin socket %s', (twinSocket) => {
    using device = VfioUserDevice.connect(server.path, { timeoutMs: TIMEOUT_MS, twinSocket });
    device.region(7).write16(4, 2);
    using memory = device.region(1).map(0x1000, 0x1000);
    using registers = device.region(0).map();
    expect([memory.memory?.offset, registers.memory]).toEqual([0x1000, null]);
    memory.write32(8, 0x1234_5678);
    expect(device.region(1).read32(0x1008)).toBe(0x1234_5678);
    device.region(1).write32(0x100c, 7);
    expect(memory.read32(0xc)).toBe(7);
    device.region(7).write16(4, 0);
    expect([errnoFrom(() => memory.read32(0)), errnoFrom(() => registers.read32(0)), errnoFrom(() => device.region(1).read32(0))]).toEqual([
      'BusError',
      'BusError',
      'EIO',
    ]);
    device.region(7).write16(4, 2);
    expect(memory.read32(8)).toBe(0x1234_5678);
  });

  it('large transfers arrive whole, of any length, at any place', () => {
    using device = VfioUserDevice.connect(server.path, { timeoutMs: TIMEOUT_MS });
    device.region(7).write16(4, 2);
    const region = device.region(1);
    for (const [offset, length] of [
      [0, 0x1_0000],
      [1, 0xffff],
      [3, 0x8001],
      [0x7fff, 0x8001],
      [5, 1000],
    ] as const) {
      const data = Uint8Array.from({ length }, (_, i) => (i * 31 + offset) & 0xff);
      const back = new Uint8Array(length);
      expect([region.write(offset, data), region.read(offset, back)]).toEqual([length, length]);
      expect(Buffer.compare(data, back)).toBe(0);
    }
  });
});

describe('DMA by messages, while the client waits', () => {
  let server: ServerProcess;
  beforeAll(async () => {
    server = await ServerProcess.start({ model: 'bench' });
  });
  afterAll(() => server[Symbol.asyncDispose]());

  const PLACES = 64;

  /**
   * The result of one control write: how many transfers succeeded, and the sum of their last bytes.
   */
  function measure(options: VfioUserOptions, op: number, len: number, count: number, allocate: (size: number) => DirectMemory) {
    using device = VfioUserDevice.connect(server.path, { timeoutMs: TIMEOUT_MS, ...options });
    device.region(7).write16(4, 6);
    using memory = allocate(PLACES * len);
    const bytes = memory.windows[0]!;
    for (let i = 0; i < PLACES; i++) bytes[(i + 1) * len - 1] = i;
    device.dma.map({ iova: 0x10_0000n, memory });
    const control = new Uint8Array(32);
    const view = new DataView(control.buffer);
    view.setUint32(0, op, true);
    view.setUint32(4, len, true);
    view.setBigUint64(8, 0x10_0000n, true);
    view.setBigUint64(16, BigInt(count), true);
    const region = device.region(BenchControl.BAR);
    region.write(0, control);
    return { ok: region.read64(BenchControl.RESULT + 16), sum: region.read64(BenchControl.RESULT + 24), last: bytes[2 * len - 1] };
  }

  for (const twinSocket of [false, true]) {
    it.each([8, 4096, 65536])(`reads of %d bytes are answered, twin socket ${twinSocket}`, (len) => {
      const done = measure({ twinSocket }, BenchOp.READ, len, 100, HeapMemory.allocate);
      expect([done.ok, done.sum]).toEqual([100n, BigInt((63 * 64) / 2 + (35 * 36) / 2)]);
    });

    it(`writes land, twin socket ${twinSocket}`, () => {
      const done = measure({ twinSocket }, BenchOp.WRITE, 4096, 66, HeapMemory.allocate);
      expect([done.ok, done.last]).toEqual([66n, 65]);
    });
  }

  it('more than a message holds, and more than both sockets take', () => {
    const done = measure({}, BenchOp.READ, 2 ** 22, 64, HeapMemory.allocate);
    expect([done.ok, done.sum]).toEqual([64n, 2016n]);
  });

  it('shared memory is read without a message', () => {
    const done = measure({}, BenchOp.COPY, 4096, 64, MemfdMemory.allocate);
    expect([done.ok, done.sum]).toEqual([64n, 2016n]);
  });

  it('a second client waits for the first to go, and gets EBUSY', () => {
    using _device = VfioUserDevice.connect(server.path, { timeoutMs: TIMEOUT_MS });
    expect(errnoFrom(() => VfioUserDevice.connect(server.path, { timeoutMs: TIMEOUT_MS }))).toBe('EBUSY');
    expect(errnoFrom(() => VfioUserDevice.connect(server.path, { timeoutMs: 100 }))).toBe('ETIMEDOUT');
  });
});

/** The clock runs on by ten seconds at each look, for a client that waits in vain. */
function hurry(): Disposable {
  const now = performance.now.bind(performance);
  let ahead = 0;
  return vi.spyOn(performance, 'now').mockImplementation(() => {
    ahead += 10_000;
    return now() + ahead;
  });
}

describe('a server that dies', () => {
  it('a wait for an interrupt ends with an error, and so does every later call', async () => {
    await using server = await ServerProcess.start();
    const device = VfioUserDevice.connect(server.path, { timeoutMs: TIMEOUT_MS });
    const dev = DriverDevice.attach(device);
    const events: DeviceEvent[] = [];
    dev.on((event) => events.push(event));
    using irq = dev.msi.enable(1);
    const waiting = irq.next();
    const mapping = device.region(0).map();
    const told = expect(waiting).rejects.toMatchObject({ code: 'ENODEV' });
    await server.kill();
    await told;
    expect(events).toEqual([{ kind: 'gone', reason: expect.any(String) }]);
    expect([errnoFrom(() => device.region(0)), errnoFrom(() => device.dma), errnoFrom(() => mapping.read32(0))]).toEqual([
      'ENODEV',
      'ENODEV',
      'BusError',
    ]);
    mapping[Symbol.dispose]();
    dev[Symbol.dispose]();
  });

  it('a call that waits for it ends with ENODEV', async () => {
    await using server = await ServerProcess.start();
    using device = VfioUserDevice.connect(server.path, { timeoutMs: TIMEOUT_MS });
    const registers = device.region(7);
    server.freeze();
    // Runs while this thread waits: the signal has been sent by then.
    const killed = server.kill();
    expect(errnoFrom(() => registers.read32(0))).toBe('ENODEV');
    await killed;
  });

  it('one that stands still is ETIMEDOUT', async () => {
    await using server = await ServerProcess.start();
    using device = VfioUserDevice.connect(server.path, { timeoutMs: TIMEOUT_MS });
    const registers = device.region(7);
    expect(registers.read16(0)).toBe(0x1234);
    server.freeze();
    using _hurried = hurry();
    expect(errnoFrom(() => registers.read32(0))).toBe('ETIMEDOUT');
    expect(errnoFrom(() => registers.read32(0))).toBe('ENODEV');
  });

  it('one that does not read messages is ETIMEDOUT too', async () => {
    await using server = await ServerProcess.start({ model: new URL('./kit/many-bars-model.ts', import.meta.url).pathname });
    using device = VfioUserDevice.connect(server.path, { timeoutMs: TIMEOUT_MS, postedWrites: true });
    device.region(7).write16(4, 2);
    const registers = device.region(0);
    server.freeze();
    using _hurried = hurry();
    const write = () => {
      for (let i = 0; i < 100_000; i++) registers.write32(0, i);
    };
    expect(errnoFrom(write)).toBe('ETIMEDOUT');
    expect(errnoFrom(write)).toBe('ENODEV');
  });
});
