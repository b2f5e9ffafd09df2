/** Controllers that break the specification, and devices that go. */
import { afterEach, describe, expect, it } from 'vitest';
import { bytes, closeAll, failsWith, pass, start, within } from '../../../tests/kit/nvme/driver-under-test.ts';
import { FakeController } from '../../../tests/kit/nvme/fake-controller.ts';
import { AdminOpcode, Csts, NvmOpcode, regBits } from '../../abi/nvme.ts';
import type { VfioError } from '../../base/errno.ts';
import type { NvmeEvent } from './events.ts';
import type { NvmeDriverOptions } from './nvme-driver.ts';

afterEach(closeAll);

describe('controllers that misbehave', () => {
  async function broken(options: NvmeDriverOptions = {}) {
    const fake = new FakeController();
    const driver = await start(fake, options);
    const events: NvmeEvent[] = [];
    driver.on((event) => events.push(event));
    return { fake, driver, ns: driver.namespace(1), kinds: () => events.map(({ kind }) => kind), events };
  }

  it('5.1 aborts a command that takes too long, and no other command fails', async () => {
    const { fake, ns, kinds } = await broken();
    fake.script = ({ opcode, queue }) => (queue === 1 && opcode === NvmOpcode.READ ? 'hold' : undefined);
    const read = failsWith(ns.read(0, 4));
    const error = await within(3000, read);
    expect(error).toMatchObject({ name: 'EIO', code: 'EIO', status: 7 });
    expect(error.message).toBe('Read of LBA 0..3 of namespace 1 on 0000:00:04.0: Command Abort Requested (0x0007)');
    await ns.write(0, bytes(512));
    expect([kinds(), fake.enables]).toEqual([['abort'], 1]);
  });

  it('resets when an abort does not help; commands in flight fail, and waiting ones go on', async () => {
    const { fake, driver, ns, kinds } = await broken();
    let stuck = true;
    fake.script = ({ queue, opcode }) => (stuck && (queue === 1 || opcode === AdminOpcode.ABORT) ? 'hold' : undefined);
    const reads = Array.from({ length: 70 }, () =>
      ns.read(0, 1).then(
        () => 'read',
        (e: VfioError) => e.code,
      ),
    );
    driver.on(({ kind }) => {
      if (kind === 'reset') stuck = false;
    });
    const results = await within(10_000, Promise.all(reads));
    // 63 fit into the queue.
    expect(results.filter((r) => r === 'EIO')).toHaveLength(63);
    expect(results.filter((r) => r === 'read')).toHaveLength(7);
    expect([kinds().at(-1), driver.state]).toEqual(['recovered', 'live']);
  });

  it('reports commands that a reset ended to the ring, after the controller can reach no memory', async () => {
    const { fake, driver, ns } = await broken();
    using buffer = driver.dev.dma.alloc(4096);
    const queue = driver.queue(0);
    const ended: [number, number, number][] = [];
    queue.onComplete = (tag, status) => ended.push([tag, status, fake.csts & 1]);
    fake.script = ({ queue: q }) => (q === 1 ? 'hold' : undefined);
    expect([queue.submitRead(ns, 0, 1, Number(buffer.iova), 5), queue.submitFlush(ns, -6)]).toEqual([true, true]);
    queue.ring();
    fake.script = () => undefined;
    const reset = driver.reset();
    expect(queue.submitRead(ns, 0, 1, Number(buffer.iova), 7)).toBe(false);
    await within(1000, reset);
    expect(ended).toEqual([
      [5, 0x371, 0],
      [-6, 0x371, 0],
    ]);
    expect([queue.inFlight, queue.submitRead(ns, 0, 1, Number(buffer.iova), 8)]).toEqual([0, true]);
    queue.ring();
    await pass();
    expect(ended.at(-1)).toEqual([8, 0, 1]);
  });

  it.each([
    ['4.6 a command identifier that is not in flight', 3, 0x30, 'not in flight'],
    ['4.6 a command identifier of an earlier command', 3, 0x1000, 'not in flight'],
    ['4.6 another queue', 2, 0x7_0000, 'names submission queue'],
    ['4.6 a head beyond the queue', 2, 0xfff0, 'head of submission queue'],
  ])('%s: resets, loudly', async (_, dword, flipped, text) => {
    const { fake, driver, ns, events } = await broken();
    fake.mangle = (entry) => {
      fake.mangle = () => {};
      entry[dword]! ^= flipped;
    };
    const error = await within(2000, failsWith(ns.read(0, 1)));
    expect(error).toMatchObject({ code: 'EIO', message: expect.stringContaining(text), fix: expect.any(String) });
    expect(events[0]).toMatchObject({ kind: 'reset', reason: expect.stringContaining(text) });
    await within(1000, driver.smart());
    await ns.write(0, bytes(512));
    expect(fake.enables).toBe(2);
  });

  it('4.6 an entry with the wrong phase is no completion, and the command is late', async () => {
    const { fake, driver, ns, kinds } = await broken();
    fake.mangle = (entry) => {
      if (entry[2]! >>> 16 === 1) entry[3]! ^= 0x1_0000;
    };
    const read = failsWith(ns.read(0, 1));
    driver.on(({ kind }) => {
      if (kind === 'reset') fake.mangle = () => {};
    });
    expect((await within(5000, read)).code).toBe('EIO');
    await within(1000, ns.write(0, bytes(512)));
    expect(kinds()).toContain('recovered');
  });

  it('7.1 after a lost interrupt the driver finds the completion, without a reset', async () => {
    const { fake, ns, kinds } = await broken();
    fake.interruptsLost = true;
    const data = bytes(512);
    await within(3000, ns.write(5, data));
    fake.interruptsLost = false;
    expect([kinds(), await ns.read(5, 1), fake.enables]).toEqual([['lost-interrupt'], data, 1]);
  });

  it('3.1.6 CSTS.CFS at work: resets without waiting for the timeout', async () => {
    const { fake, ns, events } = await broken({ timeoutMs: 100_000 });
    fake.script = ({ queue }) => (queue === 1 ? 'hold' : undefined);
    const read = failsWith(ns.read(0, 1));
    await pass();
    fake.csts |= regBits(Csts.CFS, 1);
    fake.script = () => undefined;
    expect((await within(30_000, read)).message).toContain('Controller Fatal Status');
    expect(events[0]).toMatchObject({ kind: 'reset' });
    await ns.flush();
  });

  it('a controller that does not come back fails everything, until reset() is asked for again', async () => {
    const { fake, driver, ns, kinds } = await broken();
    fake.neverReady = true;
    expect(await within(5000, failsWith(driver.reset()))).toMatchObject({ code: 'EIO', fix: 'Try driver.reset().' });
    expect([driver.state, kinds()]).toEqual(['failed', ['reset', 'failed']]);
    expect((await failsWith(ns.read(0, 1))).message).toContain('did not come back');
    fake.neverReady = false;
    await within(5000, driver.reset());
    await ns.write(0, bytes(512));
    expect(driver.state).toBe('live');
  });

  it('5.2.1 a controller that needs a reset after each reset is given up with the reason, until the user calls reset()', async () => {
    const { fake, driver, ns, kinds } = await broken();
    let sick = true;
    driver.on(({ kind }) => {
      if (sick && kind === 'recovered') setImmediate(() => fake.event(0x01_03_00));
    });
    fake.event(0x01_03_00);
    await pass(30_000);
    expect([driver.state, fake.enables, kinds().at(-1)]).toEqual(['failed', 11, 'failed']);
    const error = await failsWith(ns.read(0, 1));
    expect(error).toMatchObject({
      code: 'EIO',
      message: expect.stringMatching(/more than 10 resets within 60 s.*Persistent Internal Error/),
    });
    sick = false;
    await within(1000, driver.reset());
    await ns.write(0, bytes(512));
    expect(driver.state).toBe('live');
  });

  it('an admin command that does not end during a start ends it', async () => {
    const fake = new FakeController();
    fake.script = ({ opcode }) => (opcode === AdminOpcode.SET_FEATURES ? 'hold' : undefined);
    expect((await failsWith(start(fake))).code).toBe('ETIMEDOUT');
    expect([fake.cc & 1, fake.mappings.size]).toEqual([0, 0]);
  });

  it('4.6 an admin queue that makes no sense during a start ends it', async () => {
    const fake = new FakeController();
    fake.mangle = (entry) => {
      entry[3]! ^= 0x7;
    };
    expect(await failsWith(start(fake, { timeoutMs: 100_000 }))).toMatchObject({
      code: 'EIO',
      message: expect.stringContaining('misbehaves'),
    });
    expect([fake.cc & 1, fake.trace.at(-1)]).toEqual([0, 'close']);
  });

  it('a device that goes during a start ends it', async () => {
    const fake = new FakeController();
    fake.script = ({ opcode }) => {
      if (opcode !== AdminOpcode.SET_FEATURES) return undefined;
      fake.gone = true;
      fake.emit({ kind: 'gone', reason: 'unplugged' });
      return 'hold';
    };
    expect(await failsWith(start(fake))).toMatchObject({ code: 'ENODEV', message: expect.stringContaining('unplugged') });
  });

  it('when the device goes, every command fails at once', async () => {
    const { fake, driver, ns, kinds } = await broken();
    fake.script = ({ queue }) => (queue === 1 ? 'hold' : undefined);
    const reads = Promise.all(Array.from({ length: 100 }, () => failsWith(ns.read(0, 1))));
    await pass();
    fake.gone = true;
    fake.emit({ kind: 'gone', reason: 'unplugged' });
    expect(new Set((await reads).map(({ code }) => code))).toEqual(new Set(['ENODEV']));
    expect((await failsWith(driver.smart())).message).toContain('unplugged');
    expect(kinds()).toEqual(['gone']);
    await driver.close();
  });

  it('the driver notices a device that went without an event by its registers', async () => {
    const { fake, ns, kinds } = await broken();
    fake.gone = true;
    expect((await within(3000, failsWith(ns.read(0, 1)))).code).toBe('ENODEV');
    expect(kinds()).toEqual(['gone']);
  });

  it('6.1 a namespace whose Identify fails for now stays, and an invalid one goes', async () => {
    const { fake, driver, ns } = await broken();
    let status = 0x006;
    fake.script = ({ opcode, nsid, dw }) => (opcode === AdminOpcode.IDENTIFY && nsid === 1 && dw[10] === 0 ? status : undefined);
    expect((await driver.rescan()).removed).toEqual([]);
    await ns.read(0, 1);
    status = 0x00b;
    expect((await driver.rescan()).removed).toEqual([ns]);
    expect((await failsWith(ns.read(0, 1))).code).toBe('ENODEV');
  });

  it('5.2 the driver finds changed namespaces also when their log cannot be read', async () => {
    const { fake, driver, kinds } = await broken();
    fake.script = ({ opcode }) => (opcode === AdminOpcode.GET_LOG_PAGE ? 0x109 : undefined);
    fake.disks.set(2, { data: new Uint8Array(2 ** 16), lbads: 12, ms: 0 });
    fake.event(0x04_00_02);
    await pass(100);
    expect([kinds(), driver.namespaces.map(({ id }) => id)]).toEqual([['namespaces'], [1, 2]]);
    expect(fake.asyncEvents).toHaveLength(4);
  });

  it('4.6.1 a command to a namespace that is not ready is tried again, five times', async () => {
    const { fake, ns } = await broken();
    let tries = 0;
    fake.script = ({ queue }) => (queue === 1 && ++tries <= 3 ? 0x082 : undefined);
    await within(1000, ns.write(0, bytes(512)));
    fake.script = ({ queue }) => (queue === 1 ? 0x082 : undefined);
    const error = await within(2000, failsWith(ns.write(0, bytes(512))));
    expect(error.message).toContain('Namespace Not Ready');
    fake.script = ({ queue }) => (queue === 1 ? 0x4082 : undefined);
    await failsWith(ns.write(0, bytes(512)));
  });
});
