import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { refusal } from '../../tests/kit/errno.ts';
import { heapGrowth } from '../../tests/kit/heap-growth.ts';
import { childFile, descriptors, ended, filled, image, opened } from '../../tests/kit/images.ts';
import { NodeChild } from '../../tests/kit/node-child.ts';
import { Fuse, StalledFile, whyNoFuse } from '../../tests/kit/stalled-fuse.ts';
import { WOULD_BLOCK } from '../abi/storage.ts';
import { Errno } from '../base/errno.ts';
import { addon } from './addon.ts';
import { FileStorage } from './file-storage.ts';

describe('storage in a file', () => {
  it('holds what was written, reports it from the event loop, and holds no descriptor afterwards', async () => {
    const path = image();
    const before = descriptors();
    const storage = FileStorage.open(path);
    const { queue, told } = opened(storage);
    queue.write(5000, filled(3000, 7), 1, false);
    queue.write(60_000, filled(10, 8), 2, true);
    expect(told).toEqual([]);
    expect(queue.pending).toBe(2);
    queue.submit();
    await ended(told, 2);
    expect(told.sort()).toEqual([
      [1, 0],
      [2, 0],
    ]);
    const into = new Uint8Array(1 << 16);
    queue.read(0, into, 3);
    queue.flush(4);
    queue.submit();
    await ended(told, 4);
    expect(Buffer.compare(into, readFileSync(path))).toBe(0);
    expect(into.indexOf(7)).toBe(5000);
    expect(into.lastIndexOf(7)).toBe(7999);
    expect(into.indexOf(8)).toBe(60_000);
    expect(queue.pending).toBe(0);
    storage[Symbol.dispose]();
    expect(descriptors()).toBe(before);
  });

  it('reads at once what the page cache has', () => {
    using storage = FileStorage.open(image(filled(1 << 16, 5)));
    const { queue } = opened(storage);
    const into = new Uint8Array(9000);
    const now = queue.tryRead(100, into);
    // A filesystem may have no such reads; then the queued form is the only one.
    expect([0, WOULD_BLOCK]).toContain(now);
    queue.read(100, into, 1);
    queue.submit();
    queue.drain();
    expect(into.every((byte) => byte === 5)).toBe(true);
    if (now === 0) {
      into.fill(0);
      expect(queue.tryRead(100, into)).toBe(0);
      expect(into.every((byte) => byte === 5)).toBe(true);
    }
  });

  it('reads at once into many parts what the page cache has', () => {
    const bytes = new Uint8Array(1 << 16);
    for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 7 + (i >> 8)) & 0xff;
    using storage = FileStorage.open(image(bytes));
    const { queue } = opened(storage);
    const whole = new Uint8Array(bytes.length);
    queue.read(0, whole, 1);
    queue.submit();
    queue.drain();
    const now = queue.tryRead(0, whole);
    // 300 are more than one call takes.
    for (const count of [1, 3, 300]) {
      const parts = Array.from({ length: count + 1 }, (_, i) => new Uint8Array(1 + (i % 200)));
      const size = parts.slice(0, count).reduce((sum, part) => sum + part.length, 0);
      expect(queue.tryReadParts!(bytes.length - size + 1, parts, count)).toBe(-Errno.EINVAL);
      expect(queue.tryReadParts!(100, parts, count)).toBe(now);
      if (now !== 0) continue;
      expect(Buffer.concat(parts.slice(0, count)).equals(bytes.subarray(100, 100 + size))).toBe(true);
      expect(parts[count]!.every((byte) => byte === 0)).toBe(true);
    }
  });

  it('allocates nothing for a block that is read at once', () => {
    using storage = FileStorage.open(image(1 << 16));
    const { queue } = opened(storage);
    const block = new Uint8Array(4096);
    queue.read(0, new Uint8Array(1 << 16), 1);
    queue.submit();
    queue.drain();
    let next = 0;
    const grown = heapGrowth(() => {
      for (let i = 0; i < 50_000; i++) {
        next = (next + 4096) % (1 << 16);
        queue.tryRead(next, block);
      }
    }, 400_000);
    expect(grown).toBeLessThan(400_000);
  });

  it('has written whatever tryWrite says it has', () => {
    const path = image();
    using storage = FileStorage.open(path);
    const { queue } = opened(storage);
    if (queue.tryWrite(10, filled(10, 3)) === 0) expect(readFileSync(path).subarray(10, 20)).toEqual(Buffer.alloc(10, 3));
    else expect(queue.tryWrite(10, filled(10, 3))).toBe(WOULD_BLOCK);
  });

  it('zeroes, and gives space back on a discard', () => {
    const path = image(filled(1 << 20, 9));
    using storage = FileStorage.open(path);
    const { queue, told } = opened(storage);
    const before = storage.allocated();
    queue.zero(0, 1 << 19, 1, true);
    queue.zero((1 << 19) + 5, 100, 2, false);
    queue.submit();
    queue.drain();
    expect(told.map(([, result]) => result)).toEqual([0, 0]);
    const expected = filled(1 << 20, 9)
      .fill(0, 0, 1 << 19)
      .fill(0, (1 << 19) + 5, (1 << 19) + 105);
    expect(Buffer.compare(readFileSync(path), expected)).toBe(0);
    expect(storage.allocated()).toBeLessThan(before - (1 << 18));
    expect(statSync(path).size).toBe(1 << 20);
  });

  it('zeroes from any byte to any byte', () => {
    const path = image(filled(200_000, 9));
    using storage = FileStorage.open(path);
    const { queue, told } = opened(storage);
    queue.zero(3, 199_990, 1, false);
    queue.submit();
    queue.drain();
    expect(told).toEqual([[1, 0]]);
    expect(Buffer.compare(readFileSync(path), filled(200_000, 9).fill(0, 3, 199_993))).toBe(0);
  });

  it('refuses what lies outside, and writes to a read-only image', () => {
    using storage = FileStorage.open(image(10_000), { readOnly: true });
    const { queue, told } = opened(storage);
    for (const offset of [-1, 9_999, 10_000, Number.NaN, 0.5, 2 ** 53, Number.POSITIVE_INFINITY]) {
      expect(queue.tryRead(offset, new Uint8Array(2))).toBe(-Errno.EINVAL);
      expect(queue.tryWrite(offset, new Uint8Array(2))).toBe(-Errno.EINVAL);
      queue.read(offset, new Uint8Array(2), 1);
    }
    queue.submit();
    expect(told).toEqual(Array.from({ length: 7 }, () => [1, -Errno.EINVAL]));
    told.length = 0;
    expect(queue.tryWrite(0, new Uint8Array(2))).toBe(-Errno.EROFS);
    queue.write(0, new Uint8Array(2), 1, true);
    queue.zero(0, 10, 2, true);
    queue.flush(3);
    queue.submit();
    queue.drain();
    expect(told).toEqual([
      [1, -Errno.EROFS],
      [2, -Errno.EROFS],
      [3, 0],
    ]);
  });

  it('reports an image that another process has truncated as an error, and nothing crashes', () => {
    const path = image(filled(1 << 16, 1));
    using storage = FileStorage.open(path);
    const { queue, told } = opened(storage);
    truncateSync(path, 5000);
    expect([WOULD_BLOCK, -Errno.EIO]).toContain(queue.tryRead(8192, new Uint8Array(4096)));
    queue.read(4096, new Uint8Array(4096), 1);
    queue.read(1 << 15, new Uint8Array(4096), 2);
    queue.read(0, new Uint8Array(4096), 3);
    queue.submit();
    queue.drain();
    expect(told.sort()).toEqual([
      [1, -Errno.EIO],
      [2, -Errno.EIO],
      [3, 0],
    ]);
  });

  it('reports EFBIG where files may grow no further, and goes on', async () => {
    const path = image(1 << 16);
    truncateSync(path, 2 << 20);
    const child = new NodeChild(childFile, ['limit', path], { fileSizeKiB: 64 });
    expect(await child.ended).toBe(0);
    const [first, now, ...rest] = child.lines;
    expect(first).toBe('open');
    expect(now).toBe(`now ${WOULD_BLOCK}`);
    expect(rest.sort()).toEqual(['1 0', `2 ${-Errno.EFBIG}`, `3 ${-Errno.EFBIG}`, `4 ${-Errno.EFBIG}`, '5 0']);
  });

  it('reports in the order of ending, without nesting, also when a completion submits and drains', () => {
    using storage = FileStorage.open(image());
    let left = 20_000;
    let within = 0;
    const queue = storage.open(() => {
      expect(within).toBe(0);
      within++;
      if (left-- > 0) {
        // Refused at once: a chain of refusals must not become a chain of calls.
        queue.read(-1, new Uint8Array(1), left);
        queue.submit();
      }
      within--;
    });
    queue.flush(1);
    queue.submit();
    queue.drain();
    expect(left).toBe(-1);
    const told: number[] = [];
    const other = storage.open((tag) => {
      told.push(tag);
      if (tag !== 1) return;
      other.write(0, new Uint8Array(512), 2, false);
      other.submit();
      other.drain();
      expect(told).toEqual([1, 2]);
    });
    other.write(0, new Uint8Array(512), 1, false);
    other.submit();
    other.drain();
    expect(told).toEqual([1, 2]);
  });

  it('does what was submitted also when its queue is disposed, and reports nothing', () => {
    const path = image();
    using storage = FileStorage.open(path);
    const queue = storage.open(() => expect.unreachable());
    // Durable: `submit` may look for the end of another write, and report it.
    queue.write(0, filled(4096, 4), 1, true);
    queue.submit();
    queue.write(4096, filled(4096, 4), 2, false);
    queue[Symbol.dispose]();
    expect(queue.pending).toBe(1);
    storage[Symbol.dispose]();
    expect(queue.pending).toBe(0);
    expect(readFileSync(path).lastIndexOf(4)).toBe(4095);
  });

  it('answers EBADF once it is disposed, whatever is asked', () => {
    const storage = FileStorage.open(image());
    const { queue, told } = opened(storage);
    queue.read(0, new Uint8Array(4), 1);
    storage[Symbol.dispose]();
    storage[Symbol.dispose]();
    queue.flush(2);
    queue.submit();
    queue.drain();
    expect(told).toEqual([
      [1, -Errno.EBADF],
      [2, -Errno.EBADF],
    ]);
    expect(queue.tryRead(0, new Uint8Array(4))).toBe(-Errno.EBADF);
    expect(storage.allocated()).toBe(0);
  });

  it('keeps more under way than there are threads, and more than are reaped at once', () => {
    using storage = FileStorage.open(image(1 << 20));
    const { queue, told } = opened(storage);
    const buffers = Array.from({ length: 2000 }, () => new Uint8Array(512));
    for (const [i, buffer] of buffers.entries()) queue.write(i * 512, buffer.fill(i), i, false);
    queue.submit();
    queue.drain();
    expect(told).toHaveLength(2000);
    expect(new Set(told.map(([tag]) => tag)).size).toBe(2000);
    const into = new Uint8Array(512);
    for (let i = 0; i < 2000; i += 97) {
      queue.read(i * 512, into, i);
      queue.submit();
      queue.drain();
      expect(into.every((byte) => byte === (i & 0xff))).toBe(true);
    }
  });
});

