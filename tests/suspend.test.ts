/**
 * Suspend and resume under load, through every door, with every driver that ships (S2-42): nothing
 * is lost, and no driver complains.
 */
import { describe, expect, it } from 'vitest';
import { VfioError } from '../src/base/errno.ts';
import { EduDriver } from '../src/drivers/edu/edu-driver.ts';
import { DriverDevice } from '../src/drivers/kit/driver-device.ts';
import { NvmeDriver } from '../src/drivers/nvme/nvme-driver.ts';
import { Process } from '../src/engine/dma/process.ts';
import { Machine } from '../src/engine/machine/machine.ts';
import { KernelDoor } from '../src/ioctl/kernel-door.ts';
import { models } from '../src/models/registry.ts';
import { MemfdMemory } from '../src/sys/memfd.ts';
import { VfioUserDevice } from '../src/vfio-user/client.ts';
import { MachineProcess } from './kit/machine-process.ts';
import { openAll } from './kit/machines.ts';

/** The previous client may not be gone yet. */
async function connected(path: string): Promise<VfioUserDevice> {
  for (;;) {
    try {
      return VfioUserDevice.connect(path);
    } catch (error) {
      if (!(error instanceof VfioError) || error.code !== 'EBUSY') throw error;
      await turns(10);
    }
  }
}

const turns = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

function machineOf(model: string, options: object = {}, params: object = {}): { machine: Machine; log: string[] } {
  const log: string[] = [];
  const machine = new Machine(
    { devices: [{ at: '04.0', model, options: options as Record<string, unknown>, driver: 'vfio-pci' }] },
    { allocate: MemfdMemory.allocate, models, params, log: { log: (level, message) => void log.push(`${level}: ${message}`) } },
  );
  return { machine, log };
}

describe('in process', () => {
  it.each([undefined, 'poll', 'intx'] as const)(
    'S2-42 NVMe, interrupts %s: writes under way, and those that come while the machine sleeps',
    async (interrupts) => {
      const { machine, log } = machineOf('nvme', { size: 2 ** 26, latencyMs: 5 });
      using _off = machine;
      const { device } = openAll(machine, '0000:00:04.0');
      const driver = await NvmeDriver.start(DriverDevice.attach(device), {
        timeoutMs: 1500,
        ...(interrupts === undefined ? {} : { interrupts }),
        log: { log: (level, message) => void log.push(`driver ${level}: ${message}`) },
      });
      const events: string[] = [];
      driver.on((event) => events.push(event.kind));
      const [disk] = driver.namespaces;
      const block = (i: number) => new Uint8Array(4096).fill(i);
      const writes: Promise<unknown>[] = [];
      for (let round = 0; round < 4; round++) {
        for (let i = 0; i < 16; i++) writes.push(disk!.write(8 * (32 * round + i), block(1 + 32 * round + i)));
        if (round > 0) await turns(3);
        await machine.suspend();
        for (let i = 16; i < 32; i++) writes.push(disk!.write(8 * (32 * round + i), block(1 + 32 * round + i)));
        const smart = driver.smart();
        // Longer than the driver allows for a command.
        if (round === 0) await turns(2000);
        else await turns(20);
        machine.resume();
        await smart;
      }
      await Promise.all(writes);
      for (const i of [0, 15, 16, 31, 100, 127]) expect((await disk!.read(8 * i, 8))[0]).toBe((1 + i) & 0xff);
      expect(events).toEqual([]);
      expect(log).toEqual([]);
      await driver[Symbol.asyncDispose]();
    },
  );

  it.each(['msi', 'intx', 'poll'] as const)('S2-42 edu by %s: copies and factorials go on at resume', async (interrupts) => {
    const { machine, log } = machineOf('edu');
    using _off = machine;
    const { device } = openAll(machine, '0000:00:04.0');
    using dev = DriverDevice.attach(device);
    using driver = new EduDriver(dev, { interrupts, timeoutMs: 500 });
    const buffer = driver.alloc(4096);
    for (let round = 0; round < 5; round++) {
      buffer.bytes.fill(round + 1);
      const copy = driver.copyToDevice(buffer.iova, 4096).then(() => driver.factorial(5));
      await turns(round % 2);
      await machine.suspend();
      await turns(round === 0 ? 800 : 10);
      machine.resume();
      expect(await copy).toBe(120);
      await machine.suspend();
      const later = driver.copyFromDevice(buffer.iova, 4096);
      await turns(5);
      machine.resume();
      await later;
      expect(buffer.bytes[4095]).toBe(round + 1);
    }
    expect(log).toEqual([]);
  });

  it('S2-42 the machine waits for a user who saves its state, and so does the kit', async () => {
    const { machine } = machineOf('edu');
    using _off = machine;
    const { device } = openAll(machine, '0000:00:04.0');
    using dev = DriverDevice.attach(device);
    using driver = new EduDriver(dev);
    let saved = 0;
    using _listening = dev.on(
      (event) => {
        if (event.kind !== 'suspend') return;
        void driver.factorial(6).then((n) => {
          saved = n;
          event.acknowledge();
        });
      },
      ['suspend'],
    );
    await machine.suspend();
    expect(saved).toBe(720);
    machine.resume();
  });
});

