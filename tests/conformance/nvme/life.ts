/**
 * Ends and new beginnings: aborts, resets under load, function resets, devices that go, users one
 * after another.
 */
import { describe, expect, it } from 'vitest';
import { Csts, NvmeReg, regField } from '../../../src/abi/nvme.ts';
import { Status } from '../../../src/abi/nvme-status.ts';
import { CapId, Pm } from '../../../src/abi/pci.ts';
import { isStatus } from '../../../src/drivers/nvme/errors.ts';
import type { NvmeDriver } from '../../../src/drivers/nvme/nvme-driver.ts';
import { LARGE, SLOW, SMALL } from './disk.ts';
import { begin, drive, failure, type OpenNvme, pattern, same } from './subject.ts';

/** For a driver that has to notice a late command: long for any other command, on any machine. */
const SHORT_MS = 5000;

/** Endless writes and reads: how many succeeded, and the errors of the others. */
function load(driver: NvmeDriver) {
  let stop = false;
  const codes = new Set<string>();
  let succeeded = 0;
  const ended = Promise.all(
    Array.from({ length: 40 }, async (_, worker) => {
      const ns = driver.namespace(worker % 2 === 0 ? SMALL : LARGE);
      const data = pattern(ns.blockSize * 4, worker);
      while (!stop) {
        try {
          await ns.write(worker * 8, data);
          if (!same(await ns.read(worker * 8, 4), data)) codes.add('corrupt');
          succeeded++;
        } catch (error) {
          codes.add((error as { code?: string }).code ?? String(error));
        }
        await new Promise((resolve) => setImmediate(resolve));
      }
    }),
  );
  return {
    codes,
    get succeeded() {
      return succeeded;
    },
    /** Resolves when so many more have succeeded. */
    async more(count: number) {
      const goal = succeeded + count;
      while (succeeded < goal) await new Promise((resolve) => setTimeout(resolve, 1));
    },
    async end() {
      stop = true;
      await ended;
    },
  };
}

