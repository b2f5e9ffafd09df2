/** How the driver ends, and how it notices completions. */
import { afterEach, describe, expect, it } from 'vitest';
import { bytes, closeAll, failsWith, pass, start, within } from '../../../tests/kit/nvme/driver-under-test.ts';
import { FakeController } from '../../../tests/kit/nvme/fake-controller.ts';
import { AdminOpcode, Cc, regField } from '../../abi/nvme.ts';
import type { NvmeEvent } from './events.ts';

afterEach(closeAll);

describe('7.6.2 shutdown', () => {
  it('7.6.2 deletes the queues, notifies, waits for it, and closes the device last', async () => {
    const fake = new FakeController();
    const driver = await start(fake, { queues: 2 });
    await driver.close();
    expect(fake.commands.slice(-4).map(({ opcode }) => opcode)).toEqual([
      AdminOpcode.DELETE_SQ,
      AdminOpcode.DELETE_SQ,
      AdminOpcode.DELETE_CQ,
      AdminOpcode.DELETE_CQ,
    ]);
    expect(regField(fake.cc, Cc.SHN)).toBe(1);
    expect([fake.trace.at(-1), fake.mappings.size, fake.memoryAlive]).toEqual(['close', 0, 0]);
    expect((await failsWith(driver.smart())).code).toBe('ENODEV');
    expect((await failsWith(driver.namespace(1).read(0, 1))).message).toContain('was closed');
    await driver.close();
  });

  it('7.6.2 a second close waits for the same end', async () => {
    const fake = new FakeController();
    const driver = await start(fake);
    fake.script = ({ queue }) => (queue === 1 ? 'hold' : undefined);
    const written = driver.namespace(1).write(0, bytes(512));
    await pass();
    let closed = 0;
    const closing = [driver.close(), driver.close()].map((end) => end.then(() => closed++));
    await pass();
    expect(closed).toBe(0);
    fake.complete(fake.held.shift()!);
    await within(1000, Promise.all(closing));
    await written;
    expect(fake.trace.filter((call) => call === 'close')).toHaveLength(1);
  });

  it('7.6.2 waits for commands in flight, and not for ever', async () => {
    const fake = new FakeController();
    const driver = await start(fake);
    fake.script = ({ queue }) => (queue === 1 ? 'hold' : undefined);
    const written = driver.namespace(1).write(0, bytes(512));
    await pass();
    const closing = driver.close();
    fake.complete(fake.held.shift()!);
    await within(1000, closing);
    await written;
    const other = new FakeController();
    const stuck = await start(other);
    other.script = () => 'hold';
    other.neverShutDown = true;
    const lost = failsWith(stuck.namespace(1).read(0, 1));
    await within(60_000, stuck.close());
    expect((await lost).code).toBe('ENODEV');
    expect(other.trace.at(-1)).toBe('close');
  });

  it('an end at once stops the controller, and rejects commands in flight after the device can reach no memory', async () => {
    const fake = new FakeController();
    const driver = await start(fake);
    fake.script = ({ queue }) => (queue === 1 ? 'hold' : undefined);
    const order: string[] = [];
    const lost = failsWith(driver.namespace(1).read(0, 1)).then(() => order.push('rejected'));
    await pass();
    driver[Symbol.dispose]();
    order.push(fake.trace.at(-1)!);
    await lost;
    expect([fake.cc & 1, order]).toEqual([0, ['close', 'rejected']]);
  });
});

describe('interrupts', () => {
  it.each(['msix', 'msi', 'intx', 'poll'] as const)('3.1.3 completes with %s', async (interrupts) => {
    const fake = new FakeController();
    const driver = await start(fake, { interrupts, queues: 2 });
    expect(driver.interrupts).toBe(interrupts);
    const ns = driver.namespace(1);
    await Promise.all(Array.from({ length: 300 }, (_, i) => ns.write(i, bytes(512, i))));
    expect(await ns.read(299, 1)).toEqual(bytes(512, 299));
    if (interrupts === 'intx') expect([fake.trace.includes('unmask'), fake.intms]).toEqual([true, 0]);
    if (interrupts === 'poll') expect([...fake.sinks.keys()]).toEqual([]);
  });

  it('uses the best kind that exists: MSI-X, MSI, INTx, or polling', async () => {
    const kinds: string[] = [];
    for (const counts of [
      [1, 4, 8],
      [1, 4, 0],
      [1, 0, 0],
      [0, 0, 0],
    ]) {
      const fake = new FakeController();
      counts.forEach((count, i) => {
        fake.irqCounts[i] = count;
      });
      kinds.push((await start(fake)).interrupts);
    }
    expect(kinds).toEqual(['msix', 'msi', 'intx', 'poll']);
    const none = new FakeController();
    none.irqCounts[2] = 0;
    expect((await failsWith(start(none, { interrupts: 'msix' }))).code).toBe('ENOSPC');
  });

  it('shares vectors when there are fewer than queues, also when only the host has fewer', async () => {
    const fake = new FakeController();
    fake.irqCounts[2] = 3;
    const driver = await start(fake, { queues: 4 });
    const vectors = fake.commands
      .filter(({ opcode, queue }) => queue === 0 && opcode === AdminOpcode.CREATE_CQ)
      .map(({ dw }) => dw[11]! >>> 16);
    expect([driver.vectors, vectors]).toEqual([3, [1, 2, 1, 2]]);
    const poor = new FakeController();
    poor.vectorsAvailable = 1;
    expect((await start(poor, { queues: 4 })).vectors).toBe(1);
  });

  it('3.1.6 notices asynchronous events also while it polls and nothing is in flight', async () => {
    const fake = new FakeController();
    const driver = await start(fake, { interrupts: 'poll' });
    const seen: NvmeEvent[] = [];
    driver.on((event) => seen.push(event));
    fake.event(1 | (1 << 8) | (2 << 16));
    await pass(2000);
    expect(seen).toMatchObject([{ kind: 'smart', info: 1, smart: { availableSpare: 2 } }]);
  });
});