describe('ioctl door', () => {
  const bytes = (...words: number[]) => new Uint8Array(new Int32Array(words).buffer);
  function opened(machine: Machine) {
    const user = new KernelDoor(machine).process(Process.root({ allocate: MemfdMemory.allocate }));
    const container = user.open('/dev/vfio/vfio');
    const group = user.open(`/dev/vfio/${machine.function('00:04.0').group!.id}`);
    user.ioctl(group, 0x3b68, bytes(container));
    user.ioctl(container, 0x3b66, 3);
    const fd = user.ioctl(group, 0x3b6a, new TextEncoder().encode('0000:00:04.0\0'));
    const ready = (event: number) => user.poll([{ fd: event, events: 1 }]).ready > 0;
    const feature = (id: number, ...words: number[]) => user.ioctl(fd, 0x3b75, bytes(8 + 4 * words.length, id | (1 << 17), ...words));
    return { user, fd, ready, feature };
  }

  it('S2-42 a program hears of suspend by REQ, and the machine does not wait for it', async () => {
    const { machine, log } = machineOf('edu');
    using _off = machine;
    const { user, fd, ready } = opened(machine);
    const request = user.eventfd(0);
    user.ioctl(fd, 0x3b6e, bytes(24, 4 | 32, 4, 0, 1, request));
    await machine.suspend();
    expect(ready(request)).toBe(true);
    machine.resume();
    expect(log).toEqual([]);
    user.exit();
  });

  it('S2-42 SYSTEM_SLEEP: two eventfds, and an acknowledgement for which the machine waits; REQ is quiet then', async () => {
    const { machine, log } = machineOf('edu');
    using _off = machine;
    const { user, fd, ready, feature } = opened(machine);
    const [request, suspend, resume] = [user.eventfd(0), user.eventfd(0), user.eventfd(0)];
    user.ioctl(fd, 0x3b6e, bytes(24, 4 | 32, 4, 0, 1, request));
    expect(feature(0xfe00, suspend)).toBe(-22);
    expect(feature(0xfe00, suspend, 99)).toBe(-9);
    expect(feature(0xfe00, suspend, resume)).toBe(0);
    let asleep = false;
    const suspending = machine.suspend().then(() => {
      asleep = true;
    });
    await turns(1);
    expect([asleep, ready(suspend), ready(resume), ready(request)]).toEqual([false, true, false, false]);
    expect([feature(0xfe01, 2, 0), feature(0xfe01, 1, 0)]).toEqual([-11, 0]);
    await suspending;
    expect(feature(3)).toBe(-16); // LOW_POWER_ENTRY
    machine.resume();
    expect([ready(resume), feature(0xfe01), feature(0xfe00, -1, -1)]).toEqual([true, 0, 0]);
    await machine.suspend();
    machine.resume();
    expect([ready(request), log]).toEqual([true, []]);
    user.exit();
  });
});

