import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SlowStorage } from '../../../tests/kit/slow-storage.ts';
import { WOULD_BLOCK } from '../../abi/storage.ts';
import { Errno } from '../../base/errno.ts';
import { MemoryStorage } from './memory-storage.ts';
import { OverlayStorage } from './overlay-storage.ts';

const SIZE = 40_000;
const pattern = Uint8Array.from({ length: SIZE }, (_, i) => (i % 251) + 1);

function filled(size = SIZE): MemoryStorage {
  const memory = new MemoryStorage(size);
  memory.write(0, pattern.subarray(0, Math.min(size, SIZE)));
  return memory;
}

function contents(storage: MemoryStorage): Uint8Array {
  const into = new Uint8Array(storage.size);
  storage.read(0, into);
  return into;
}

describe('an overlay in memory', () => {
  it('reads from its base what was not written, and never writes there', () => {
    const base = filled();
    using overlay = new OverlayStorage(base);
    using queue = overlay.open(() => {});
    expect(queue.tryWrite(5000, new Uint8Array(10))).toBe(0);
    const into = new Uint8Array(SIZE);
    expect(queue.tryRead(0, into)).toBe(0);
    expect(into).toEqual(pattern.map((byte, i) => (i >= 5000 && i < 5010 ? 0 : byte)));
    expect(contents(base)).toEqual(pattern);
    expect(overlay.readOnly).toBe(false);
  });

  it('answers at once over a slow base what was written, and whole granules', () => {
    const slow = new SlowStorage(filled(), true);
    using overlay = new OverlayStorage(slow);
    using queue = overlay.open(() => {});
    expect(queue.tryRead(0, new Uint8Array(1))).toBe(WOULD_BLOCK);
    expect(queue.tryWrite(1, new Uint8Array(1))).toBe(WOULD_BLOCK);
    expect(queue.tryWrite(4096, new Uint8Array(4096))).toBe(0);
    expect(queue.tryWrite(4100, new Uint8Array(50))).toBe(0);
    expect(queue.tryRead(4096, new Uint8Array(4096))).toBe(0);
    expect(queue.tryRead(4095, new Uint8Array(2))).toBe(WOULD_BLOCK);
    // The last granule is only a part of one.
    expect(queue.tryWrite(36_864, new Uint8Array(SIZE - 36_864))).toBe(0);
    expect(slow.underWay).toHaveLength(0);
  });

  it('lets two writes into one granule of a slow base both land, whichever ends first', () => {
    for (const order of [0, 1]) {
      const slow = new SlowStorage(filled(), true);
      using overlay = new OverlayStorage(slow);
      const told: number[] = [];
      using queue = overlay.open((tag) => told.push(tag));
      queue.write(10, new Uint8Array([201]), 1, false);
      queue.write(20, new Uint8Array([202]), 2, false);
      queue.submit();
      slow.end(order);
      slow.end();
      expect(told).toEqual(order === 0 ? [1, 2] : [2, 1]);
      const into = new Uint8Array(30);
      expect(queue.tryRead(0, into)).toBe(0);
      expect(into).toEqual(pattern.slice(0, 30).map((byte, i) => (i === 10 ? 201 : i === 20 ? 202 : byte)));
    }
  });

  it('reports an error of its base, and the write has not happened', () => {
    const slow = new SlowStorage(filled(), true);
    using overlay = new OverlayStorage(slow);
    const told: number[] = [];
    using queue = overlay.open((_tag, result) => told.push(result));
    slow.readError = -Errno.EIO;
    queue.write(10, new Uint8Array(5000), 1, false);
    queue.read(0, new Uint8Array(9000), 2);
    queue.submit();
    queue.drain();
    expect(told).toEqual([-Errno.EIO, -Errno.EIO]);
    slow.readError = 0;
    const into = new Uint8Array(SIZE);
    queue.read(0, into, 3);
    queue.submit();
    queue.drain();
    expect(into).toEqual(pattern);
  });

  it('ends what was submitted when its queue is disposed, without telling', () => {
    const slow = new SlowStorage(filled(), true);
    using overlay = new OverlayStorage(slow);
    const queue = overlay.open(() => expect.unreachable());
    queue.write(10, new Uint8Array([99]), 1, false);
    queue.submit();
    queue[Symbol.dispose]();
    expect(queue.pending).toBe(1);
    slow.end();
    expect(queue.pending).toBe(0);
    using other = overlay.open(() => {});
    const into = new Uint8Array(1);
    expect(other.tryRead(10, into)).toBe(0);
    expect(into[0]).toBe(99);
  });

  it('zeroes terabytes without holding them', () => {
    using overlay = new OverlayStorage(filled(16 * 2 ** 40));
    const told: number[] = [];
    using queue = overlay.open((_tag, result) => told.push(result));
    queue.zero(5, 16 * 2 ** 40 - 5, 1, true);
    queue.submit();
    expect(told).toEqual([0]);
    const into = new Uint8Array(SIZE);
    expect(queue.tryRead(0, into)).toBe(0);
    expect(into).toEqual(pattern.map((byte, i) => (i < 5 ? byte : 0)));
    expect(overlay.memory.allocated()).toBeLessThan(1_000_000);
  });

  it('is the same as an array, over a base that answers in any order', () => {
    const range = fc.record({ offset: fc.nat(SIZE - 1), size: fc.nat(13_000) });
    const step = fc.oneof(
      fc.record({
        what: fc.constantFrom('write' as const, 'zero' as const, 'read' as const),
        range,
        value: fc.nat(255),
        now: fc.boolean(),
      }),
      fc.record({ what: fc.constant('end' as const), pick: fc.nat() }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const slow = new SlowStorage(filled(), true);
        using overlay = new OverlayStorage(slow);
        const expected = pattern.slice();
        const ended: (() => void)[] = [];
        const ranges: { from: number; to: number }[] = [];
        using queue = overlay.open((tag, result) => {
          expect(result).toBe(0);
          ended[tag]!();
        });
        for (const each of steps) {
          if (each.what === 'end') {
            if (slow.underWay.length > 0) slow.end(each.pick);
            continue;
          }
          const { offset } = each.range;
          const size = Math.min(each.range.size, SIZE - offset);
          const range = { from: offset, to: offset + size };
          // Overlapping operations under way together has no order that one could rely on.
          if (ranges.some(({ from, to }) => from < range.to && range.from < to)) continue;
          const bytes = new Uint8Array(size).fill(each.what === 'zero' ? 0 : each.value);
          const landed = () => each.what !== 'read' && expected.set(bytes, offset);
          if (each.now && each.what !== 'zero') {
            if (each.what === 'read') {
              if (queue.tryRead(offset, bytes) === 0) expect(Buffer.compare(bytes, expected.slice(offset, offset + size))).toBe(0);
            } else if (queue.tryWrite(offset, bytes) === 0) landed();
            continue;
          }
          ranges.push(range);
          const tag = ended.length;
          ended.push(() => {
            ranges.splice(ranges.indexOf(range), 1);
            if (each.what === 'read') expect(Buffer.compare(bytes, expected.slice(offset, offset + size))).toBe(0);
            landed();
          });
          if (each.what === 'read') queue.read(offset, bytes, tag);
          else if (each.what === 'zero') queue.zero(offset, size, tag, true);
          else queue.write(offset, bytes, tag, false);
          queue.submit();
        }
        queue.drain();
        expect(queue.pending).toBe(0);
        const into = new Uint8Array(SIZE);
        queue.read(0, into, ended.push(() => {}) - 1);
        queue.submit();
        queue.drain();
        expect(Buffer.compare(into, expected)).toBe(0);
        expect(Buffer.compare(contents(slow.memory), pattern)).toBe(0);
      }),
    );
  });
});
