/**
 * A machine that sleeps and wakes at random moments while its disk is full of commands: each is
 * done once, none fails (S2-42).
 */
import { describe, expect, it } from 'vitest';
import { DriverDevice } from '../src/drivers/kit/driver-device.ts';
import { NvmeDriver } from '../src/drivers/nvme/nvme-driver.ts';
import { Machine } from '../src/engine/machine/machine.ts';
import { models } from '../src/models/registry.ts';
import { MemfdMemory } from '../src/sys/memfd.ts';
import { VfioUserDevice } from '../src/vfio-user/client.ts';
import { MachineProcess } from './kit/machine-process.ts';
import { openAll } from './kit/machines.ts';
import { Random } from './soak/random.ts';

const bdf = '0000:00:04.0';
const ROUNDS = 60;
const turns = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

interface Sleeper {
  suspend(): Promise<unknown>;
  resume(): Promise<unknown>;
}

/**
 * 32 writers, each with its own blocks, until `ROUNDS` sleeps are over; then all blocks are read
 * back.
 */
async function workThroughSleeps(driver: NvmeDriver, { suspend, resume }: Sleeper, random: Random): Promise<void> {
  const [disk] = driver.namespaces;
  let over = false;
  const written = new Uint32Array(32);
  const writer = async (lane: number) => {
    const block = new Uint8Array(4096);
    while (!over) {
      const value = ++written[lane]!;
      block.fill(value);
      await disk!.write(8 * (32 * (value % 8) + lane), block);
      await disk!.read(8 * (32 * (value % 8) + lane), 8).then((got) => expect(got[4095]).toBe(value & 0xff));
    }
  };
  const writers = Promise.all(Array.from({ length: 32 }, (_, lane) => writer(lane)));
  for (let round = 0; round < ROUNDS; round++) {
    await turns(random.below(12));
    const asleep = suspend();
    if (!random.once(4)) await asleep;
    if (random.once(2)) await turns(random.below(12));
    await resume();
    await asleep;
  }
  over = true;
  await writers;
  expect(Math.min(...written)).toBeGreaterThan(0);
}

const start = (dev: DriverDevice, log: string[], interrupts?: 'msi' | 'poll' | 'intx') =>
  NvmeDriver.start(dev, {
    depth: 32,
    timeoutMs: 20_000,
    ...(interrupts === undefined ? {} : { interrupts }),
    log: { log: (level, message) => void log.push(`driver ${level}: ${message}`) },
  });

describe('sleep at random moments', () => {
  it.each([undefined, 'msi', 'poll', 'intx'] as const)('S2-42 in process, interrupts %s', async (interrupts) => {
    const log: string[] = [];
    using machine = new Machine(
      { devices: [{ at: '04.0', model: 'nvme', options: { size: 2 ** 26, latencyMs: 1 }, driver: 'vfio-pci' }] },
      { allocate: MemfdMemory.allocate, models, log: { log: (level, message) => void log.push(`${level}: ${message}`) } },
    );
    const driver = await start(DriverDevice.attach(openAll(machine, bdf).device), log, interrupts);
    const events: string[] = [];
    driver.on((event) => events.push(event.kind));
    const sleeper = { suspend: () => machine.suspend(), resume: async () => machine.resume() };
    await workThroughSleeps(driver, sleeper, new Random(interrupts === 'poll' ? 2 : 1));
    expect([events, log]).toEqual([[], []]);
    await driver[Symbol.asyncDispose]();
    expect([machine.function(bdf).host.dma.underWay, machine.function(bdf).host.dma.faultCount]).toEqual([0, 0]);
  });

  it('S2-42 INTx that is asserted just before the machine sleeps, and handled when it does', async () => {
    const log: string[] = [];
    using machine = new Machine(
      { devices: [{ at: '04.0', model: 'nvme', options: { size: 2 ** 26 }, driver: 'vfio-pci' }] },
      { allocate: MemfdMemory.allocate, models },
    );
    const driver = await start(DriverDevice.attach(openAll(machine, bdf).device), log, 'intx');
    const { irq } = machine.function(bdf).host;
    irq.raise();
    irq.lower();
    await machine.suspend();
    machine.resume();
    await driver.namespaces[0]!.write(0, new Uint8Array(4096));
    expect(log).toEqual([]);
    await driver[Symbol.asyncDispose]();
  });

  it('S2-42 through a socket', async () => {
    await using server = await MachineProcess.start(
      `devices: [{ at: 04.0, model: nvme, options: { size: 64M, latencyMs: 1 }, driver: vfio-pci }]\nparams: { suspendTimeoutMs: 20000 }`,
      240,
    );
    const log: string[] = [];
    const driver = await start(DriverDevice.attach(VfioUserDevice.connect(server.pathOf(bdf))), log);
    const events: string[] = [];
    driver.on((event) => events.push(event.kind));
    const sleeper = { suspend: () => server.ask({ ask: 'suspend' }), resume: () => server.ask({ ask: 'resume' }) };
    await workThroughSleeps(driver, sleeper, new Random(3));
    expect([events, log]).toEqual([[], []]);
    await driver[Symbol.asyncDispose]();
    expect((await server.ask({ ask: 'look' })).lines.filter((line) => /acknowledge|did not land|failed/.test(line))).toEqual([]);
  });
});
