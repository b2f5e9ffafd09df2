import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { ModelBulk } from '../../abi/device-host.ts';
import { MemoryStorage } from './memory-storage.ts';
import { OverlayStorage } from './overlay-storage.ts';

const SIZE = 300 * 1024 + 512;

function base(): MemoryStorage {
  const storage = new MemoryStorage(SIZE);
  for (let at = 0; at + 512 <= SIZE; at += 7 * 512) storage.write(at, new Uint8Array(512).fill(at / 512));
  return storage;
}

const kinds = { memory: () => new MemoryStorage(SIZE), overlay: () => new OverlayStorage(base()) } as const;

function contents(storage: MemoryStorage | OverlayStorage): Buffer {
  const bytes = Buffer.alloc(SIZE);
  using queue = storage.open(() => {});
  expect(queue.tryRead(0, bytes)).toBe(0);
  return bytes;
}

function copy(from: ModelBulk, to: ModelBulk, block: number): void {
  const bytes = new Uint8Array(from.blockSize);
  if (from.present(block)) from.read(block, bytes);
  if (from.present(block) || to.present(block)) to.write(block, bytes);
}

const change = fc.record({ at: fc.nat(SIZE / 512 - 1), blocks: fc.integer({ min: 0, max: 40 }), fill: fc.nat(3), zero: fc.boolean() });

it.each(['memory', 'overlay'] as const)(
  'B.11 a disk in memory (%s): what is written while it is copied is reported, and nothing is missed',
  (kind) => {
    fc.assert(
      fc.property(fc.array(change), fc.array(change), fc.array(fc.array(change), { maxLength: 4 }), (before, there, rounds) => {
        const from = kinds[kind]();
        const to = kinds[kind]();
        const apply = (
          storage: MemoryStorage | OverlayStorage,
          { at, blocks, fill, zero }: typeof change extends fc.Arbitrary<infer T> ? T : never,
        ) => {
          using queue = storage.open(() => {});
          const size = Math.min(blocks * 512, SIZE - at * 512);
          if (zero) {
            queue.zero(at * 512, size, 1, true);
            queue.drain();
            queue.submit();
            queue.drain();
          } else expect(queue.tryWrite(at * 512, new Uint8Array(size).fill(fill))).toBe(0);
        };
        for (const each of before) apply(from, each);
        // Old content does not shine through.
        for (const each of there) apply(to, each);
        expect(from.bulk.takeDirty(0)).toBe(-1);
        from.bulk.startTracking();
        for (let block = 0; block < from.bulk.size / from.bulk.blockSize; block++) copy(from.bulk, to.bulk, block);
        for (const round of rounds) {
          for (const each of round) apply(from, each);
          for (let block = from.bulk.takeDirty(0); block >= 0; block = from.bulk.takeDirty(block + 1)) copy(from.bulk, to.bulk, block);
        }
        expect(Buffer.compare(contents(to), contents(from))).toBe(0);
        from.bulk.stopTracking();
        apply(from, { at: 0, blocks: 8, fill: 1, zero: false });
        expect(from.bulk.takeDirty(0)).toBe(-1);
      }),
      { numRuns: 150 },
    );
  },
);

it('B.11 blocks that were never written are not there, and zeroes that arrive take no room', () => {
  const storage = new MemoryStorage(2 ** 40);
  storage.write(2 ** 39, Uint8Array.of(1));
  expect(storage.bulk.present(0)).toBe(false);
  expect(storage.bulk.present(2 ** 39 / 4096)).toBe(true);
  storage.bulk.write(5, new Uint8Array(4096));
  expect(storage.allocated()).toBe(0x1_0000);
});
