import { describe, expect, it } from 'vitest';
import { heapGrowth } from '../../../tests/kit/heap-growth.ts';
import { Errno } from '../../base/errno.ts';
import { CHUNK_BYTES, MemoryStorage } from './memory-storage.ts';

const bytes = (count: number, value: number) => new Uint8Array(count).fill(value);

function opened(storage: MemoryStorage) {
  const told: [number, number][] = [];
  const queue = storage.open((tag, result) => told.push([tag, result]));
  return { queue, told };
}

describe('storage in memory', () => {
  it('reads as zeroes where nothing was written, and takes no room there', () => {
    using storage = new MemoryStorage(8 * 2 ** 40);
    const { queue } = opened(storage);
    const into = bytes(3 * CHUNK_BYTES, 7);
    expect(queue.tryRead(5 * 2 ** 40 - 100, into)).toBe(0);
    expect(into.every((byte) => byte === 0)).toBe(true);
    expect(storage.allocated()).toBe(0);
    expect(storage.name).toBe('8 TiB of memory');
  });

  it('holds what was written, also across chunks and at the far end', () => {
    using storage = new MemoryStorage(8 * 2 ** 40);
    const { queue } = opened(storage);
    const from = Uint8Array.from({ length: 3 * CHUNK_BYTES }, (_, i) => i * 7);
    const at = 8 * 2 ** 40 - from.length;
    expect(queue.tryWrite(at, from)).toBe(0);
    expect(queue.tryWrite(CHUNK_BYTES - 5, from)).toBe(0);
    const into = new Uint8Array(from.length);
    for (const offset of [at, CHUNK_BYTES - 5]) {
      expect(queue.tryRead(offset, into)).toBe(0);
      expect(Buffer.compare(into, from)).toBe(0);
    }
    expect(storage.allocated()).toBe(7 * CHUNK_BYTES);
  });

  it('gives whole chunks back when they are zeroed or discarded, and keeps what is around them', () => {
    using storage = new MemoryStorage(2 ** 53 - 1);
    const { queue, told } = opened(storage);
    queue.tryWrite(0, bytes(4 * CHUNK_BYTES, 1));
    queue.zero(CHUNK_BYTES - 10, CHUNK_BYTES + 20, 1, true);
    queue.submit();
    expect(storage.allocated()).toBe(3 * CHUNK_BYTES);
    const into = new Uint8Array(4 * CHUNK_BYTES);
    queue.tryRead(0, into);
    expect(into.indexOf(0)).toBe(CHUNK_BYTES - 10);
    expect(into.indexOf(1, CHUNK_BYTES)).toBe(2 * CHUNK_BYTES + 10);
    queue.zero(0, 2 ** 53 - 1, 2, false);
    queue.submit();
    expect(storage.allocated()).toBe(0);
    expect(told).toEqual([
      [1, 0],
      [2, 0],
    ]);
  });

  it('NVMe 1.4 6.7: giving back walks over what there is, not over the disk, however often and however large the ranges', () => {
    using storage = new MemoryStorage(2 ** 50);
    const one = bytes(512, 1);
    for (let i = 1; i <= 64; i++) storage.write(i * 2 ** 40 - 512, one);
    expect(storage.zero(0, 2 ** 46)).toBe(0);
    expect(storage.allocated()).toBe(0);
    storage.write(2 ** 50 - 512, one);
    // A step for each 64 MiB of the disk would take hours.
    for (let i = 0; i < 10_000; i++) storage.zero(2 ** 20, 2 ** 50 - 2 ** 21);
    const into = bytes(512, 0);
    storage.read(2 ** 50 - 512, into);
    expect(into).toEqual(one);
  });

  it('starts and reports only submitted operations, in order, and never from the call that queued it', () => {
    using storage = new MemoryStorage(CHUNK_BYTES);
    const { queue, told } = opened(storage);
    const into = new Uint8Array(4);
    queue.write(0, bytes(4, 9), 1, true);
    queue.read(0, into, 2);
    queue.flush(3);
    expect(told).toEqual([]);
    expect(queue.pending).toBe(3);
    queue.submit();
    expect(told).toEqual([
      [1, 0],
      [2, 0],
      [3, 0],
    ]);
    expect([...into]).toEqual([9, 9, 9, 9]);
    expect(queue.pending).toBe(0);
    queue.flush(4);
    queue.drain();
    expect(told).toHaveLength(3);
    expect(queue.pending).toBe(1);
  });

  it('goes on with what is submitted from within a completion, however long that chain is', () => {
    using storage = new MemoryStorage(CHUNK_BYTES);
    let left = 100_000;
    const queue = storage.open(() => {
      if (left-- === 0) return;
      queue.flush(left);
      queue.submit();
    });
    queue.flush(0);
    queue.submit();
    expect(left).toBe(-1);
    left = 100_000;
    queue.flush(0);
    queue.submit();
    queue.drain();
    expect(left).toBe(-1);
  });

  it('reports nothing after its queue is disposed, and does not start what was not submitted', () => {
    using storage = new MemoryStorage(CHUNK_BYTES);
    const told: number[] = [];
    const queue = storage.open((tag) => {
      told.push(tag);
      queue[Symbol.dispose]();
    });
    queue.write(0, bytes(1, 1), 1, false);
    queue.write(1, bytes(1, 2), 2, false);
    queue.submit();
    queue.write(2, bytes(1, 3), 3, false);
    queue.submit();
    expect(told).toEqual([1]);
    expect(queue.pending).toBe(0);
    expect(queue.tryRead(0, new Uint8Array(1))).toBe(-Errno.EBADF);
    const into = new Uint8Array(3);
    expect(opened(storage).queue.tryRead(0, into)).toBe(0);
    expect([...into]).toEqual([1, 2, 0]);
  });

  it('refuses what lies outside, whatever the number, and changes nothing', () => {
    using storage = new MemoryStorage(10_000);
    const { queue, told } = opened(storage);
    const outside: [number, number][] = [
      [9_999, 2],
      [10_000, 1],
      [-1, 1],
      [Number.NaN, 1],
      [0.5, 1],
      [2 ** 53, 1],
      [Number.POSITIVE_INFINITY, 1],
    ];
    for (const [offset, size] of outside) {
      expect(queue.tryRead(offset, bytes(size, 1))).toBe(-Errno.EINVAL);
      expect(queue.tryWrite(offset, bytes(size, 1))).toBe(-Errno.EINVAL);
      queue.zero(offset, size, 1, true);
    }
    queue.zero(0, Number.NaN, 1, true);
    queue.zero(0, -1, 1, true);
    queue.submit();
    expect(told.every(([, result]) => result === -Errno.EINVAL)).toBe(true);
    expect(told).toHaveLength(outside.length + 2);
    expect(storage.allocated()).toBe(0);
    expect(() => new MemoryStorage(0)).toThrow(/0 bytes/);
    expect(() => new MemoryStorage(Number.NaN)).toThrow(/NaN/);
  });

  it('is gone when disposed', () => {
    const storage = new MemoryStorage(10_000);
    const { queue } = opened(storage);
    queue.tryWrite(0, bytes(1, 1));
    storage[Symbol.dispose]();
    expect(queue.tryRead(0, new Uint8Array(1))).toBe(-Errno.EBADF);
    expect(queue.tryWrite(0, new Uint8Array(1))).toBe(-Errno.EBADF);
    expect(storage.allocated()).toBe(0);
  });

  it('allocates nothing for a block that is read or written', () => {
    using storage = new MemoryStorage(1 << 24);
    const { queue } = opened(storage);
    const block = bytes(4096, 1);
    let next = 0;
    const grown = heapGrowth(() => {
      for (let i = 0; i < 50_000; i++) {
        next = (next + 13 * 4096) % (1 << 24);
        queue.tryWrite(next, block);
        queue.tryRead(next, block);
      }
    }, 400_000);
    // An object of 16 bytes each would be 1.6 MB.
    expect(grown).toBeLessThan(400_000);
  });
});
