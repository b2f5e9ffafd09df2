/** Controllers of all kinds at their first start. */
import { afterEach, describe, expect, it } from 'vitest';
import { bytes, clock, closeAll, failsWith, pass, start } from '../../../tests/kit/nvme/driver-under-test.ts';
import { type FakeCommand, FakeController } from '../../../tests/kit/nvme/fake-controller.ts';
import type { Region, RegionMapping } from '../../abi/device.ts';
import { AdminOpcode, Cc, Csts, FeatureId, NvmOpcode, regBits, regField } from '../../abi/nvme.ts';
import { RegionFlags } from '../../abi/vfio.ts';
import { VfioError } from '../../base/errno.ts';
import type { NvmeDriver } from './nvme-driver.ts';

afterEach(closeAll);

describe('7.6.1 initialisation', () => {
  it('7.6.1 enables as CAP says, and finds the namespace', async () => {
    const fake = new FakeController();
    const driver = await start(fake);
    expect([driver.version, driver.interrupts, driver.vectors, driver.queueCount, driver.pageSize]).toEqual(['1.4.0', 'msix', 2, 1, 4096]);
    expect(driver.controller).toMatchObject({ serial: 'FAKE1', model: 'A fake', firmware: '1', mdtsBytes: 2 ** 17, nn: 4 });
    expect(driver.namespaces.map(({ id, blockSize, blocks, bytes }) => [id, blockSize, blocks, bytes])).toEqual([[1, 512, 2048, 2 ** 20]]);
    expect([regField(fake.cc, Cc.IOSQES), regField(fake.cc, Cc.IOCQES), regField(fake.cc, Cc.MPS), regField(fake.cc, Cc.CSS)]).toEqual([
      6, 4, 0, 0,
    ]);
    expect(fake.asyncEvents).toHaveLength(4);
    expect(driver.queue(0).entries).toBe(64);
  });

  it('3.1.5 disables a controller that was left enabled, and waits for RDY to be 0', async () => {
    const fake = new FakeController();
    fake.cc = 1;
    fake.csts = 1;
    await start(fake);
    expect(fake.enables).toBe(1);
  });

  it('3.1.5 waits for RDY before it clears EN of a controller that is being enabled', async () => {
    const fake = new FakeController();
    fake.cc = 1;
    const starting = start(fake);
    await pass();
    expect(fake.cc & 1).toBe(1);
    fake.csts = 1;
    await starting;
    expect(fake.enables).toBe(1);
  });

  it('3.1.1 CAP.TO: gives up on a controller that is never ready, and leaves it disabled', async () => {
    const fake = new FakeController();
    fake.neverReady = true;
    const error = await failsWith(start(fake));
    expect(error).toMatchObject({ code: 'ETIMEDOUT', message: expect.stringContaining('1000 ms') });
    expect([fake.cc & 1, fake.trace.at(-1), fake.mappings.size]).toEqual([0, 'close', 0]);
  });

  it.each([
    ['as long as CRTO says', 40, true],
    ['as long as CAP.TO says, where CRTO has less', 2, false],
  ])('NVMe 2.0 3.1.3.20 waits for RDY %s', async (_, crwmt, comes) => {
    const fake = new FakeController();
    Object.assign(fake.cap, { to: 4, crms: 1 });
    fake.crto = crwmt | (1 << 16);
    fake.lazy = true;
    using _ready = clock.after(10_000, () => {
      fake.lazy = false;
    });
    if (comes) await start(fake);
    else expect((await failsWith(start(fake))).message).toContain('within 2000 ms');
    expect(fake.enables).toBe(1);
  });

  it('3.1.6 CSTS.CFS during the enable is an error that names it', async () => {
    const fake = new FakeController();
    fake.failsOnEnable = true;
    expect(await failsWith(start(fake))).toMatchObject({ code: 'EIO', message: expect.stringContaining('Controller Fatal Status') });
  });

  it('7.3.2 resets the function of a controller that cannot be disabled', async () => {
    const fake = new FakeController();
    fake.cc = fake.csts = 1;
    fake.neverDisabled = true;
    await start(fake);
    expect(fake.trace).toContain('reset');
  });

  it('3.1.6 CSTS.CFS before the start: resets the function, and names a fault that stays', async () => {
    const fake = new FakeController();
    fake.csts = regBits(Csts.CFS, 1);
    await start(fake);
    expect([fake.trace.filter((call) => call === 'reset').length, fake.csts]).toEqual([1, 1]);
    class NoReset extends FakeController {
      override reset(): void {
        throw new VfioError('EINVAL', 'it has no reset');
      }
    }
    const lost = new NoReset();
    lost.csts = regBits(Csts.CFS, 1);
    expect((await failsWith(start(lost))).message).toContain('Controller Fatal Status');
  });

  it('7.3.1 resets the subsystem when the function has no reset', async () => {
    class NoReset extends FakeController {
      viaSubsystem = false;
      override reset(): void {
        if (this.cap.nssrs === 0) throw new VfioError('EINVAL', 'it has no reset');
        if (!this.viaSubsystem) {
          this.viaSubsystem = true;
          throw new VfioError('EINVAL', 'it has no reset');
        }
        super.reset();
      }
    }
    const fake = new NoReset();
    fake.cc = fake.csts = 1;
    fake.neverDisabled = true;
    expect(await failsWith(start(fake))).toMatchObject({ code: 'EIO', message: expect.stringContaining('cannot be disabled') });
    const other = new NoReset();
    other.cc = other.csts = 1;
    other.neverDisabled = true;
    other.cap.nssrs = 1;
    await start(other);
  });

  it('refuses a device that is no controller', async () => {
    const gone = new FakeController();
    gone.absent = true;
    expect(await failsWith(start(gone))).toMatchObject({ code: 'ENODEV', message: expect.stringContaining('all ones') });
    const noQueues = new FakeController();
    noQueues.cap.mqes = 0;
    expect((await failsWith(start(noQueues))).code).toBe('EIO');
    const noPages = new FakeController();
    Object.assign(noPages.cap, { mpsmin: 3, mpsmax: 2 });
    expect((await failsWith(start(noPages))).code).toBe('EIO');
    for (const fake of [gone, noQueues, noPages]) expect(fake.trace.at(-1)).toBe('close');
  });

  it.each([{ queues: 0 }, { depth: 0 }, { depth: 5000 }, { timeoutMs: Number.NaN }, { maxTransfer: 100 }])(
    'refuses options that make no sense: %o',
    async (options) => {
      const fake = new FakeController();
      expect((await failsWith(start(fake, options))).code).toBe('EINVAL');
      expect(fake.trace.at(-1)).toBe('close');
    },
  );

  it('3.1.1 with other command sets beside NVM the driver enables NVM, and the error for a missing namespace says so', async () => {
    const fake = new FakeController();
    fake.cap.css = 0x41;
    const driver = await start(fake);
    expect(regField(fake.cc, Cc.CSS)).toBe(0);
    const missing = (d: NvmeDriver) => {
      try {
        return d.namespace(9);
      } catch (error) {
        return (error as VfioError).fix;
      }
    };
    expect(missing(driver)).toBe('It has 1; zoned ones, and those of other command sets, are not shown.');
    expect(missing(await start(new FakeController()))).toBe('It has 1.');
  });

  it('4.11 an administrative controller has no I/O queues, and its logs', async () => {
    const fake = new FakeController();
    fake.cap.css = 0x80;
    const driver = await start(fake);
    expect([regField(fake.cc, Cc.CSS), driver.namespaces, driver.queueCount]).toEqual([7, [], 0]);
    expect((await driver.smart()).availableSpare).toBe(2);
    expect((await failsWith(driver.io({ opcode: NvmOpcode.FLUSH, nsid: 1 }))).code).toBe('EOPNOTSUPP');
  });
});

