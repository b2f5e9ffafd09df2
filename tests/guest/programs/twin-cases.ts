/**
 * Two NVMe functions on one bus of a guest, through the guest's own VFIO: vectors that come and go,
 * low power, resets and dma-bufs of hardware. TWINS are their addresses, VIA is group or cdev.
 */
import { readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { BusError } from '../../../src/abi/bus-error.ts';
import type { InterruptSink } from '../../../src/abi/device.ts';
import { IrqIndex, IrqInfoFlags, RegionIndex } from '../../../src/abi/vfio.ts';
import { KernelDevice } from '../../../src/kernel/device.ts';
import { EventFd } from '../../../src/sys/eventfd.ts';
import { runCases } from '../../conformance/standalone/vitest.ts';
import { errnoFrom } from '../../kit/errno.ts';

const via = process.env.VIA as 'group' | 'cdev';
const [FIRST, SECOND] = process.env.TWINS!.split(',') as [string, string];
/** Registers of an NVMe controller: its version, and its mask of interrupts, 0 after a reset. */
const [VERSION, INTMS] = [0x08, 0x0c];
const MEMORY = 2;

const descriptors = () => readdirSync('/proc/self/fd').length;
const turn = () => new Promise<void>((resolve) => setTimeout(resolve, 10));

function open(bdf: string, more: object = {}): KernelDevice {
  const device = KernelDevice.open({ kind: 'pci', bdf }, { via, ...more });
  device.region(RegionIndex.CONFIG).write16(4, MEMORY);
  return device;
}

function arm(device: KernelDevice, sinks: readonly (InterruptSink | null)[], start = 0): number {
  return device.setIrqs({ index: IrqIndex.MSIX, start, count: sinks.length, action: 'trigger', data: 'sinks', sinks });
}

describe('hardware', () => {
  it('B.9 MSI-X: vectors come and go while others are in use', () => {
    const before = descriptors();
    {
      using device = open(FIRST);
      using first = EventFd.create();
      using second = EventFd.create();
      expect([device.irq(IrqIndex.MSIX).count > 8, device.irq(IrqIndex.MSIX).flags & IrqInfoFlags.NORESIZE]).toEqual([true, 0]);
      expect([arm(device, [first]), arm(device, [second], 7), arm(device, [null], 7), second.references]).toEqual([0, 0, 0, 1]);
      device.setIrqs({ index: IrqIndex.MSIX, start: 0, count: 1, action: 'trigger', data: 'none' });
      expect(first.waitSync(5000)).toBe(true);
    }
    expect(descriptors()).toBe(before);
  });

  it('B.10 low power: a mapping faults, an access through the file wakes the device and signals it', async () => {
    using device = open(FIRST);
    using mapping = device.region(0).map();
    const version = mapping.read32(VERSION);
    let woken = 0;
    const sink: InterruptSink = { signal: () => void woken++, get: () => sink, put: () => {} };
    device.lowPower.enterWithWakeup(sink);
    expect(() => mapping.read32(VERSION)).toThrow(BusError);
    expect(device.region(0).read32(VERSION)).toBe(version);
    while (woken === 0) await turn();
    expect(mapping.read32(VERSION)).toBe(version);
  });

  it('RESET takes the values of registers away; a mapping works again', () => {
    using device = open(FIRST);
    using mapping = device.region(0).map();
    mapping.write32(INTMS, 5);
    expect(mapping.read32(INTMS)).toBe(5);
    device.reset();
    expect(mapping.read32(INTMS)).toBe(0);
  });

  it('B.8 HOT_RESET hits both functions, and takes open devices as the proof', () => {
    using first = open(FIRST);
    expect(first.hotResetInfo().map(({ bdf }) => bdf)).toEqual([FIRST, SECOND]);
    using second = open(SECOND, { with: first });
    for (const device of [first, second]) device.region(0).write32(INTMS, 5);
    // QEMU's root port reports no link for a while, so Linux answers ENOTTY after the reset.
    expect(['none', 'ENOTTY']).toContain(errnoFrom(() => first.resetBus([second])));
    expect([first, second].map((device) => device.region(0).read32(INTMS))).toEqual([0, 0]);
  });

  it('B.8 DMA_BUF: a part of a BAR', () => {
    using device = open(FIRST);
    const range = { offset: 0n, length: 4096n };
    const errno = errnoFrom(() => {
      using buffer = device.exportDmaBuf({ region: 0, ranges: [range] });
      expect([buffer.size, buffer.revoked]).toEqual([4096, false]);
      device.region(RegionIndex.CONFIG).write16(4, 0);
      expect(buffer.revoked).toBe(true);
    });
    // A kernel is built with dma-bufs of BARs, or without.
    expect(['none', 'ENOTTY']).toContain(errno);
  });
});

await runCases(process.argv[2]);
