/**
 * Moving a device, DMA logging, and dirty pages (B.11, B.6): the same answers through every door.
 */

import { describe, expect, it } from 'vitest';
import type { MigrationStream } from '../../src/abi/device.ts';
import { bitmapBytes, Feature } from '../../src/abi/vfio.ts';
import { featureBytes } from '../../src/device/feature-bytes.ts';
import { Migration, type MigrationStateName } from '../../src/drivers/kit/migration.ts';
import { errnoFrom } from '../kit/errno.ts';
import { bar0, type ConformanceSubject, config, dma, Edu, enable, mapped, needsMovable, startDma } from './subject.ts';

const PAGE = 4096n;
const IOVA = 0x10_0000n;
const BUFFER = BigInt(Edu.BUFFER);

function readAll(stream: MigrationStream, size = 300): Uint8Array {
  const pieces: Uint8Array[] = [];
  for (;;) {
    const piece = new Uint8Array(size);
    const got = stream.read(piece);
    if (got === 0) return new Uint8Array(Buffer.concat(pieces));
    pieces.push(piece.subarray(0, got));
  }
}

function pagesOf(bitmap: Uint8Array): number[] {
  return [...Array(bitmap.length * 8).keys()].filter((i) => ((bitmap[i >> 3]! >> (i & 7)) & 1) === 1);
}

/** Runs edu's DMA once, from its buffer. */
const write = (subject: ConformanceSubject, to: bigint, count = 100) => dma(subject, { from: BUFFER, to, count, toRam: true });