describe('a controller that refuses its I/O queues', () => {
  const refusals = [
    ['Set Features, Number of Queues', ({ opcode, dw }: FakeCommand) => opcode === AdminOpcode.SET_FEATURES && (dw[10]! & 0xff) === 7],
    ['Create I/O Completion Queue', ({ opcode }: FakeCommand) => opcode === AdminOpcode.CREATE_CQ],
    ['Create I/O Submission Queue', ({ opcode }: FakeCommand) => opcode === AdminOpcode.CREATE_SQ],
  ] as const;

  it.each(refusals)('5.21.1.7 at %s: administration works, and reads are refused with the reason', async (_, refused) => {
    const fake = new FakeController();
    fake.script = (command) => (command.queue === 0 && refused(command) ? 0x4006 : undefined);
    const driver = await start(fake);
    expect([driver.state, driver.queueCount, driver.controller.serial]).toEqual(['live', 0, 'FAKE1']);
    expect((await driver.smart()).availableSpare).toBe(2);
    const ns = driver.namespace(1);
    expect([ns.blocks, ns.blockSize]).toEqual([2048, 512]);
    for (const work of [ns.read(0, 1), ns.write(0, bytes(512)), ns.flush(), driver.io({ opcode: NvmOpcode.FLUSH, nsid: 1 })]) {
      expect(await failsWith(work)).toMatchObject({ code: 'EIO', message: expect.stringMatching(/has no I\/O queues.*Internal Error/) });
    }
    await driver.close();
  });

  it('5.21.1.7 a reset that brings them back makes it whole, and one that takes them away leaves it administered', async () => {
    const fake = new FakeController();
    let sick = true;
    fake.script = ({ queue, opcode }) => (sick && queue === 0 && opcode === AdminOpcode.CREATE_CQ ? 0x4006 : undefined);
    const driver = await start(fake);
    const ns = driver.namespace(1);
    sick = false;
    await driver.reset();
    await ns.write(0, bytes(512));
    expect(await ns.read(0, 1)).toEqual(bytes(512));
    sick = true;
    await driver.reset();
    expect((await failsWith(ns.read(0, 1))).message).toContain('has no I/O queues');
    expect(() => driver.queue(0)).toThrow('has no I/O queues');
    expect((await driver.smart()).availableSpare).toBe(2);
  });

  it('a failure without a status still ends the start: a queue that never comes', async () => {
    const fake = new FakeController();
    fake.script = ({ queue, opcode }) => (queue === 0 && opcode === AdminOpcode.CREATE_CQ ? 'hold' : undefined);
    expect((await failsWith(start(fake))).code).toBe('ETIMEDOUT');
  });
});

