import { describe, expect, it } from 'vitest';
import { VfioError } from '../../base/errno.ts';
import { type BlockDevice, copyIn, copyOut, type Sink, type Source } from './copy.ts';

const BLOCK = 8;

/**
 * A disk in an array. Commands end in an order of their own, and it looks whether anybody touches a
 * slot that is in flight.
 */
class ArrayDisk implements BlockDevice {
  readonly name = 'namespace 1';
  readonly blockSize = BLOCK;
  readonly blocks: number;
  readonly bytes: Uint8Array;
  readonly slots: Uint8Array[];
  inFlight = 0;
  mostInFlight = 0;
  flushed = 0;
  failsAt = -1;
  corrupts = -1;
  readonly #busy = new Set<number>();

  constructor(blocks: number, slots = 4, blocksPerSlot = 2) {
    this.blocks = blocks;
    this.bytes = Uint8Array.from({ length: blocks * BLOCK }, (_, i) => (i * 7) & 0xff);
    this.slots = Array.from({ length: slots }, () => new Uint8Array(blocksPerSlot * BLOCK));
  }

  async read(lba: number, blocks: number, slot: number): Promise<void> {
    await this.#command(lba, blocks, slot);
    this.slots[slot]!.set(this.bytes.subarray(lba * BLOCK, (lba + blocks) * BLOCK));
  }

  async write(lba: number, blocks: number, slot: number): Promise<void> {
    const before = this.slots[slot]!.slice();
    await this.#command(lba, blocks, slot);
    expect(this.slots[slot]).toEqual(before);
    this.bytes.set(before.subarray(0, blocks * BLOCK), lba * BLOCK);
    if (lba <= this.corrupts && this.corrupts < lba + blocks) this.bytes[this.corrupts * BLOCK + 3]! ^= 1;
  }

  async flush(): Promise<void> {
    expect(this.inFlight).toBe(0);
    this.flushed++;
  }

  async #command(lba: number, blocks: number, slot: number): Promise<void> {
    expect(lba + blocks).toBeLessThanOrEqual(this.blocks);
    expect(this.#busy.has(slot)).toBe(false);
    this.#busy.add(slot);
    this.mostInFlight = Math.max(this.mostInFlight, ++this.inFlight);
    for (let i = (lba * 5) % 7; i >= 0; i--) await Promise.resolve();
    this.#busy.delete(slot);
    this.inFlight--;
    if (lba <= this.failsAt && this.failsAt < lba + blocks) throw new VfioError('EIO', `LBA ${this.failsAt} is bad`);
  }
}

class Collected implements Sink {
  readonly bytes: number[] = [];
  async write(bytes: Uint8Array): Promise<void> {
    await Promise.resolve();
    this.bytes.push(...bytes);
  }
}

function sourceOf(bytes: Uint8Array): Source {
  let at = 0;
  return {
    async read(into) {
      const part = bytes.subarray(at, at + into.length);
      into.set(part);
      at += part.length;
      return part.length;
    },
  };
}

const pattern = (blocks: number, extra = 0) => Uint8Array.from({ length: blocks * BLOCK + extra }, (_, i) => (i * 13 + 5) & 0xff);

describe('copyOut', () => {
  it.each([
    [0, 33],
    [0, 0],
    [5, 1],
    [7, 20],
    [31, 2],
  ])('gives blocks from %d on, %d of them, in order, with all slots in use', async (start, count) => {
    const disk = new ArrayDisk(33);
    const sink = new Collected();
    const told: number[] = [];
    expect(await copyOut(disk, start, count, sink, { onProgress: (bytes) => told.push(bytes) })).toBe(count);
    expect(Uint8Array.from(sink.bytes)).toEqual(disk.bytes.subarray(start * BLOCK, (start + count) * BLOCK));
    expect(disk.mostInFlight).toBe(Math.min(Math.ceil(count / 2), 4));
    expect(told.at(-1) ?? 0).toBe(count * BLOCK);
  });

  it('gives everything before the block that fails, then throws with nothing in flight', async () => {
    const disk = new ArrayDisk(33);
    disk.failsAt = 11;
    const sink = new Collected();
    await expect(copyOut(disk, 0, 33, sink)).rejects.toThrow('LBA 11 is bad');
    expect(Uint8Array.from(sink.bytes)).toEqual(disk.bytes.subarray(0, 10 * BLOCK));
    expect(disk.inFlight).toBe(0);
  });

  it('refuses what the device does not have', async () => {
    for (const [start, count] of [
      [33, 0],
      [0, 34],
      [-1, 1],
      [0.5, 1],
      [0, Number.NaN],
    ] as const) {
      await expect(copyOut(new ArrayDisk(33), start, count, new Collected())).rejects.toMatchObject({ code: 'EINVAL' });
    }
  });

  it('stops at the signal, with nothing in flight', async () => {
    const disk = new ArrayDisk(33);
    const stop = new AbortController();
    const sink = new Collected();
    const done = await copyOut(disk, 0, 33, sink, { signal: stop.signal, onProgress: (bytes) => void (bytes > 40 && stop.abort()) });
    expect(done).toBe(6);
    expect(sink.bytes).toHaveLength(6 * BLOCK);
    expect(disk.inFlight).toBe(0);
  });
});