describe('socket', () => {
  const bdf = '0000:00:04.0';
  const serving = (model: string, suspendTimeoutMs = 20_000) =>
    MachineProcess.start(
      `devices: [{ at: 04.0, model: ${model}, driver: vfio-pci }]\nparams: { suspendTimeoutMs: ${suspendTimeoutMs} }`,
      120,
    );
  const complaints = (lines: readonly string[]) => lines.filter((line) => line.includes('acknowledge'));

  it('S2-42 our clients hear of it, acknowledge, and lose nothing: NVMe', async () => {
    await using server = await serving('nvme, options: { size: 64M, latencyMs: 5 }');
    const log: string[] = [];
    const dev = DriverDevice.attach(VfioUserDevice.connect(server.pathOf(bdf)));
    const driver = await NvmeDriver.start(dev, {
      timeoutMs: 1500,
      log: { log: (level, message) => void log.push(`${level}: ${message}`) },
    });
    const events: string[] = [];
    driver.on((event) => events.push(event.kind));
    const [disk] = driver.namespaces;
    const writes: Promise<unknown>[] = [];
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 16; i++) writes.push(disk!.write(8 * (32 * round + i), new Uint8Array(4096).fill(1 + 32 * round + i)));
      await server.ask({ ask: 'suspend' });
      expect(dev.asleep).toBe(true);
      for (let i = 16; i < 32; i++) writes.push(disk!.write(8 * (32 * round + i), new Uint8Array(4096).fill(1 + 32 * round + i)));
      await turns(round === 0 ? 2000 : 10);
      await server.ask({ ask: 'resume' });
      await dev.awake();
    }
    await Promise.all(writes);
    for (const i of [0, 31, 64, 95]) expect((await disk!.read(8 * i, 8))[0]).toBe((1 + i) & 0xff);
    expect([events, log, complaints((await server.ask({ ask: 'look' })).lines)]).toEqual([[], [], []]);
    await driver[Symbol.asyncDispose]();
  });

  it('S2-42 our clients hear of it, acknowledge, and lose nothing: edu', async () => {
    await using server = await serving('edu');
    using dev = DriverDevice.attach(VfioUserDevice.connect(server.pathOf(bdf)));
    using driver = new EduDriver(dev, { timeoutMs: 1000 });
    const buffer = driver.alloc(4096);
    const kinds: string[] = [];
    using _listening = dev.on((event) => {
      kinds.push(event.kind);
      if (event.kind === 'suspend') event.acknowledge();
    });
    for (let round = 0; round < 3; round++) {
      buffer.bytes.fill(round + 1);
      const copy = driver.copyToDevice(buffer.iova, 4096);
      await server.ask({ ask: 'suspend' });
      const later = copy.then(() => driver.factorial(5));
      await turns(round === 0 ? 1500 : 5);
      await server.ask({ ask: 'resume' });
      expect(await later).toBe(120);
    }
    expect(kinds).toEqual(['suspend', 'asleep', 'resume', 'suspend', 'asleep', 'resume', 'suspend', 'asleep', 'resume']);
    expect(complaints((await server.ask({ ask: 'look' })).lines)).toEqual([]);
  });

  it.each(['suspend', 'suspend-again'] as const)(
    'S2-42 our clients know the machine’s state after %s, also with a slow one among them',
    async (ask) => {
      await using server = await serving('nvme, options: { size: 64M, latencyMs: 5 }', 500);
      const log: string[] = [];
      const dev = DriverDevice.attach(VfioUserDevice.connect(server.pathOf(bdf)));
      const driver = await NvmeDriver.start(dev, { log: { log: (level, message) => void log.push(`${level}: ${message}`) } });
      const [disk] = driver.namespaces;
      for (const slow of [false, true]) {
        // A client that acknowledges too late.
        using _slow = slow ? dev.on((event) => event.kind === 'suspend' && setTimeout(event.acknowledge, 700), ['suspend']) : undefined;
        const writes = Array.from({ length: 32 }, (_, i) => disk!.write(8 * i, new Uint8Array(4096).fill(1 + i)));
        await server.ask({ ask });
        while (!dev.asleep) await turns(1);
        for (let i = 32; i < 64; i++) writes.push(disk!.write(8 * i, new Uint8Array(4096).fill(1 + i)));
        await turns(slow ? 400 : 50);
        expect(dev.asleep).toBe(true);
        await server.ask({ ask: 'resume' });
        await Promise.all(writes);
        expect([(await disk!.read(8 * 40, 8))[0], dev.asleep, log]).toEqual([41, false, []]);
      }
      const complained = complaints((await server.ask({ ask: 'look' })).lines);
      expect(complained.length > 0 && complained.every((line) => line.includes('1 of its users'))).toBe(true);
      await driver[Symbol.asyncDispose]();
    },
  );

  it('S2-42 a client that disconnects while the machine sleeps is gone, at the latest when it wakes', async () => {
    await using server = await serving('edu');
    for (const kinds of [[], ['suspend'] as const]) {
      const device = VfioUserDevice.connect(server.pathOf(bdf));
      using _on = device.on((event) => event.kind === 'suspend' && event.acknowledge(), kinds);
      await server.ask({ ask: 'suspend' });
      // The server answers a client that has acknowledged.
      if (kinds.length > 0) {
        while (device.awake() === null) await turns(1);
        expect(device.region(7).read16(0)).toBe(0x1234);
      }
      device.close();
      await server.ask({ ask: 'resume' });
      using next = await connected(server.pathOf(bdf));
      expect(next.region(7).read16(0)).toBe(0x1234);
    }
  });

  it('S2-42 the machine does not wait for a client that does not know suspend: its accesses are answered at resume', async () => {
    await using server = await serving('edu');
    using device = VfioUserDevice.connect(server.pathOf(bdf));
    device.region(7).write16(4, 6);
    await server.ask({ ask: 'suspend' });
    // The thread blocks until the answer comes, so the request to resume goes out in advance.
    const resumed = server.ask({ ask: 'resume-later' });
    expect(device.region(0).read32(0)).toBe(0x0100_00ed);
    await resumed;
  });
});
