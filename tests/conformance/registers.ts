/** Info, regions, registers, config space and errors: pread, pwrite and mmap of the device file. */

import { describe, expect, it } from 'vitest';
import { BusError } from '../../src/abi/bus-error.ts';
import { RegionFlags, RegionIndex } from '../../src/abi/vfio.ts';
import { featureBytes } from '../../src/device/feature-bytes.ts';
import { errnoFrom } from '../kit/errno.ts';
import { bar0, COMMAND, type ConformanceSubject, config, EDU_ID, Edu, enable, INTX_DISABLE, MASTER, MEMORY, shapeOf } from './subject.ts';

const { READ, WRITE, MMAP } = RegionFlags;

export function infoCases(open: () => Promise<ConformanceSubject>): void {
  describe('info', () => {
    it('B.7 DEVICE_GET_INFO: a PCI device, with or without reset, 9 regions, 5 IRQ indexes', async () => {
      await using subject = await open();
      expect(subject.device.info).toMatchObject({ flags: shapeOf(subject).resets ? 3 : 2, numRegions: 9, numIrqs: 5 });
    });

    it('B.8 region indexes: BAR 0 and config exist, the rest has size and flags 0', async () => {
      await using subject = await open();
      const infos = Array.from({ length: 8 }, (_, index) => subject.device.region(index).info);
      expect(infos.map(({ index, flags, size }) => [index, flags, size])).toEqual([
        [0, READ | WRITE | MMAP, shapeOf(subject).barSize],
        ...[1, 2, 3, 4, 5, 6].map((index) => [index, 0, 0]),
        [7, READ | WRITE, shapeOf(subject).configSize],
      ]);
    });

    it('S2-11 a region index past the last is EINVAL, and so is VGA of a device that is none', async () => {
      await using subject = await open();
      for (const index of [8, 9, 40, -1, 0.5, Number.NaN, 2 ** 53]) expect(errnoFrom(() => subject.device.region(index))).toBe('EINVAL');
    });

    it('B.9 IRQ info: INTx 7/1 (of a VF 7/0), MSI 9/1, MSI-X 9/0, ERR and REQ 9/1, the rest EINVAL', async () => {
      await using subject = await open();
      const irqs = [0, 1, 2, 3, 4].map((index) => subject.device.irq(index));
      expect(irqs.map(({ index, flags, count }) => [index, flags, count])).toEqual([
        [0, 7, shapeOf(subject).pin],
        [1, 9, 1],
        [2, 9, 0],
        [3, 9, 1],
        [4, 9, 1],
      ]);
      for (const index of [5, -1, Number.NaN, 2 ** 32]) expect(errnoFrom(() => subject.device.irq(index))).toBe('EINVAL');
    });
  });
}

