/** SET_IRQS, and interrupts that arrive. */
import { describe, expect, it } from 'vitest';
import { IrqIndex } from '../../src/abi/vfio.ts';
import { errnoFrom } from '../kit/errno.ts';
import {
  arm,
  bar0,
  COMMAND,
  type ConformanceSubject,
  config,
  disable,
  Edu,
  enable,
  INTX_DISABLE,
  IrqCause,
  MASTER,
  MEMORY,
  needsIntx,
  quiet,
  StatusInterrupt,
  setIrqs,
  taken,
} from './subject.ts';

const { INTX, MSI, MSIX, ERR, REQ } = IrqIndex;
const fire = { action: 'trigger', data: 'none' };
const unmask = { action: 'unmask', data: 'none' };

export function setIrqsCases(open: () => Promise<ConformanceSubject>): void {
  describe('SET_IRQS', () => {
    it('B.7 SET_IRQS: bad index, range, data and action', async () => {
      await using subject = await open();
      const { device } = subject;
      const fd = subject.eventfd();
      using _fd = fd;
      const bad: [index: number, request: object, errno: string][] = [
        [9, fire, 'EINVAL'],
        [5, fire, 'EINVAL'],
        [-1, fire, 'EINVAL'],
        [MSI, { ...fire, count: 9999 }, 'EINVAL'],
        [MSI, { ...fire, start: 9999 }, 'EINVAL'],
        [MSI, { ...fire, count: 0xffff_ffff }, 'EINVAL'],
        [MSI, { ...fire, start: 1, count: 0 }, 'EINVAL'],
        [MSI, { ...fire, count: Number.NaN }, 'EINVAL'],
        [MSI, { action: 'trigger', data: 'sinks', sinks: [] }, 'EINVAL'],
        [MSI, { action: 'trigger', data: 'bool', values: [] }, 'EINVAL'],
        [MSI, { action: 'mask', data: 'none' }, 'ENOTTY'],
        [MSI, { action: 'unmask', data: 'bool', values: [true] }, 'ENOTTY'],
        [MSI, { ...fire, count: 0 }, 'EINVAL'],
        [MSI, fire, 'EINVAL'],
        [MSIX, { ...fire, count: 0 }, 'EINVAL'],
        [MSIX, { action: 'trigger', data: 'sinks', sinks: [fd] }, 'EINVAL'],
        [INTX, { ...fire, count: 0 }, 'EINVAL'],
        [INTX, { action: 'mask', data: 'none' }, 'EINVAL'],
        [ERR, { action: 'trigger', data: 'sinks', sinks: [fd] }, 'none'],
        [REQ, { action: 'mask', data: 'none' }, 'ENOTTY'],
        [REQ, fire, 'EINVAL'],
      ];
      for (const [index, request, errno] of bad)
        expect([request, errnoFrom(() => setIrqs(device, index, request))]).toEqual([request, errno]);
    });

    it('S2-09 MSI: enable, others refused, loopback, de-assign, disable, as on Linux 7.3', async () => {
      await using subject = await open();
      const { device } = subject;
      using fd = subject.eventfd();
      expect(arm(device, MSI, [fd])).toBe(0);
      expect([errnoFrom(() => arm(device, MSIX, [fd])), errnoFrom(() => arm(device, INTX, [fd]))]).toEqual(['EINVAL', 'EINVAL']);
      setIrqs(device, MSI, fire);
      expect(await taken(subject, fd)).toBe(1n);
      setIrqs(device, MSI, { action: 'trigger', data: 'bool', values: [true] });
      expect(await taken(subject, fd)).toBe(1n);
      setIrqs(device, MSI, { action: 'trigger', data: 'bool', values: [false] });
      expect(arm(device, MSI, [null])).toBe(0);
      setIrqs(device, MSI, fire);
      expect(disable(device, MSI)).toBe(0);
      expect(errnoFrom(() => disable(device, MSI))).toBe('EINVAL');
      expect(await quiet(subject, fd)).toBeNull();
    });

    it('B.9 INTX: enable, mask, unmask, no mask by eventfd, one unmask eventfd, disable', async ({ skip }) => {
      await using subject = await open();
      needsIntx(subject, skip);
      const { device } = subject;
      using fd = subject.eventfd();
      using source = subject.eventfd();
      const byEventfd = { action: 'unmask', data: 'sinks', sources: [source] };
      expect(arm(device, INTX, [fd])).toBe(0);
      expect([setIrqs(device, INTX, { action: 'mask', data: 'none' }), setIrqs(device, INTX, unmask)]).toEqual([0, 0]);
      expect(errnoFrom(() => setIrqs(device, INTX, { action: 'mask', data: 'sinks', sinks: [fd] }))).toBe('ENOTTY');
      expect(setIrqs(device, INTX, byEventfd)).toBe(0);
      expect(errnoFrom(() => setIrqs(device, INTX, byEventfd))).toBe('EBUSY');
      expect(setIrqs(device, INTX, { ...byEventfd, sources: [null] })).toBe(0);
      setIrqs(device, INTX, fire);
      expect(await taken(subject, fd)).toBe(1n);
      expect(disable(device, INTX)).toBe(0);
    });

    it('B.9 REQ: set, loopback, replace, release', async () => {
      await using subject = await open();
      const { device } = subject;
      using fd = subject.eventfd();
      using next = subject.eventfd();
      expect([arm(device, REQ, [fd]), setIrqs(device, REQ, fire)]).toEqual([0, 0]);
      expect(await taken(subject, fd)).toBe(1n);
      expect([arm(device, REQ, [next]), setIrqs(device, REQ, fire)]).toEqual([0, 0]);
      expect([await taken(subject, next), fd.read()]).toEqual([1n, null]);
      expect(disable(device, REQ)).toBe(0);
      expect(errnoFrom(() => disable(device, REQ))).toBe('EINVAL');
    });
  });
}