export function lifeCases(open: OpenNvme): void {
  describe('life', () => {
    it('5.1 a command that takes too long is aborted, or ended by a reset; the driver goes on', async () => {
      const { driver } = await begin(open, { timeoutMs: SHORT_MS });
      const kinds: string[] = [];
      driver.on(({ kind }) => kinds.push(kind));
      const slow = failure(driver.namespace(SLOW).read(0, 1));
      await driver.namespace(LARGE).write(0, pattern(4096, 1));
      const error = await slow;
      // An abort is best effort (5.1): the controller's answer to it decides.
      const aborted = isStatus(error, Status.ABORT_REQUESTED);
      if (!aborted) expect(error).toMatchObject({ code: 'EIO', message: expect.stringContaining('could not be aborted') });
      expect(same(await driver.namespace(LARGE).read(0, 1), pattern(4096, 1))).toBe(true);
      expect(kinds).toEqual(aborted ? ['abort'] : ['abort', 'reset', 'recovered']);
    });

    it('7.3.2 a controller reset under load: commands in flight fail with a reason, later ones work', async () => {
      const { driver } = await begin(open, { queues: 4, depth: 16 });
      const under = load(driver);
      for (let i = 0; i < 3; i++) {
        await under.more(40);
        await driver.reset();
      }
      await under.more(40);
      await under.end();
      expect([...under.codes].filter((code) => code !== 'EIO')).toEqual([]);
      expect(driver.state).toBe('live');
    });

    it('7.3.2 a function-level reset under load: the driver notices, and starts the controller again', async () => {
      const { driver } = await begin(open, { timeoutMs: SHORT_MS });
      const under = load(driver);
      await under.more(40);
      const recovered = new Promise<void>((resolve) => {
        driver.on(({ kind }) => {
          if (kind === 'recovered') resolve();
        });
      });
      driver.dev.reset();
      await recovered;
      await under.more(40);
      await under.end();
      expect([...under.codes].filter((code) => code !== 'EIO')).toEqual([]);
    });

    it('7.3.2 a reset ends a command that would never end', async () => {
      const { driver } = await begin(open);
      const slow = failure(driver.namespace(SLOW).read(0, 1));
      await driver.namespace(SMALL).flush();
      await driver.reset();
      expect(await slow).toMatchObject({ code: 'EIO', message: expect.stringContaining('it was asked for') });
      await driver.namespace(SMALL).flush();
    });

    it('2.1.2 CMD.BME: without it the controller fails (CSTS.CFS), and works again when it was started anew with it', async () => {
      const { driver } = await begin(open, { timeoutMs: SHORT_MS });
      const { dev } = driver;
      await driver.namespace(SMALL).write(3, pattern(512, 3));
      const recovered = new Promise<void>((resolve) => {
        driver.on(({ kind }) => {
          if (kind === 'recovered') resolve();
        });
      });
      // The driver has seen the failure, and is about to start the controller anew.
      const failed: boolean[] = [];
      driver.on(({ kind }) => {
        if (kind !== 'reset') return;
        failed.push(regField(dev.bar(0).read32(NvmeReg.CSTS), Csts.CFS) === 1);
        dev.busMaster = true;
      });
      dev.busMaster = false;
      expect(await failure(driver.namespace(SMALL).read(3, 1))).toMatchObject({
        code: 'EIO',
        message: expect.stringContaining('Controller Fatal Status'),
      });
      await recovered;
      expect(failed).toEqual([true]);
      expect(same(await driver.namespace(SMALL).read(3, 1), pattern(512, 3))).toBe(true);
    });

    it('2.2.3 PMCS: from D3hot back to D0, and the controller continues', async ({ skip }) => {
      const { driver } = await begin(open);
      const { config } = driver.dev;
      const pm = config.findCapability(CapId.PM);
      if (pm === 0) return skip('this function has no power states');
      const kinds: string[] = [];
      driver.on(({ kind }) => kinds.push(kind));
      await driver.namespace(SMALL).write(3, pattern(512, 3));
      const cc = driver.dev.bar(0).read32(NvmeReg.CC);
      for (const state of [3, 0]) config.write16(pm + Pm.CTRL, state);
      expect(driver.dev.bar(0).read32(NvmeReg.CC)).toBe(cc);
      expect(same(await driver.namespace(SMALL).read(3, 1), pattern(512, 3))).toBe(true);
      expect(kinds).toEqual([]);
    });

    it('7.6.2 shut down, and opened by the next user: the data is there', async () => {
      const { subject, driver } = await begin(open);
      await driver.namespace(SMALL).write(3, pattern(512, 3));
      await driver.close();
      expect((await failure(driver.smart())).code).toBe('ENODEV');
      const next = await drive(subject, { interrupts: 'poll' });
      expect(same(await next.namespace(SMALL).read(3, 1), pattern(512, 3))).toBe(true);
    });

    it('7.6.1 a controller that its last user left enabled is started all the same', async () => {
      const { subject, driver } = await begin(open);
      const slow = failure(driver.namespace(SLOW).read(0, 1));
      await driver.namespace(SMALL).flush();
      driver[Symbol.dispose]();
      expect((await slow).code).toBe('ENODEV');
      const next = await drive(subject);
      await next.namespace(SMALL).flush();
    });

    it('a device that is taken away takes everything with it', async ({ skip }) => {
      const { subject, driver } = await begin(open);
      if (subject.unplug === undefined) return skip('this device cannot be taken away');
      const gone = new Promise<void>((resolve) => {
        driver.on(({ kind }) => {
          if (kind === 'gone') resolve();
        });
      });
      const slow = failure(driver.namespace(SLOW).read(0, 1));
      await driver.namespace(SMALL).flush();
      const unplugged = subject.unplug();
      await gone;
      expect((await slow).code).toBe('ENODEV');
      expect((await failure(driver.namespace(SMALL).read(0, 1))).code).toBe('ENODEV');
      await driver.close();
      await unplugged;
    });
  });
}