export function migrationCases(open: () => Promise<ConformanceSubject>): void {
  describe('migration', () => {
    it('B.11 edu’s abilities, its state, and the arcs between states', async ({ skip }) => {
      await using subject = await open();
      needsMovable(subject, skip);
      const migration = new Migration(subject.device);
      expect([migration.flags, migration.state]).toEqual([1, 'RUNNING']);
      const absent: MigrationStateName[] = ['ERROR', 'RUNNING_P2P', 'PRE_COPY', 'PRE_COPY_P2P'];
      for (const state of absent) expect(errnoFrom(() => migration.go(state))).toBe('EINVAL');
      const walk: [MigrationStateName, boolean][] = [
        ['RUNNING', false],
        ['STOP', false],
        ['STOP', false],
        ['STOP_COPY', true],
        ['STOP_COPY', false],
        ['RUNNING', false],
        ['STOP_COPY', true],
        ['RESUMING', true],
      ];
      for (const [state, streams] of walk) {
        const stream = migration.go(state);
        expect([state, stream !== null]).toEqual([state, streams]);
        expect(migration.state).toBe(state);
      }
      expect(errnoFrom(() => migration.go('RUNNING'))).toBe('EINVAL');
      expect(migration.state).toBe('ERROR');
      expect(errnoFrom(() => migration.go('RUNNING'))).toBe('EINVAL');
    });

    it('B.11 the stream carries registers, buffer and configuration', async ({ skip }) => {
      await using subject = await open();
      needsMovable(subject, skip);
      const { device } = subject;
      const migration = new Migration(device);
      enable(device);
      const registers = bar0(device);
      const { memory, bytes } = mapped(device, IOVA, 4096);
      using _memory = memory;
      bytes.fill(0x5a);
      await dma(subject, { from: IOVA, to: BUFFER, count: 4096, toRam: false });
      registers.write32(Edu.LIVENESS, 0x1234);
      registers.write32(Edu.STATUS, 0x80);
      config(device).write8(0x3c, 77);
      expect(migration.stopCopyBytes).toBeGreaterThan(4096);
      const stream = migration.go('STOP_COPY')!;
      const data = readAll(stream);
      expect([stream.read(new Uint8Array(10)), errnoFrom(() => stream.precopyInfo())]).toEqual([0, 'EINVAL']);
      expect(errnoFrom(() => stream.write(data))).toBe('EINVAL');
      migration.go('RUNNING');
      expect(errnoFrom(() => stream.read(new Uint8Array(10)))).toBe('ENODEV');
      stream.close();
      expect(errnoFrom(() => stream.read(new Uint8Array(10)))).toBe('EBADF');

      bytes.fill(0);
      await dma(subject, { from: IOVA, to: BUFFER, count: 4096, toRam: false });
      registers.write32(Edu.LIVENESS, 0);
      registers.write32(Edu.STATUS, 0);
      config(device).write8(0x3c, 1);
      const into = migration.go('RESUMING')!;
      expect(errnoFrom(() => into.read(new Uint8Array(10)))).toBe('EINVAL');
      for (let at = 0; at < data.length; at += 777) into.write(data.subarray(at, at + 777));
      migration.go('RUNNING');
      expect([registers.read32(Edu.LIVENESS), registers.read32(Edu.STATUS), config(device).read8(0x3c)]).toEqual([~0x1234 >>> 0, 0x80, 77]);
      await dma(subject, { from: BUFFER, to: IOVA, count: 4096, toRam: true });
      expect(bytes.every((byte) => byte === 0x5a)).toBe(true);
    });

    it('B.11 a stream that was changed on the way is EINVAL, and the device is in ERROR', async ({ skip }) => {
      await using subject = await open();
      needsMovable(subject, skip);
      const migration = new Migration(subject.device);
      const data = readAll(migration.go('STOP_COPY')!);
      data[data.length >> 1]! ^= 4;
      const stream = migration.go('RESUMING')!;
      expect(errnoFrom(() => stream.write(data))).toBe('EINVAL');
      expect(errnoFrom(() => stream.write(data))).toBe('EINVAL');
      expect(migration.state).toBe('ERROR');
    });

    it('B.11 a stopped device answers, and does no DMA until it runs again', async ({ skip }) => {
      await using subject = await open();
      needsMovable(subject, skip);
      const { device } = subject;
      const migration = new Migration(device);
      enable(device);
      migration.go('STOP');
      expect(bar0(device).read32(Edu.IDENTIFICATION)).toBe(0x0100_00ed);
      const { memory, bytes } = mapped(device, IOVA, 4096);
      using _memory = memory;
      bytes.fill(1);
      startDma(subject, { from: BUFFER, to: IOVA, count: 16, toRam: true });
      await subject.pass();
      const registers = bar0(device);
      expect([registers.read32(Edu.DMA_COMMAND) & 1, bytes[0]]).toEqual([1, 1]);
      migration.go('RUNNING');
      expect(await subject.until(() => (registers.read32(Edu.DMA_COMMAND) & 1) === 0)).toBe(true);
      expect([...bytes.subarray(0, 18)]).toEqual([...Array(16).fill(0), 1, 1]);
    });
  });

  describe('writes of the device', () => {
    it('B.11 DMA_LOGGING_START and its errnos', async ({ skip }) => {
      await using subject = await open();
      needsMovable(subject, skip);
      const migration = new Migration(subject.device);
      const start = (pageSize: bigint, ...ranges: readonly (readonly [bigint, bigint])[]) =>
        errnoFrom(() =>
          migration.startLogging(
            ranges.map(([iova, length]) => ({ iova, length })),
            pageSize,
          ),
        );
      const many = (count: number) => Array.from({ length: count }, (_, i) => [BigInt(2 * i) * PAGE, PAGE] as const);
      expect([start(PAGE), start(PAGE, ...many(257))]).toEqual(['EINVAL', 'E2BIG']);
      expect([start(PAGE, [1n, PAGE]), start(8192n, [PAGE, 8192n]), start(PAGE, [0n, 8192n], [PAGE, PAGE])]).toEqual(
        Array(3).fill('EINVAL'),
      );
      expect([start(PAGE, [2n ** 64n - PAGE, PAGE]), start(100n, [0n, 1000n])]).toEqual(['EOVERFLOW', 'EINVAL']);
      const data = new Uint8Array(24);
      new DataView(data.buffer).setBigUint64(0, PAGE, true);
      data[8] = 1;
      const short = { feature: Feature.DMA_LOGGING_START, set: true, data, ranges: new Uint8Array(15) };
      expect(errnoFrom(() => featureBytes(subject.device, short))).toBe('EFAULT');
      expect(start(PAGE, ...many(256))).toBe('none');
      expect(start(PAGE, [0n, PAGE])).toBe('EINVAL');
      migration.stopLogging();
      migration.stopLogging();
      expect(migration.startLogging([{ iova: 0n, length: 2n ** 30n }], 2n ** 21n)).toBe(PAGE);
    });

    it('B.11 DMA_LOGGING_REPORT and its errnos', async ({ skip }) => {
      await using subject = await open();
      needsMovable(subject, skip);
      const migration = new Migration(subject.device);
      const report = (iova: bigint, length: bigint, pageSize = PAGE, bytes = 8) =>
        errnoFrom(() => migration.report(iova, length, new Uint8Array(bytes), pageSize));
      expect(report(0n, PAGE)).toBe('EINVAL');
      migration.startLogging([{ iova: 0n, length: 2n ** 30n }]);
      expect([report(0n, PAGE), report(0n, PAGE, 2048n), report(0n, PAGE, 12288n), report(0n, PAGE, 0n), report(1n, PAGE)]).toEqual([
        'none',
        ...Array(4).fill('EINVAL'),
      ]);
      expect([report(2n ** 64n - PAGE, PAGE), report(0n, 65n * PAGE)]).toEqual(['EOVERFLOW', 'EFAULT']);
      expect(report(0n, 2n ** 40n, PAGE, 2 ** 25)).toBe('none');
    });

    for (const shared of [true, false]) {
      it(`B.11 DMA_LOGGING: pages are reported once, in memory that is ${shared ? 'shared' : 'reached by messages'}`, async ({ skip }) => {
        await using subject = await open();
        if (!shared && subject.ownMemoryOnly === true) skip('its DMA reaches memory of this process only');
        needsMovable(subject, skip);
        const { device } = subject;
        const migration = new Migration(device);
        enable(device);
        const memory = shared ? device.dma.allocate(64 * 4096) : new Remote(64 * 4096);
        using _memory = memory;
        device.dma.map({ iova: IOVA, memory });
        await write(subject, IOVA);
        migration.startLogging([{ iova: IOVA, length: 32n * PAGE }]);
        const told = (from = 0n, pages = 64n, unit = PAGE) => {
          const bitmap = new Uint8Array(bitmapBytes(pages * PAGE, unit));
          migration.report(IOVA + from * PAGE, pages * PAGE, bitmap, unit);
          return pagesOf(bitmap);
        };
        expect(told()).toEqual([]);
        await write(subject, IOVA + 3n * PAGE - 50n);
        await write(subject, IOVA + 17n * PAGE);
        if (shared) await write(subject, IOVA + 40n * PAGE);
        await dma(subject, { from: IOVA + 9n * PAGE, to: BUFFER, count: 100, toRam: false });
        const bitmap = new Uint8Array(8).fill(1);
        migration.report(IOVA + 2n * PAGE, 2n * PAGE, bitmap);
        expect([...bitmap]).toEqual([3, 1, 1, 1, 1, 1, 1, 1]);
        expect([told(0n, 64n, 16n * PAGE), told()]).toEqual([[1], []]);
        migration.go('STOP');
        migration.go('RUNNING');
        await write(subject, IOVA + 5n * PAGE);
        expect(told(4n, 4n)).toEqual([1]);
        migration.stopLogging();
        expect(errnoFrom(told)).toBe('EINVAL');
      });
    }

    it('B.6 dirty pages: tracked by the DMA space, reported once, and reported with an unmap', async ({ skip }) => {
      await using subject = await open();
      const { device } = subject;
      const { dirty } = device.dma;
      if (dirty === undefined) skip('an address space keeps no log: a domain of an iommufd does');
      if (subject.fixed === true) skip('an IOMMU without a log of its own reports every page that is mapped');
      enable(device);
      using first = device.dma.allocate(16 * 4096);
      using second = device.dma.allocate(16 * 4096);
      device.dma.map({ iova: IOVA, memory: first });
      device.dma.map({ iova: IOVA + 16n * PAGE, memory: second });
      const told = (into = new Uint8Array(8), from = IOVA, pages = 32n) => {
        dirty!.report(from, pages * PAGE, PAGE, into);
        return pagesOf(into);
      };
      expect(errnoFrom(told)).toBe('EINVAL');
      dirty!.start();
      await write(subject, IOVA + 2n * PAGE);
      await write(subject, IOVA + 17n * PAGE);
      expect([told(), told()]).toEqual([[2, 17], []]);
      const errno = (from: bigint, size: bigint, pageSize: bigint, bytes: number) =>
        errnoFrom(() => dirty!.report(from, size, pageSize, new Uint8Array(bytes)));
      expect([
        errno(IOVA, PAGE, PAGE, 8),
        errno(IOVA + 1n, PAGE, PAGE, 8),
        errno(IOVA, 16n * PAGE, 8192n, 8),
        errno(IOVA, 16n * PAGE, PAGE, 7),
      ]).toEqual(['EINVAL', 'EINVAL', 'EINVAL', 'EINVAL']);
      await write(subject, IOVA + PAGE);
      await write(subject, IOVA + 31n * PAGE);
      const bitmap = new Uint8Array(8);
      expect(dirty!.unmap(IOVA, 32n * PAGE, PAGE, bitmap)).toBe(32n * PAGE);
      expect(pagesOf(bitmap)).toEqual([1, 31]);
      expect(device.dma.unmapAll()).toBe(0n);
      dirty!.stop();
      expect(errnoFrom(told)).toBe('EINVAL');
    });
  });
}

/** Memory that is reached asynchronously, like another process's. */
class Remote {
  readonly kind = 'remote';
  readonly size: number;
  readonly bytes: Uint8Array;
  references = 1;

  constructor(size: number) {
    this.size = size;
    this.bytes = new Uint8Array(size);
  }

  async read(offset: number, into: Uint8Array, _requester?: string, lands = () => true): Promise<void> {
    if (lands()) into.set(this.bytes.subarray(offset, offset + into.length));
  }

  async write(offset: number, from: Uint8Array): Promise<void> {
    this.bytes.set(from, offset);
  }

  get(): this {
    this.references++;
    return this;
  }

  put(): void {
    this.references--;
  }

  [Symbol.dispose](): void {
    this.put();
  }
}