export function interruptCases(open: () => Promise<ConformanceSubject>): void {
  describe('interrupts', () => {
    it('B.9 MSI: the device’s message arrives; the user sees none of its registers', async () => {
      await using subject = await open();
      const { device } = subject;
      using fd = subject.eventfd();
      enable(device);
      arm(device, MSI, [fd]);
      const c = config(device);
      expect([c.read16(0x42), c.read32(0x44), c.read16(0x4c)]).toEqual([
        subject.remote === true && subject.virtual === true ? 0x81 : 0x80,
        0,
        0,
      ]);
      const registers = bar0(device);
      registers.write32(Edu.IRQ_RAISE, 0xab);
      expect([await taken(subject, fd), registers.read32(Edu.IRQ_STATUS)]).toEqual([1n, 0xab]);
      registers.write32(Edu.IRQ_ACKNOWLEDGE, 0xab);
      expect(registers.read32(Edu.IRQ_STATUS)).toBe(0);
    });

    it('B.9 MSI: the factorial’s interrupt arrives', async () => {
      await using subject = await open();
      const { device } = subject;
      using fd = subject.eventfd();
      enable(device);
      arm(device, MSI, [fd]);
      const registers = bar0(device);
      registers.write32(Edu.STATUS, StatusInterrupt);
      registers.write32(Edu.FACTORIAL, 5);
      expect([await taken(subject, fd), registers.read32(Edu.FACTORIAL), registers.read32(Edu.IRQ_STATUS)]).toEqual([
        1n,
        120,
        IrqCause.FACTORIAL,
      ]);
    });

    it('S2-38 MSI without bus mastering does not arrive', async () => {
      await using subject = await open();
      const { device } = subject;
      using fd = subject.eventfd();
      config(device).write16(COMMAND, MEMORY);
      arm(device, MSI, [fd]);
      bar0(device).write32(Edu.IRQ_RAISE, 1);
      expect(await quiet(subject, fd)).toBeNull();
      config(device).write16(COMMAND, MEMORY | MASTER);
      bar0(device).write32(Edu.IRQ_RAISE, 1);
      expect(await taken(subject, fd)).toBe(1n);
    });

    it('B.9 INTx automask: once, again when unmasked but not acknowledged, quiet when acknowledged', async ({ skip }) => {
      await using subject = await open();
      needsIntx(subject, skip);
      const { device } = subject;
      using fd = subject.eventfd();
      enable(device);
      arm(device, INTX, [fd]);
      const registers = bar0(device);
      registers.write32(Edu.IRQ_RAISE, 1);
      expect(await taken(subject, fd)).toBe(1n);
      registers.write32(Edu.IRQ_RAISE, 2);
      expect(await quiet(subject, fd)).toBeNull();
      setIrqs(device, INTX, unmask);
      expect(await taken(subject, fd)).toBe(1n);
      registers.write32(Edu.IRQ_ACKNOWLEDGE, 3);
      setIrqs(device, INTX, unmask);
      expect(await quiet(subject, fd)).toBeNull();
      registers.write32(Edu.IRQ_RAISE, 4);
      expect(await taken(subject, fd)).toBe(1n);
    });

    it('B.9 INTX UNMASK by eventfd: unmasks, and signals an interrupt that is still asserted', async ({ skip }) => {
      await using subject = await open();
      needsIntx(subject, skip);
      const { device } = subject;
      using fd = subject.eventfd();
      using source = subject.eventfd();
      enable(device);
      arm(device, INTX, [fd]);
      setIrqs(device, INTX, { action: 'unmask', data: 'sinks', sources: [source] });
      bar0(device).write32(Edu.IRQ_RAISE, 1);
      expect(await taken(subject, fd)).toBe(1n);
      source.signal();
      expect(await taken(subject, fd)).toBe(1n);
    });

    it('B.9 virtual DisINTx holds INTx back until it is cleared', async ({ skip }) => {
      await using subject = await open();
      needsIntx(subject, skip);
      const { device } = subject;
      using fd = subject.eventfd();
      config(device).write16(COMMAND, MEMORY | MASTER | INTX_DISABLE);
      arm(device, INTX, [fd]);
      bar0(device).write32(Edu.IRQ_RAISE, 1);
      expect(await quiet(subject, fd)).toBeNull();
      expect(config(device).read16(6) & 8).toBe(8);
      config(device).write16(COMMAND, MEMORY | MASTER);
      expect([await taken(subject, fd), config(device).read16(COMMAND)]).toEqual([1n, MEMORY | MASTER]);
    });

    it('S2-08 replaced while interrupts flow: none lost, none to the old one after return', async () => {
      await using subject = await open();
      const { device } = subject;
      using first = subject.eventfd();
      using second = subject.eventfd();
      enable(device);
      const registers = bar0(device);
      arm(device, MSI, [first]);
      const fds = [first, second] as const;
      for (let round = 0; round < 6; round++) {
        const [now, other] = round % 2 === 0 ? fds : [second, first];
        registers.write32(Edu.IRQ_RAISE, 1);
        expect(await taken(subject, now)).toBe(1n);
        arm(device, MSI, [other]);
        registers.write32(Edu.IRQ_RAISE, 1);
        expect([await taken(subject, other), now.read()]).toEqual([1n, null]);
        registers.write32(Edu.IRQ_ACKNOWLEDGE, 1);
      }
    });
  });
}