describe('Get Features', () => {
  it('5.13 brings the data that a feature has, for SEL 0 to 2, and none for SEL 3', async () => {
    const fake = new FakeController();
    const driver = await start(fake);
    for (const [id, size] of [
      [FeatureId.TIMESTAMP, 8],
      [FeatureId.HOST_BEHAVIOR_SUPPORT, 512],
      [FeatureId.LBA_RANGE_TYPE, 4096],
      [FeatureId.ARBITRATION, 0],
    ] as const) {
      for (const select of [0, 1, 2, 3]) {
        fake.script = (command) => {
          if (command.opcode !== AdminOpcode.GET_FEATURES) return undefined;
          expect([command.dw[10], command.dw[6] !== 0]).toEqual([id | (select << 8), select < 3 && size > 0]);
          if (select < 3 && size > 0) for (const piece of fake.data(command, size)) piece.fill(0xa0 + select);
          return 0;
        };
        const { data } = await driver.getFeature(id, { select, nsid: 1 });
        expect(data).toEqual(new Uint8Array(select === 3 ? 0 : size).fill(0xa0 + select));
      }
    }
  });

  it('5.13 SEL of a controller that does not know it is EOPNOTSUPP: it would give the current value', async () => {
    const fake = new FakeController();
    fake.controller.oncs = 0x0f;
    const driver = await start(fake);
    expect((await failsWith(driver.getFeature(FeatureId.ARBITRATION, { select: 1 }))).code).toBe('EOPNOTSUPP');
    expect((await driver.getFeature(FeatureId.ARBITRATION)).value).toBe(0);
  });
});