describe('copyIn', () => {
  it.each([0, 1, 2, 9, 33])('writes %d blocks where they belong, and no others, and flushes', async (blocks) => {
    const disk = new ArrayDisk(40);
    const expected = disk.bytes.slice();
    expected.set(pattern(blocks), 5 * BLOCK);
    expect(await copyIn(disk, 5, sourceOf(pattern(blocks)))).toBe(blocks);
    expect(disk.bytes).toEqual(expected);
    expect(disk.flushed).toBe(1);
  });

  it('refuses a source that ends within a block, and with pad fills it with zeroes', async () => {
    const refused = new ArrayDisk(40);
    await expect(copyIn(refused, 0, sourceOf(pattern(5, 3)))).rejects.toThrow(/ends 3 bytes into a block of 8; LBA 5 was not written/);
    expect(refused.bytes.subarray(5 * BLOCK)).toEqual(new ArrayDisk(40).bytes.subarray(5 * BLOCK));
    expect(refused.inFlight).toBe(0);
    const padded = new ArrayDisk(40);
    expect(await copyIn(padded, 0, sourceOf(pattern(5, 3)), { pad: true })).toBe(6);
    const expected = new ArrayDisk(40).bytes;
    expected.set(new Uint8Array(6 * BLOCK));
    expected.set(pattern(5, 3));
    expect(padded.bytes).toEqual(expected);
  });

  it('writes as many blocks as the option says, and refuses a source that has fewer', async () => {
    const disk = new ArrayDisk(40);
    expect(await copyIn(disk, 0, sourceOf(pattern(20)), { count: 3 })).toBe(3);
    expect(disk.bytes.subarray(3 * BLOCK)).toEqual(new ArrayDisk(40).bytes.subarray(3 * BLOCK));
    await expect(copyIn(disk, 0, sourceOf(pattern(2)), { count: 3 })).rejects.toThrow('the input has 2 blocks, not 3');
  });

  it('takes a source that fits exactly, and rejects with ENOSPC for one that does not', async () => {
    expect(await copyIn(new ArrayDisk(10), 3, sourceOf(pattern(7)))).toBe(7);
    await expect(copyIn(new ArrayDisk(10), 3, sourceOf(pattern(8)))).rejects.toMatchObject({ code: 'ENOSPC' });
    await expect(copyIn(new ArrayDisk(10), 10, sourceOf(pattern(1)))).rejects.toMatchObject({ code: 'EINVAL' });
  });

  it('reads back and names the block that is another', async () => {
    const disk = new ArrayDisk(40);
    expect(await copyIn(disk, 0, sourceOf(pattern(33)), { verify: true })).toBe(33);
    disk.corrupts = 17;
    await expect(copyIn(disk, 0, sourceOf(pattern(33)), { verify: true })).rejects.toThrow('LBA 17 of namespace 1 reads back other');
    expect(disk.inFlight).toBe(0);
  });

  it('stops at the signal: writes that have begun complete, and the closed source is not an error', async () => {
    const disk = new ArrayDisk(40);
    const stop = new AbortController();
    const from = sourceOf(pattern(33));
    const source = {
      async read(into: Uint8Array) {
        if (stop.signal.aborted) throw new Error('it is closed');
        return await from.read(into);
      },
    };
    const closing = { signal: stop.signal, onProgress: (bytes: number) => void (bytes > 40 && stop.abort()) };
    const done = await copyIn(disk, 0, source, closing);
    expect([done > 5 && done < 33, disk.inFlight, disk.flushed]).toEqual([true, 0, 1]);
    expect(disk.bytes.subarray(0, done * BLOCK)).toEqual(pattern(done));
    stop.abort();
    expect(await copyIn(disk, 0, source, { signal: stop.signal })).toBe(0);
  });

  it('throws what a write failed with, with nothing in flight', async () => {
    const disk = new ArrayDisk(40);
    disk.failsAt = 30;
    await expect(copyIn(disk, 0, sourceOf(pattern(31)))).rejects.toThrow('LBA 30 is bad');
    expect([disk.inFlight, disk.flushed]).toEqual([0, 0]);
  });
});
