/** Mapping memory, and DMA that lands or does not. */
import { describe, expect, it } from 'vitest';
import { Access } from '../../src/abi/memory.ts';
import { IrqIndex } from '../../src/abi/vfio.ts';
import { errnoFrom } from '../kit/errno.ts';
import { arm, bar0, COMMAND, type ConformanceSubject, config, dma, Edu, enable, IrqCause, MEMORY, mapped } from './subject.ts';

const PAGE = 4096n;
const TEXT = new TextEncoder().encode('through the IOMMU\0');
const BUFFER = BigInt(Edu.BUFFER);

export function mapCases(open: () => Promise<ConformanceSubject>): void {
  describe('DMA mappings', () => {
    it('B.6 MAP: 4 KiB pages; EINVAL for a misaligned or empty range, or one outside, EOVERFLOW past the end, EEXIST over a mapping', async () => {
      await using subject = await open();
      const space = subject.device.dma;
      expect(space.pageSizes & -space.pageSizes).toBe(PAGE);
      using memory = space.allocate(4 * 4096);
      const map = (iova: bigint, more: object = {}) => errnoFrom(() => space.map({ iova, memory, ...more }));
      expect(map(0x10_0010n)).toBe('EINVAL');
      expect(map(0x10_0000n, { size: 0 })).toBe('EINVAL');
      expect(map(0x10_0000n, { size: 100 })).toBe('EINVAL');
      expect(map(2n ** 64n - PAGE, { size: 8192 })).toBe('EOVERFLOW');
      expect(map(-PAGE)).toBe('EINVAL');
      const [last] = [...space.ranges].reverse();
      expect(map(last!.last + 1n)).toBe('EINVAL');
      expect(map(0x10_0000n)).toBe('none');
      for (const iova of [0x10_0000n, 0x10_3000n, 0xf_e000n]) expect(map(iova)).toBe('EEXIST');
      expect(map(0x10_4000n)).toBe('none');
      expect(space.unmapAll()).toBe(0x8000n);
    });

    it('B.6 UNMAP v2: whole mappings only, 0 where nothing is', async () => {
      await using subject = await open();
      const space = subject.device.dma;
      using memory = space.allocate(4 * 4096);
      space.map({ iova: 0x10_0000n, memory });
      space.map({ iova: 0x10_4000n, memory });
      const unmap = (iova: bigint, size: bigint) => errnoFrom(() => space.unmap(iova, size));
      expect([unmap(0x10_0000n, PAGE), unmap(0x10_1000n, 3n * PAGE), unmap(0x10_0000n, 0n), unmap(0x10_0001n, PAGE)]).toEqual([
        'EINVAL',
        'EINVAL',
        'EINVAL',
        'EINVAL',
      ]);
      expect([space.unmap(0x90_0000n, PAGE), space.unmap(0x10_0000n, 8n * PAGE), space.unmapAll()]).toEqual([0n, 0x8000n, 0n]);
    });

    it('B.6 dma_entry_limit: the count of available entries goes down with each mapping and up again', async () => {
      await using subject = await open();
      const space = subject.device.dma;
      const before = space.available;
      using memory = space.allocate(4096);
      for (let i = 0n; i < 3n; i++) space.map({ iova: 0x10_0000n + 2n * i * PAGE, memory });
      expect(space.available).toBe(before - 3);
      space.unmapAll();
      expect(space.available).toBe(before);
    });

    it('S2-46 memory is held while it is mapped, and released once', async () => {
      await using subject = await open();
      const space = subject.device.dma;
      const memory = space.allocate(4096);
      space.map({ iova: 0n, memory });
      expect(memory.references).toBeGreaterThan(1);
      space.unmap(0n, PAGE);
      expect(memory.references).toBe(1);
      memory[Symbol.dispose]();
      expect(memory.references).toBe(0);
    });
  });
}

export function dmaCases(open: () => Promise<ConformanceSubject>): void {
  describe('DMA', () => {
    it('S2-03 both ways through the IOMMU, with an interrupt at the end', async () => {
      await using subject = await open();
      const { device } = subject;
      using fd = subject.eventfd();
      enable(device);
      arm(device, IrqIndex.MSI, [fd]);
      const { memory, bytes } = mapped(device, 0x10_0000n, 8192);
      using _memory = memory;
      bytes.set(TEXT);
      const registers = bar0(device);
      expect(await dma(subject, { from: 0x10_0000n, to: BUFFER, count: TEXT.length, toRam: false }, fd)).toBe(true);
      expect(registers.read32(Edu.IRQ_STATUS)).toBe(IrqCause.DMA);
      registers.write32(Edu.IRQ_ACKNOWLEDGE, IrqCause.DMA);
      expect(await dma(subject, { from: BUFFER, to: 0x10_1000n, count: TEXT.length, toRam: true }, fd)).toBe(true);
      expect(bytes.subarray(4096, 4096 + TEXT.length)).toEqual(TEXT);
      expect(device.dma.unmap(0x10_0000n, 2n * PAGE)).toBe(0x2000n);
    });

    it('S2-30 DMA to an unmapped address does not land; the device goes on', async () => {
      await using subject = await open();
      const { device } = subject;
      enable(device);
      const { memory, bytes } = mapped(device, 0x10_0000n, 8192);
      using _memory = memory;
      bytes.set(TEXT);
      await dma(subject, { from: 0x10_0000n, to: BUFFER, count: TEXT.length, toRam: false });
      device.dma.unmapAll();
      bytes.fill(0);
      expect(await dma(subject, { from: BUFFER, to: 0x10_1000n, count: TEXT.length, toRam: true })).toBe(true);
      expect(bytes.every((b) => b === 0)).toBe(true);
      device.dma.map({ iova: 0x10_0000n, memory });
      await dma(subject, { from: BUFFER, to: 0x10_1000n, count: TEXT.length, toRam: true });
      expect(bytes.subarray(4096, 4096 + TEXT.length)).toEqual(TEXT);
    });

    it('S2-53 a read-only mapping takes no writes, and gives reads', async () => {
      await using subject = await open();
      const { device } = subject;
      enable(device);
      using memory = device.dma.allocate(4096);
      const bytes = memory.windows[0]!;
      bytes.set(TEXT);
      device.dma.map({ iova: 0x10_0000n, memory, access: Access.READ });
      const { memory: target, bytes: copy } = mapped(device, 0x20_0000n, 4096);
      using _target = target;
      await dma(subject, { from: 0x10_0000n, to: BUFFER, count: TEXT.length, toRam: false });
      await dma(subject, { from: BUFFER, to: 0x10_0100n, count: TEXT.length, toRam: true });
      expect(bytes.subarray(0x100, 0x100 + TEXT.length).every((b) => b === 0)).toBe(true);
      await dma(subject, { from: BUFFER, to: 0x20_0000n, count: TEXT.length, toRam: true });
      expect(copy.subarray(0, TEXT.length)).toEqual(TEXT);
    });

    it('S2-38 DMA without bus mastering does not land', async () => {
      await using subject = await open();
      const { device } = subject;
      const { memory, bytes } = mapped(device, 0x10_0000n, 4096);
      using _memory = memory;
      bytes.fill(0x55);
      config(device).write16(COMMAND, MEMORY);
      expect(await dma(subject, { from: BUFFER, to: 0x10_0000n, count: 64, toRam: true })).toBe(true);
      expect(bytes.every((b) => b === 0x55)).toBe(true);
    });
  });
}
