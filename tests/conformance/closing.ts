/** Closing a device: what it ends and releases, and the state that the next user finds. */
import { describe, expect, it } from 'vitest';
import type { Device } from '../../src/abi/device.ts';
import { IrqIndex, RegionIndex } from '../../src/abi/vfio.ts';
import { errnoFrom } from '../kit/errno.ts';
import { arm, bar0, COMMAND, type ConformanceSubject, config, EDU_ID, Edu, enable, MASTER, mapped, quiet, setIrqs } from './subject.ts';

/** Every call of a device, by name. */
const calls: readonly [name: string, call: (device: Device) => unknown][] = [
  ['region', (device) => device.region(0)],
  ['info', (device) => device.info],
  ['dma', (device) => device.dma],
  ['irq', (device) => device.irq(0)],
  ['setIrqs', (device) => setIrqs(device, 1, { action: 'trigger', data: 'none', count: 0 })],
  ['reset', (device) => device.reset()],
  ['hotResetInfo', (device) => device.hotResetInfo()],
  ['feature', (device) => device.feature({ feature: 3, probe: true, data: new Uint8Array(0) })],
  ['on', (device) => device.on(() => {})],
];

export function closingCases(open: () => Promise<ConformanceSubject>): void {
  describe('closing', () => {
    it('every call after close is ENODEV; closing again does nothing', async () => {
      await using subject = await open();
      const { device } = subject;
      enable(device);
      const region = device.region(RegionIndex.BAR0);
      device.close();
      device.close();
      device[Symbol.dispose]();
      for (const [name, call] of calls) expect([name, errnoFrom(() => call(device))]).toEqual([name, 'ENODEV']);
      for (const access of [
        () => region.read32(0),
        () => region.write32(4, 0),
        () => region.read(0, new Uint8Array(4)),
        () => region.map(),
      ]) {
        expect(errnoFrom(access)).toBe('ENODEV');
      }
    });

    it('S2-27 closing releases every eventfd once', async () => {
      for (const index of [IrqIndex.INTX, IrqIndex.MSI]) {
        await using subject = await open();
        if (index === IrqIndex.INTX && subject.virtual === true) continue;
        const { device } = subject;
        using fd = subject.eventfd();
        using request = subject.eventfd();
        using source = subject.eventfd();
        arm(device, index, [fd]);
        arm(device, IrqIndex.REQ, [request]);
        if (index === IrqIndex.INTX) setIrqs(device, index, { action: 'unmask', data: 'sinks', sources: [source] });
        device.close();
        expect(await subject.until(() => [fd, request, source].every((e) => e.references === 1))).toBe(true);
      }
    });

    it('S2-37 a mapping keeps the device open after close, until it is disposed', async () => {
      await using subject = await open();
      const { device } = subject;
      using fd = subject.eventfd();
      enable(device);
      arm(device, IrqIndex.MSI, [fd]);
      const mapping = device.region(RegionIndex.BAR0).map();
      device.close();
      expect(mapping.read32(Edu.IDENTIFICATION)).toBe(EDU_ID);
      mapping.write32(Edu.IRQ_RAISE, 1);
      expect(await subject.until(() => fd.read() === 1n)).toBe(true);
      mapping[Symbol.dispose]();
      expect(await subject.until(() => fd.references === 1)).toBe(true);
    });

    it('S2-13 the next user finds interrupts and bus mastering off', async ({ skip }) => {
      await using subject = await open();
      if (subject.reopen === undefined) skip('this kind of device is opened once');
      using fd = subject.eventfd();
      enable(subject.device);
      arm(subject.device, IrqIndex.MSI, [fd]);
      subject.device.close();
      using next = subject.reopen!();
      expect(config(next).read16(COMMAND) & MASTER).toBe(0);
      expect(errnoFrom(() => setIrqs(next, IrqIndex.MSI, { action: 'trigger', data: 'none' }))).toBe('EINVAL');
      enable(next);
      bar0(next).write32(Edu.IRQ_RAISE, 1);
      expect(await quiet(subject, fd)).toBeNull();
    });

    it('B.6 mappings that are left at the end release their memory', async () => {
      let left: { readonly references: number } & Disposable;
      {
        await using subject = await open();
        left = mapped(subject.device, 0x10_0000n, 4096).memory;
        expect(left.references).toBeGreaterThan(1);
      }
      expect(left.references).toBe(1);
      left[Symbol.dispose]();
    });
  });
}