describe('odd capabilities', () => {
  it.each([0, 1, 5, 10])('3.1.24 DSTRD %i', async (dstrd) => {
    const fake = new FakeController();
    fake.cap.dstrd = dstrd;
    const driver = await start(fake);
    const data = bytes(4096);
    await driver.namespace(1).write(0, data);
    expect(await driver.namespace(1).read(0, 8)).toEqual(data);
    expect(new Set(fake.doorbells.map(([offset]) => offset))).toEqual(new Set([0, 1, 2, 3].map((i) => 0x1000 + i * (4 << dstrd))));
  });

  it('writes doorbells to what is mapped of a BAR that cannot be mapped whole', async () => {
    class Sparse extends FakeController {
      mapped = 0;
      override region(index: number): Region {
        const region = super.region(index);
        if (index !== 0) return region;
        const info = { ...region.info, flags: region.info.flags | RegionFlags.MMAP, sparseAreas: [{ offset: 0, size: 0x2000 }] };
        const map = (from = 0, size = 0): RegionMapping => ({
          ...region,
          size,
          memory: null,
          write32: (offset, value) => {
            if (from + offset >= 0x1000) this.mapped++;
            region.write32(from + offset, value);
          },
          [Symbol.dispose]: () => void this.trace.push(`unmap ${from} ${size}`),
        });
        return { ...region, info, map };
      }
    }
    const fake = new Sparse();
    const driver = await start(fake);
    await driver.namespace(1).write(0, bytes(512));
    expect(fake.mapped).toBe(fake.doorbells.length);
    await driver.close();
    expect(fake.trace).toContain('unmap 4096 4096');
  });

  it('3.1.1 MPSMIN: works with pages of 64 KiB, at any alignment', async () => {
    const fake = new FakeController();
    Object.assign(fake.cap, { mpsmin: 4, mpsmax: 8 });
    fake.controller.mdts = 2;
    const driver = await start(fake);
    expect([driver.pageSize, driver.maxTransfer]).toEqual([65536, 2 ** 18]);
    using buffer = driver.dev.dma.alloc(2 ** 19);
    const ns = driver.namespace(1);
    const data = bytes(2 ** 18);
    buffer.bytes.set(data, 4100);
    await ns.writeFrom(0, 512, buffer, 4100);
    expect(Buffer.compare(await ns.read(0, 512), data)).toBe(0);
  });

  it('3.1.1 MQES: the smallest queue is one command at a time', async () => {
    const fake = new FakeController();
    fake.cap.mqes = 1;
    const driver = await start(fake);
    expect(driver.queue(0).depth).toBe(1);
    const ns = driver.namespace(1);
    await Promise.all(Array.from({ length: 20 }, (_, i) => ns.write(i, bytes(512, i))));
    for (let i = 0; i < 20; i++) expect(await ns.read(i, 1)).toEqual(bytes(512, i));
  });

  it('5.15.2.2 MDTS: large transfers are split; 0 is no limit of the controller', async () => {
    const fake = new FakeController();
    fake.controller.mdts = 1;
    const driver = await start(fake);
    const ns = driver.namespace(1);
    expect(ns.maxBlocks).toBe(16);
    const data = bytes(100 * 512);
    await ns.write(3, data);
    expect(fake.commands.filter(({ queue }) => queue === 1)).toHaveLength(7);
    expect(await ns.read(3, 100)).toEqual(data);
    const unlimited = new FakeController();
    unlimited.controller.mdts = 0;
    const other = await start(unlimited);
    expect([other.controller.mdtsBytes, other.maxTransfer]).toEqual([Number.POSITIVE_INFINITY, 2 ** 20]);
    using buffer = other.dev.dma.alloc(2 ** 20 + 4096);
    buffer.bytes.set(bytes(2 ** 20), 2048);
    await other.namespace(1).writeFrom(0, 2048, buffer, 2048);
    expect(Buffer.compare(unlimited.disks.get(1)!.data, bytes(2 ** 20))).toBe(0);
    expect(unlimited.commands.filter(({ queue }) => queue === 1)).toHaveLength(1);
  });

  it('5.14 an error log that is larger than one command gives: its newest entries, unless more are asked for', async () => {
    const fake = new FakeController();
    Object.assign(fake.controller, { mdts: 1, lpa: 0, elpe: 255 });
    const driver = await start(fake);
    expect(await driver.errorLog()).toHaveLength(128);
    expect((await failsWith(driver.errorLog(129))).code).toBe('EOPNOTSUPP');
  });

  it('5.21.1.7 works with fewer queues than it asked for', async () => {
    const fake = new FakeController();
    fake.queuesGranted = 2;
    const driver = await start(fake, { queues: 5 });
    expect(driver.queueCount).toBe(2);
    fake.script = ({ opcode, dw }) => (opcode === AdminOpcode.CREATE_CQ && (dw[10]! & 0xffff) > 1 ? 0x101 : undefined);
    await driver.reset();
    await driver.namespace(1).write(0, bytes(512));
    expect(driver.queue(1).isOpen).toBe(false);
  });

  it('5.15.2.2 Identify Controller all zeroes: nothing is known of it and it has no namespaces, and its health can be had', async () => {
    const fake = new FakeController();
    const zeroes = { sn: '', mn: '', fr: '', mdts: 0, nn: 0, oncs: 0, oacs: 0, aerl: 0, acl: 0, sqes: 0, cqes: 0, oaes: 0, vwc: 0, lpa: 0 };
    Object.assign(fake.controller, zeroes);
    fake.disks.clear();
    const driver = await start(fake);
    expect([driver.controller.serial, driver.controller.model, driver.namespaces, driver.queueCount]).toEqual(['', '', [], 1]);
    expect((await driver.smart()).availableSpare).toBe(2);
  });

  it.each([
    ['CAP.TO 0: there is half a second', (fake: FakeController) => Object.assign(fake.cap, { to: 0 })],
    [
      'SQES and CQES 0: the sizes are the only ones there are',
      (fake: FakeController) => Object.assign(fake.controller, { sqes: 0, cqes: 0 }),
    ],
    ['SQES 76h: larger ones are possible, too', (fake: FakeController) => Object.assign(fake.controller, { sqes: 0x76, cqes: 0x54 })],
    ['MDTS 255', (fake: FakeController) => Object.assign(fake.controller, { mdts: 255 })],
    ['AERL and ACL 255', (fake: FakeController) => Object.assign(fake.controller, { aerl: 255, acl: 255 })],
    ['more queues than can be', (fake: FakeController) => Object.assign(fake, { queuesGranted: 0x1_0000 })],
    ['NN 0, and a namespace all the same', (fake: FakeController) => Object.assign(fake.controller, { nn: 0 })],
    ['a namespace without blocks beside it', (fake: FakeController) => fake.disks.set(2, { data: new Uint8Array(0), lbads: 9, ms: 0 })],
    ['CAP.CSS 0', (fake: FakeController) => Object.assign(fake.cap, { css: 0 })],
  ] as const)('odd, and works: %s', async (_, make) => {
    const fake = new FakeController();
    make(fake);
    const ns = (await start(fake)).namespace(1);
    await ns.write(5, bytes(4096));
    expect(await ns.read(5, 8)).toEqual(bytes(4096));
  });

  it('5.15.2.2 SQES 77h: one that needs entries of 128 bytes is refused, and left disabled', async () => {
    const fake = new FakeController();
    fake.controller.sqes = 0x77;
    expect(await failsWith(start(fake))).toMatchObject({ code: 'EIO', message: expect.stringContaining('2^7 bytes') });
    expect([fake.cc & 1, fake.mappings.size]).toEqual([0, 0]);
  });

  it.each([9, 12, 16])('5.15.2.1 blocks of 2^%i bytes', async (lbads) => {
    const fake = new FakeController();
    fake.disks.get(1)!.lbads = lbads;
    const ns = (await start(fake)).namespace(1);
    const data = bytes(3 * 2 ** lbads);
    await ns.write(1, data);
    expect([ns.blockSize, Buffer.compare(await ns.read(1, 3), data)]).toEqual([2 ** lbads, 0]);
  });

  it('5.15.2.1 refuses metadata, blocks that are no blocks, and blocks larger than a transfer', async () => {
    const fake = new FakeController();
    fake.controller.mdts = 1;
    fake.disks.set(2, { data: new Uint8Array(4096), lbads: 9, ms: 8 });
    fake.disks.set(3, { data: new Uint8Array(2 ** 14), lbads: 14, ms: 0 });
    fake.disks.set(4, { data: new Uint8Array(4096), lbads: 3, ms: 0 });
    fake.disks.set(5, { data: new Uint8Array(4096), lbads: 9, ms: 0, flbas: 0x20 });
    const driver = await start(fake);
    for (const [id, text] of [
      [2, '8 bytes of metadata'],
      [3, 'a command moves 8192'],
      [4, 'blocks of 2^3 bytes'],
      [5, 'beyond the 16 of NVMe 1.4 (FLBAS 0x20)'],
    ] as const) {
      const error = await failsWith(driver.namespace(id).read(0, 1));
      expect(error).toMatchObject({ code: 'EOPNOTSUPP', message: expect.stringContaining(text) });
      expect(() => driver.queue(0).submitRead(driver.namespace(id), 0, 1, 0x10_0000, 1)).toThrow(text);
    }
  });
});
