/** Commands of the NVM command set, one at a time and split, in place and copied. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { NvmOpcode } from '../../../src/abi/nvme.ts';
import { Status } from '../../../src/abi/nvme-status.ts';
import { isStatus } from '../../../src/drivers/nvme/errors.ts';
import { LARGE, SMALL } from './disk.ts';
import { begin, failure, type OpenNvme, pattern, same } from './subject.ts';

export function ioCases(open: OpenNvme): void {
  describe('NVM commands', () => {
    it.each([SMALL, LARGE])('6.9 and 6.15 a read returns what was written: namespace %i', async (id) => {
      const { driver } = await begin(open);
      const ns = driver.namespace(id);
      expect(same(await ns.read(5, 3), new Uint8Array(3 * ns.blockSize))).toBe(true);
      for (const [lba, blocks] of [
        [0, 1],
        [5, 3],
        [ns.blocks - 2, 2],
      ] as const) {
        await ns.write(lba, pattern(blocks * ns.blockSize, lba), { fua: lba === 5 });
        expect([lba, same(await ns.read(lba, blocks), pattern(blocks * ns.blockSize, lba))]).toEqual([lba, true]);
      }
    });

    it('4.3 in place: at any offset that PRPs can express, over pages and lists, and no byte beside it', async () => {
      const { driver } = await begin(open);
      const ns = driver.namespace(SMALL);
      using out = driver.dev.dma.alloc(256 * 1024);
      using back = driver.dev.dma.alloc(256 * 1024);
      for (const [offset, blocks] of [
        [0, 8],
        [4, 8],
        [4092, 1],
        [3584, 1],
        [2048, 12],
        [4096, 256],
        [100, 256],
        [4092, 255],
      ] as const) {
        const size = blocks * 512;
        const data = pattern(size, offset + blocks);
        out.bytes.fill(0xee);
        out.bytes.set(data, offset);
        back.bytes.fill(0xdd);
        await ns.writeFrom(7, blocks, out, offset);
        await ns.readInto(7, blocks, back, offset);
        expect([offset, blocks, same(back.bytes.subarray(offset, offset + size), data)]).toEqual([offset, blocks, true]);
        expect(back.bytes.subarray(0, offset).every((b) => b === 0xdd)).toBe(true);
        expect(back.bytes.subarray(offset + size).every((b) => b === 0xdd)).toBe(true);
      }
    });

    it('5.15.2.2 MDTS: megabytes in one call, copied and in place', async () => {
      const { driver } = await begin(open);
      const ns = driver.namespace(LARGE);
      const size = 5 * 2 ** 20;
      const data = pattern(size, 9);
      await ns.write(100, data);
      expect(same(await ns.read(100, size / 4096), data)).toBe(true);
      using buffer = driver.dev.dma.alloc(size + 4096);
      await ns.readInto(100, size / 4096, buffer, 1024);
      expect(same(buffer.bytes.subarray(1024, 1024 + size), data)).toBe(true);
      await ns.writeFrom(3000, size / 4096, buffer, 1024);
      const into = new Uint8Array(size + 10);
      await ns.readInto(3000, size / 4096, into, 10);
      expect(same(into.subarray(10), data)).toBe(true);
    });

    it('6.6 Compare distinguishes equal from different, over several commands', async () => {
      const { driver } = await begin(open);
      const ns = driver.namespace(SMALL);
      const data = pattern(300 * 1024, 2);
      await ns.write(0, data);
      expect(await ns.compare(0, data)).toBe(true);
      data[299 * 1024]! ^= 1;
      expect(await ns.compare(0, data)).toBe(false);
      const error = await failure(driver.io({ opcode: NvmOpcode.COMPARE, nsid: SMALL, cdw10: 0, cdw12: 0, write: new Uint8Array(512) }));
      expect(isStatus(error, Status.COMPARE_FAILURE)).toBe(true);
    });

    it('6.8 Flush', async () => {
      const { driver } = await begin(open);
      await driver.namespace(SMALL).write(0, pattern(512, 1));
      await driver.namespace(SMALL).flush();
    });

    it('6.17 Write Zeroes and 6.7 Dataset Management: zeroed blocks read as zeroes, their neighbours as before', async () => {
      const { driver } = await begin(open);
      const ns = driver.namespace(SMALL);
      const data = pattern(512 * 1000, 5);
      await ns.write(0, data);
      await ns.writeZeroes(10, 3);
      await ns.writeZeroes(100, 500, { deallocate: true });
      await ns.deallocate([
        { lba: 700, blocks: 50 },
        { lba: 900, blocks: 1 },
      ]);
      data.fill(0, 512 * 10, 512 * 13);
      data.fill(0, 512 * 100, 512 * 600);
      const back = await ns.read(0, 1000);
      expect(same(back.subarray(0, 512 * 700), data.subarray(0, 512 * 700))).toBe(true);
      for (let lba = 700; lba < 1000; lba++) {
        const block = back.subarray(lba * 512, lba * 512 + 512);
        const given = (lba >= 700 && lba < 750) || lba === 900;
        // A deallocated block reads as before, or as zeroes: the controller may choose (6.7.1.1).
        const as = same(block, data.subarray(lba * 512, lba * 512 + 512)) || (given && block.every((b) => b === 0));
        expect([lba, as]).toEqual([lba, true]);
      }
      await ns.deallocate(Array.from({ length: 600 }, (_, i) => ({ lba: 2 * i, blocks: 1 })));
    });

    it('6.17 Write Zeroes of everything in one call', async () => {
      const { driver } = await begin(open);
      const ns = driver.namespace(LARGE);
      await ns.write(ns.blocks - 1, pattern(4096, 1));
      await ns.writeZeroes(0, ns.blocks);
      expect((await ns.read(ns.blocks - 1, 1)).every((b) => b === 0)).toBe(true);
    });

    it('6.14 Verify', async () => {
      const { driver } = await begin(open);
      await driver.namespace(LARGE).verify(0, 1000);
    });

    it('4.6.1.2.1 past the end: refused by the driver, and by the controller', async () => {
      const { driver } = await begin(open);
      const ns = driver.namespace(SMALL);
      expect((await failure(ns.read(ns.blocks, 1))).code).toBe('EINVAL');
      expect((await failure(ns.write(ns.blocks - 1, new Uint8Array(1024)))).code).toBe('EINVAL');
      expect((await failure(ns.writeZeroes(ns.blocks, 1))).code).toBe('EINVAL');
      expect((await failure(ns.deallocate([{ lba: 0, blocks: ns.blocks + 1 }]))).code).toBe('EINVAL');
      for (const opcode of [NvmOpcode.WRITE, NvmOpcode.COMPARE]) {
        const error = await failure(driver.io({ opcode, nsid: SMALL, cdw10: ns.blocks, write: new Uint8Array(512) }));
        expect(isStatus(error, Status.LBA_OUT_OF_RANGE)).toBe(true);
      }
    });

    it('6 any calls in any order: the contents are those of an array', async () => {
      const { driver } = await begin(open, { depth: 16 });
      const blocks = 2000;
      const ns = driver.namespace(SMALL);
      const array = new Uint8Array(blocks * 512);
      const range = fc
        .tuple(fc.nat(blocks - 1), fc.integer({ min: 1, max: 400 }))
        .map(([lba, n]) => [lba, Math.min(n, blocks - lba)] as const);
      const call = fc.record({ kind: fc.constantFrom('write', 'write in place', 'zero', 'read', 'flush'), range, seed: fc.nat(1000) });
      await ns.writeZeroes(0, blocks);
      await fc.assert(
        fc.asyncProperty(fc.array(call, { minLength: 5, maxLength: 30 }), async (calls) => {
          using buffer = driver.dev.dma.alloc(400 * 512 + 8);
          for (const {
            kind,
            range: [lba, n],
            seed,
          } of calls) {
            const data = pattern(n * 512, seed);
            if (kind === 'write') {
              await ns.write(lba, data);
              array.set(data, lba * 512);
            } else if (kind === 'write in place') {
              buffer.bytes.set(data, 8);
              await ns.writeFrom(lba, n, buffer, 8);
              array.set(data, lba * 512);
            } else if (kind === 'zero') {
              await ns.writeZeroes(lba, n, { deallocate: seed % 2 === 0 });
              array.fill(0, lba * 512, (lba + n) * 512);
            } else if (kind === 'read') {
              expect(same(await ns.read(lba, n), array.subarray(lba * 512, (lba + n) * 512))).toBe(true);
            } else {
              await ns.flush();
            }
          }
          expect(same(await ns.read(0, blocks), array)).toBe(true);
        }),
        { numRuns: 15 },
      );
    });
  });
}