export function registerCases(open: () => Promise<ConformanceSubject>): void {
  describe('registers', () => {
    it('B.8 read/write: identification, liveness, and every width of the file', async () => {
      await using subject = await open();
      enable(subject.device);
      const registers = bar0(subject.device);
      expect(registers.read32(Edu.IDENTIFICATION)).toBe(EDU_ID);
      registers.write32(Edu.LIVENESS, 0x1234_5678);
      expect(registers.read32(Edu.LIVENESS)).toBe(0xedcb_a987);
      const region = subject.device.region(RegionIndex.BAR0);
      expect([
        region.read(1, new Uint8Array(3)),
        region.read(0, new Uint8Array(8)),
        region.read(0, new Uint8Array(16)),
        region.read(0, new Uint8Array(0)),
      ]).toEqual([3, 8, 16, 0]);
      const bytes = new Uint8Array(4);
      expect(region.read(0, bytes)).toBe(4);
      expect([...bytes]).toEqual([0xed, 0, 0, 1]);
      expect(region.write(Edu.LIVENESS, Uint8Array.of(0xff, 0xff, 0xff, 0xff))).toBe(4);
      expect(registers.read32(Edu.LIVENESS)).toBe(0);
    });

    it('B.8 read/write: cut at the end of the region, EINVAL past it and for regions that are not there', async () => {
      await using subject = await open();
      enable(subject.device);
      const { barSize } = shapeOf(subject);
      const region = subject.device.region(RegionIndex.BAR0);
      expect(region.read(barSize - 4, new Uint8Array(8))).toBe(4);
      for (const offset of [barSize, 2 ** 40, -1, 0.5, Number.NaN]) {
        expect(errnoFrom(() => region.read(offset, new Uint8Array(4)))).toBe('EINVAL');
        expect(errnoFrom(() => region.write(offset, new Uint8Array(4)))).toBe('EINVAL');
        expect(errnoFrom(() => region.read32(offset))).toBe('EINVAL');
      }
      for (const index of [RegionIndex.BAR1, RegionIndex.ROM, RegionIndex.VGA]) {
        expect(errnoFrom(() => subject.device.region(index).read(0, new Uint8Array(4)))).toBe('EINVAL');
      }
    });

    it('B.8 read/write: EIO while memory decoding is off; B.8 zap: mappings give SIGBUS meanwhile. C.1 a VF decodes whatever COMMAND says', async () => {
      await using subject = await open();
      const off = (errno: string) => Array(2).fill(subject.virtual === true ? 'none' : errno);
      const registers = bar0(subject.device);
      const command = config(subject.device);
      command.write16(COMMAND, MEMORY);
      using mapping = subject.device.region(RegionIndex.BAR0).map();
      command.write16(COMMAND, 0);
      expect([errnoFrom(() => registers.read32(0)), errnoFrom(() => registers.write32(4, 0))]).toEqual(off('EIO'));
      expect([errnoFrom(() => mapping.read32(0)), errnoFrom(() => mapping.write32(4, 0))]).toEqual(off('BusError'));
      command.write16(COMMAND, MEMORY);
      expect([registers.read32(0), mapping.read32(0)]).toEqual([EDU_ID, EDU_ID]);
    });

    it('B.8 mmap: BAR 0 whole or in part; EINVAL past its end, and for config, ROM and what is not there', async () => {
      await using subject = await open();
      enable(subject.device);
      const { barSize } = shapeOf(subject);
      using whole = subject.device.region(RegionIndex.BAR0).map();
      using part = subject.device.region(RegionIndex.BAR0).map(barSize - 0x1000, 0x1000);
      expect([whole.size, part.size, whole.read32(Edu.IDENTIFICATION)]).toEqual([barSize, 0x1000, EDU_ID]);
      whole.write32(Edu.LIVENESS, 0);
      expect([whole.read32(Edu.LIVENESS), bar0(subject.device).read32(Edu.LIVENESS)]).toEqual([0xffff_ffff, 0xffff_ffff]);
      expect(errnoFrom(() => subject.device.region(RegionIndex.BAR0).map(0, barSize + 4096))).toBe('EINVAL');
      expect(errnoFrom(() => subject.device.region(RegionIndex.BAR0).map(barSize, 4096))).toBe('EINVAL');
      for (const index of [RegionIndex.BAR1, RegionIndex.ROM, RegionIndex.CONFIG, RegionIndex.VGA]) {
        expect(errnoFrom(() => subject.device.region(index).map(0, 4096))).toBe('EINVAL');
      }
    });

    it('the factorial is computed, with the status bit while it is', async () => {
      await using subject = await open();
      enable(subject.device);
      const registers = bar0(subject.device);
      registers.write32(Edu.FACTORIAL, 10);
      expect(await subject.until(() => (registers.read32(Edu.STATUS) & 1) === 0)).toBe(true);
      expect(registers.read32(Edu.FACTORIAL)).toBe(3_628_800);
    });
  });
}

export function configCases(open: () => Promise<ConformanceSubject>): void {
  describe('config space', () => {
    it('S2-26 after open: bus mastering is off, ids and capabilities are there', async () => {
      await using subject = await open();
      const c = config(subject.device);
      expect([c.read16(0), c.read16(2), c.read8(8), c.read32(0x2c)]).toEqual([0x1234, 0x11e8, 0x10, 0x1100_1af4]);
      expect([c.read16(COMMAND) & MASTER, c.read16(6), c.read8(0x34), c.read8(0x3d)]).toEqual([0, 0x10, 0x40, shapeOf(subject).pin]);
      expect([c.read8(0x40), c.read16(0x42)]).toEqual([0x05, 0x80]);
    });

    it('B.8 config: EFAULT past the end, any length within', async () => {
      await using subject = await open();
      const region = subject.device.region(RegionIndex.CONFIG);
      const { configSize } = shapeOf(subject);
      expect([region.read(0, new Uint8Array(256)), region.read(0x3d, new Uint8Array(5)), region.read(0, new Uint8Array(0))]).toEqual([
        256, 5, 0,
      ]);
      expect(region.read(1, new Uint8Array(3))).toBe(3);
      expect(errnoFrom(() => region.read(0, new Uint8Array(configSize + 1)))).toBe('EFAULT');
      expect(errnoFrom(() => region.read(configSize, new Uint8Array(4)))).toBe('EFAULT');
      expect(errnoFrom(() => region.read(configSize - 4, new Uint8Array(8)))).toBe('EFAULT');
      expect(errnoFrom(() => region.write(4096, new Uint8Array(4)))).toBe('EFAULT');
    });

    it('S2-05 writable bits and others, as on Linux 7.3', async () => {
      await using subject = await open();
      const c = config(subject.device);
      // The last column is the answer of a VF, where it differs: a VF has no I/O, SERR and INTx,
      // and smaller registers.
      const answers: [offset: number, width: 1 | 2 | 4, write: number, after: number, ofVf?: number][] = [
        [0x00, 2, 0x1234, 0x1234],
        [0x02, 2, 0x1234, 0x11e8],
        [0x08, 1, 0xff, 0x10],
        [COMMAND, 2, 0, 0],
        [COMMAND, 2, 0xffff, 0x507, 0x406],
        [COMMAND, 2, MEMORY, MEMORY],
        [COMMAND, 2, MEMORY | MASTER | INTX_DISABLE, MEMORY | MASTER | INTX_DISABLE],
        [COMMAND, 2, MEMORY | MASTER, MEMORY | MASTER],
        [0x06, 2, 0xffff, 0x10],
        [0x0c, 1, 0xaa, 0xaa],
        [0x0d, 1, 0xaa, 0],
        [0x0e, 1, 0x80, 0],
        [0x0f, 1, 0xc0, 0],
        [0x10, 4, 0xffff_ffff, 0xfff0_0000, 0xffff_f000],
        [0x14, 4, 0xffff_ffff, 0],
        [0x30, 4, 0xffff_f800, 0],
        [0x2c, 4, 0xdead_beef, 0x1100_1af4],
        [0x34, 1, 0, 0x40],
        [0x3c, 1, 0x55, 0x55],
        [0x3d, 1, 4, 1, 0],
        [0x42, 2, 0xffff, 0x8e],
        [0x42, 2, 1, 0],
        [0x44, 4, 0xfee0_0000, 0xfee0_0000],
        [0x40, 1, 0xff, 0x05],
      ];
      const got = answers.map(([offset, width, write]) => {
        if (width === 1) c.write8(offset, write);
        else if (width === 2) c.write16(offset, write);
        else c.write32(offset, write);
        return width === 1 ? c.read8(offset) : width === 2 ? c.read16(offset) : c.read32(offset);
      });
      expect(got).toEqual(answers.map(([, , , after, ofVf = after]) => (subject.virtual === true ? ofVf : after)));
    });
  });
}