describe('the end of a process or a thread with a file open', () => {
  it('ends in the middle of its work with the status that it gave, and the lock is gone', async () => {
    for (const [what, status] of [
      ['exit', 7],
      ['leave', 0],
    ] as const) {
      const path = image(4 << 20);
      const child = new NodeChild(childFile, [what, path]);
      expect(await child.ended, what).toBe(status);
      expect(child.lines).toEqual(['open']);
      FileStorage.open(path)[Symbol.dispose]();
    }
  });

  it('does not end before operations under way are reported', async () => {
    const path = image();
    const child = new NodeChild(childFile, ['end', path]);
    expect(await child.ended).toBe(0);
    expect(child.lines).toEqual(['open', 'ended 1 0']);
    expect(readFileSync(path)[4095]).toBe(9);
  });

  it('releases the image, its descriptors and its threads when a worker is terminated in the middle', async () => {
    const path = image(4 << 20);
    const before = descriptors();
    const threads = () => readdirSync('/proc/self/task').length;
    // tsx writes its cache of compiled files while the worker runs already; files that it has open
    // then stay open.
    const env = { ...process.env, TSX_DISABLE_CACHE: '1' };
    const workerData = { path, file: new URL('./file-storage.ts', import.meta.url).href };
    const worker = (source: string) => new Worker(source, { eval: true, env, workerData });
    const source = `
      const { parentPort, workerData } = require('node:worker_threads');
      require('${fileURLToPath(import.meta.resolve('tsx/cjs'))}');
      const { FileStorage } = require(new URL(workerData.file).pathname);
      const storage = FileStorage.open(workerData.path);
      const queue = storage.open(() => again());
      const bytes = new Uint8Array(1 << 20);
      const again = () => { queue.write(0, bytes, 1, true); queue.submit(); };
      for (let i = 0; i < 16; i++) again();
      parentPort.postMessage('open');`;
    const threadsBefore = threads();
    for (let round = 0; round < 5; round++) {
      const one = worker(source);
      await new Promise((resolve, reject) => one.once('message', resolve).once('error', reject));
      expect(refusal(() => FileStorage.open(path)).code).toBe('EBUSY');
      await one.terminate();
      FileStorage.open(path)[Symbol.dispose]();
    }
    // A worker's other files are closed in their own time.
    await expect.poll(descriptors, { timeout: 120_000 }).toBe(before);
    await expect.poll(threads, { timeout: 120_000 }).toBeLessThanOrEqual(threadsBefore + 1);
  });

  it('leaves no thread behind when a storage is disposed', async () => {
    const threads = () => readdirSync('/proc/self/task').length;
    const before = threads();
    for (let round = 0; round < 20; round++) {
      using storage = FileStorage.open(image());
      const { queue } = opened(storage);
      for (let i = 0; i < 20; i++) queue.write(i * 512, new Uint8Array(512), i, false);
      queue.submit();
    }
    // A joined thread stays in the list for a moment; a thread of an earlier worker may have left
    // it meanwhile.
    await expect.poll(threads, { timeout: 120_000 }).toBeLessThanOrEqual(before);
  });
});

it.skipIf(whyNoFuse() !== null)('how much a file holds is known without asking a file system that does not answer', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
  {
    await using file = await StalledFile.mount(folder, [Fuse.GETATTR]);
    const { number } = file.open();
    const before = file.stalled;
    expect(addon().allocated(number)).toBeGreaterThanOrEqual(0);
    expect(file.stalled).toBe(before);
  }
  rmSync(folder, { recursive: true });
  expect(addon().allocated(999_999)).toBe(-Errno.EBADF);
});