export function controlCases(open: () => Promise<ConformanceSubject>): void {
  describe('reset and features', () => {
    it('B.8 RESET of a device without reset is EINVAL, else registers are as at power-on; B.8 HOT_RESET_INFO on a root bus is ENODEV', async () => {
      await using subject = await open();
      const { device } = subject;
      const { resets } = shapeOf(subject);
      enable(device);
      bar0(device).write32(Edu.LIVENESS, 0);
      expect([errnoFrom(() => device.reset()), errnoFrom(() => device.hotResetInfo())]).toEqual([
        resets ? 'none' : 'EINVAL',
        resets && subject.remote !== true ? 'none' : 'ENODEV',
      ]);
      expect(bar0(device).read32(Edu.LIVENESS)).toBe(resets ? 0 : 0xffff_ffff);
    });

    it('B.7 feature ids: probes as on Linux 7.3, and for a device that can be moved, without side effects', async () => {
      await using subject = await open();
      const probe = (feature: number, op: object) =>
        errnoFrom(() => subject.device.feature({ feature, probe: true, ...op, data: new Uint8Array(0) }));
      const absent = ['ENOTTY', 'ENOTTY', 'ENOTTY'];
      const ofMoves = subject.fixed === true ? [1, 2, 6, 7, 8, 9] : [];
      const settable = ['none', 'EINVAL', 'none'];
      const gettable = ['none', 'none', 'EINVAL'];
      for (let feature = 0; feature < 16; feature++) {
        // MIG_PRECOPY_INFOv2 needs PRE_COPY, which edu does not have.
        const both = feature === 2 ? ['none', 'none', 'none'] : feature === 12 ? ['EINVAL', 'EINVAL', 'EINVAL'] : absent;
        const expected = ofMoves.includes(feature)
          ? absent
          : [3, 4, 5, 6, 7].includes(feature)
            ? settable
            : [1, 8, 9, 11].includes(feature)
              ? gettable
              : both;
        expect([feature, probe(feature, {}), probe(feature, { get: true }), probe(feature, { set: true })]).toEqual([feature, ...expected]);
      }
      expect(errnoFrom(() => subject.device.feature({ feature: 0, data: new Uint8Array(0) }))).toBe('ENOTTY');
      expect(errnoFrom(() => subject.device.feature({ feature: 0xffff, get: true, data: new Uint8Array(16) }))).toBe('ENOTTY');
    });

    it('B.10 LOW_POWER_ENTRY: a mapping faults until EXIT, while the file wakes the device', async () => {
      await using subject = await open();
      const { device } = subject;
      device.region(7).write16(4, 2);
      const region = device.region(0);
      using mapping = region.map();
      const set = (feature: number) => featureBytes(device, { feature, set: true, data: new Uint8Array(0) });
      set(3);
      expect(() => mapping.read32(0)).toThrow(BusError);
      expect(region.read32(0)).toBe(0x0100_00ed);
      expect(() => mapping.read32(0)).toThrow(BusError);
      set(5);
      expect(mapping.read32(0)).toBe(0x0100_00ed);
    });
  });
}
