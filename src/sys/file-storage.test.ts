import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { heapGrowth } from '../../tests/kit/heap-growth.ts';
import { NodeChild } from '../../tests/kit/node-child.ts';
import { type StorageQueue, WOULD_BLOCK } from '../abi/storage.ts';
import { Errno, VfioError } from '../base/errno.ts';
import { addon, Sys } from './addon.ts';
import { FileStorage } from './file-storage.ts';
import { OwnedFd } from './owned-fd.ts';

const directory = mkdtempSync(join(tmpdir(), 'vfio-ts-storage-'));
afterAll(() => rmSync(directory, { recursive: true }));
afterEach(() => vi.restoreAllMocks());

let files = 0;
const newPath = () => join(directory, `disk-${files++}.img`);
function image(contents: Uint8Array | number = 1 << 16): string {
  const path = newPath();
  writeFileSync(path, typeof contents === 'number' ? new Uint8Array(contents) : contents);
  return path;
}
const filled = (count: number, value: number) => new Uint8Array(count).fill(value);

type Told = [tag: number, result: number];
function opened(storage: FileStorage): { readonly queue: StorageQueue; readonly told: Told[] } {
  const told: Told[] = [];
  return { queue: storage.open((tag, result) => told.push([tag, result])), told };
}
/** When `count` operations have been told of, from the event loop. */
async function ended(told: readonly unknown[], count: number): Promise<void> {
  await vi.waitFor(() => expect(told.length).toBeGreaterThanOrEqual(count), { timeout: 15_000, interval: 1 });
}
function refusal(open: () => unknown): VfioError {
  try {
    open();
  } catch (error) {
    if (error instanceof VfioError) return error;
    throw error;
  }
  throw new Error('it was not refused');
}
const descriptors = () => readdirSync('/proc/self/fd').length;
const childFile = fileURLToPath(new URL('../../tests/kit/file-storage-child.ts', import.meta.url));

describe('storage in a file', () => {
  it('holds what was written, tells it from the event loop, and holds no descriptor afterwards', async () => {
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
    });
    expect(grown).toBeLessThan(400_000);
  });

  it('has written whatever tryWrite says it has', () => {
    const path = image();
    using storage = FileStorage.open(path);
    const { queue } = opened(storage);
    if (queue.tryWrite(10, filled(10, 3)) === 0) expect(readFileSync(path).subarray(10, 20)).toEqual(Buffer.alloc(10, 3));
    else expect(queue.tryWrite(10, filled(10, 3))).toBe(WOULD_BLOCK);
  });

  it('zeroes, and gives space back when told to discard', () => {
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

  it('tells an image that somebody has truncated as an error, and nothing crashes', () => {
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

  it('tells EFBIG where files may grow no further, and goes on', async () => {
    const path = image(1 << 16);
    truncateSync(path, 2 << 20);
    const child = new NodeChild(childFile, ['limit', path], { fileSizeKiB: 64 });
    expect(await child.ended).toBe(0);
    const [first, now, ...rest] = child.lines;
    expect(first).toBe('open');
    expect(now).toBe(`now ${WOULD_BLOCK}`);
    expect(rest.sort()).toEqual(['1 0', `2 ${-Errno.EFBIG}`, `3 ${-Errno.EFBIG}`, `4 ${-Errno.EFBIG}`, '5 0']);
  });

  it('tells in the order in which things ended, to no depth, also when a completion submits and drains', () => {
    using storage = FileStorage.open(image());
    let left = 20_000;
    let within = 0;
    const queue = storage.open(() => {
      expect(within).toBe(0);
      within++;
      if (left-- > 0) {
        // Refused at once: a chain of these must not become a chain of calls.
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

  it('does what was submitted also when its queue is disposed, and tells nothing', () => {
    const path = image();
    using storage = FileStorage.open(path);
    const queue = storage.open(() => expect.unreachable());
    queue.write(0, filled(4096, 4), 1, false);
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

describe('flushes of a file', () => {
  it('reach the disk, and durable writes do: no page is left to write', (context) => {
    const program = join(directory, 'dirty-pages');
    const source = fileURLToPath(new URL('../../tests/kit/dirty-pages.c', import.meta.url));
    expect(spawnSync(process.env.CC || 'cc', ['-O1', '-Wall', '-Wextra', '-Werror', '-o', program, source]).status).toBe(0);
    const path = image(1 << 20);
    const left = () => execFileSync(program, [path], { encoding: 'utf8' });
    using storage = FileStorage.open(path);
    const { queue } = opened(storage);
    const done = (put: () => void) => {
      put();
      queue.submit();
      queue.drain();
    };
    done(() => queue.flush(1));
    if (left() !== '0') return context.skip(`the kernel does not tell, or this filesystem has no disk: '${left()}'`);
    // The kernel may happen to write it out by itself right then.
    let dirty = 0;
    for (let i = 0; i < 10 && dirty === 0; i++) {
      done(() => queue.write(0, filled(65_536, 1), 2, false));
      dirty = Number(left());
    }
    expect(dirty).toBeGreaterThan(0);
    done(() => queue.flush(3));
    expect(left()).toBe('0');
    done(() => queue.write(0, filled(65_536, 2), 4, true));
    expect(left()).toBe('0');
  });

  /** What is handed to the threads, from now on: kinds of operations. */
  const watched = (): number[] => {
    const kinds: number[] = [];
    const real = addon().fileSubmit;
    vi.spyOn(addon(), 'fileSubmit').mockImplementation((id, slots, count, table, buffers) => {
      for (const slot of slots.subarray(0, count)) kinds.push(table[slot * 3]!);
      return real(id, slots, count, table, buffers);
    });
    return kinds;
  };

  it('that wait together share one fdatasync, and none is told before one that began after it was asked for', () => {
    using storage = FileStorage.open(image());
    const kinds = watched();
    const { queue, told } = opened(storage);
    for (let tag = 0; tag < 3; tag++) queue.flush(tag);
    queue.submit();
    const { queue: other, told: otherTold } = opened(storage);
    queue.write(0, filled(512, 1), 10, false);
    queue.submit();
    // The first fdatasync is under way, and may be past this write.
    for (let tag = 3; tag < 6; tag++) other.flush(tag);
    other.submit();
    queue.drain();
    other.drain();
    expect(told.map(([tag]) => tag).sort()).toEqual([0, 1, 10, 2]);
    expect(otherTold.map(([tag]) => tag)).toEqual([3, 4, 5]);
    expect(kinds).toEqual([Sys.FILE_SYNC, Sys.FILE_WRITE, Sys.FILE_SYNC]);
  });

  it('need nothing when nothing was written since the last', () => {
    using storage = FileStorage.open(image());
    const { queue, told } = opened(storage);
    const flush = () => {
      queue.flush(0);
      queue.submit();
      queue.drain();
    };
    flush();
    const kinds = watched();
    flush();
    expect(kinds).toEqual([]);
    queue.write(0, filled(512, 1), 1, true);
    queue.submit();
    queue.drain();
    flush();
    expect(kinds).toEqual([Sys.FILE_WRITE_DURABLE]);
    queue.zero(0, 512, 1, false);
    queue.submit();
    queue.drain();
    flush();
    expect(kinds).toEqual([Sys.FILE_WRITE_DURABLE, Sys.FILE_ZERO, Sys.FILE_SYNC]);
    expect(told.every(([, result]) => result === 0)).toBe(true);
  });

  it('cover a write that ended while an fdatasync was under way', () => {
    using storage = FileStorage.open(image());
    const { queue } = opened(storage);
    // Both end before we look, the write first.
    const real = addon().fileReap;
    const spy = vi.spyOn(addon(), 'fileReap').mockImplementation((id, into, timeoutMs) => {
      const found = new Map<number, number>();
      const each = new Int32Array(2);
      while (found.size < 2) if (real(id, each, timeoutMs) === 1) found.set(each[0]!, each[1]!);
      into.set([1, found.get(1)!, 0, found.get(0)!]);
      return 2;
    });
    const kinds = watched();
    queue.flush(1);
    queue.submit();
    queue.write(0, filled(512, 1), 2, false);
    queue.submit();
    queue.drain();
    spy.mockRestore();
    queue.flush(3);
    queue.submit();
    queue.drain();
    expect(kinds).toEqual([Sys.FILE_SYNC, Sys.FILE_WRITE, Sys.FILE_SYNC]);
  });

  it('fail for good once the disk has lost something: the kernel tells of it only once', () => {
    for (const kind of ['flush', 'durable write'] as const) {
      using storage = FileStorage.open(image());
      const { queue, told } = opened(storage);
      const real = addon().fileReap;
      const spy = vi.spyOn(addon(), 'fileReap').mockImplementation((id, into, timeoutMs) => {
        const count = real(id, into, timeoutMs);
        for (let i = 0; i < count; i++) into[i * 2 + 1] = -(Errno.EIO + Sys.FILE_SYNC_FAILED);
        return count;
      });
      if (kind === 'flush') queue.flush(1);
      else queue.write(0, filled(512, 1), 1, true);
      queue.submit();
      queue.drain();
      spy.mockRestore();
      queue.write(0, filled(512, 1), 2, false);
      queue.submit();
      queue.drain();
      queue.flush(3);
      queue.submit();
      queue.drain();
      expect(told, kind).toEqual([
        [1, -Errno.EIO],
        [2, 0],
        [3, -Errno.EIO],
      ]);
    }
  });
});

describe('opening an image', () => {
  it('makes a sparse file of the size that is asked for, for its user alone', () => {
    const path = newPath();
    using storage = FileStorage.open(path, { size: 10 * 2 ** 30, create: true });
    expect(statSync(path).size).toBe(10 * 2 ** 30);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(storage.allocated()).toBeLessThan(1 << 20);
    expect(storage.size).toBe(10 * 2 ** 30);
    expect(storage.volatile).toBe(true);
    const { queue, told } = opened(storage);
    queue.write(10 * 2 ** 30 - 512, filled(512, 1), 1, true);
    queue.submit();
    queue.drain();
    expect(told).toEqual([[1, 0]]);
  });

  it('gives an empty file its size, and never changes the size of one that has any', () => {
    const empty = image(0);
    expect(refusal(() => FileStorage.open(empty)).explain()).toMatch(/EINVAL: .* is empty\n {2}fix: Say how large/);
    FileStorage.open(empty, { size: 4096 })[Symbol.dispose]();
    expect(statSync(empty).size).toBe(4096);
    const other = image(filled(8192, 3));
    for (const size of [4096, 16_384]) {
      expect(refusal(() => FileStorage.open(other, { size, create: true })).message).toContain(`has 8192 bytes, not ${size}`);
    }
    expect(readFileSync(other)).toEqual(Buffer.alloc(8192, 3));
    FileStorage.open(other, { size: 8192, create: true })[Symbol.dispose]();
  });

  it('names what is wrong with the path', () => {
    const missing = newPath();
    expect(refusal(() => FileStorage.open(missing, { create: true }))).toMatchObject({
      code: 'ENOENT',
      fix: expect.stringContaining('--size'),
    });
    expect(refusal(() => FileStorage.open(missing, { readOnly: true, size: 4096, create: true })).code).toBe('ENOENT');
    expect(refusal(() => FileStorage.open(join(missing, 'disk.img'), { size: 4096, create: true })).code).toBe('ENOENT');
    expect(refusal(() => FileStorage.open(join(image(), 'disk.img'))).code).toBe('ENOTDIR');
    for (const readOnly of [true, false]) expect(refusal(() => FileStorage.open(directory, { readOnly })).code).toBe('EISDIR');
    expect(refusal(() => FileStorage.open('/dev/null')).message).toMatch(/neither a file nor a block device/);
    expect(refusal(() => FileStorage.open(''))).toMatchObject({ code: 'EINVAL' });
    expect(refusal(() => FileStorage.open('a\0b'))).toMatchObject({ code: 'EINVAL' });
    for (const size of [0, -1, Number.NaN, 2 ** 53])
      expect(refusal(() => FileStorage.open(missing, { size, create: true })).code).toBe('EINVAL');
    const link = newPath();
    symlinkSync(missing, link);
    expect(refusal(() => FileStorage.open(link, { size: 4096, create: true })).code).toBe('EEXIST');
    const fifo = newPath();
    execFileSync('mkfifo', [fifo]);
    for (const readOnly of [true, false]) expect(refusal(() => FileStorage.open(fifo, { readOnly })).message).toMatch(/neither a file/);
    expect(() => statSync(missing)).toThrow();
  });

  it('leaves no file behind when it cannot be made as large as that', () => {
    const path = newPath();
    expect(['EFBIG', 'EINVAL']).toContain(refusal(() => FileStorage.open(path, { size: 2 ** 53 - 1, create: true })).code);
    expect(() => statSync(path)).toThrow();
  });

  it('says what to do when the file or its directory may not be written to', () => {
    const readOnly = join(directory, 'read-only');
    mkdirSync(readOnly);
    const path = join(readOnly, 'disk.img');
    writeFileSync(path, filled(4096, 1));
    chmodSync(path, 0o444);
    chmodSync(readOnly, 0o555);
    chmodSync(directory, 0o755);
    const isRoot = process.getuid!() === 0;
    if (isRoot) process.seteuid!(65_534);
    try {
      expect(refusal(() => FileStorage.open(path))).toMatchObject({ code: 'EACCES', fix: expect.stringContaining('--overlay') });
      expect(refusal(() => FileStorage.open(join(readOnly, 'new.img'), { size: 4096, create: true })).code).toBe('EACCES');
      FileStorage.open(path, { readOnly: true })[Symbol.dispose]();
    } finally {
      if (isRoot) process.seteuid!(0);
      chmodSync(readOnly, 0o755);
    }
  });

  it('holds no descriptor after it was refused', () => {
    const before = descriptors();
    for (const path of [image(0), directory, '/dev/null']) refusal(() => FileStorage.open(path, { readOnly: true }));
    const used = image();
    const storage = FileStorage.open(used);
    refusal(() => FileStorage.open(used));
    storage[Symbol.dispose]();
    expect(descriptors()).toBe(before);
  });
});

describe('the lock of an image', () => {
  it('lets one writer in, or any number of readers, in this process too', () => {
    const path = image();
    const writer = FileStorage.open(path);
    expect(refusal(() => FileStorage.open(path))).toMatchObject({
      code: 'EBUSY',
      message: expect.stringContaining(`(pid ${process.pid})`),
    });
    expect(refusal(() => FileStorage.open(path, { readOnly: true })).message).toMatch(/is being written to by .* \(pid \d+\)/);
    writer[Symbol.dispose]();
    using _one = FileStorage.open(path, { readOnly: true });
    using _two = FileStorage.open(path, { readOnly: true });
    expect(refusal(() => FileStorage.open(path)).explain()).toMatch(/fix: End pid \d+, .*--readonly or --overlay/);
  });

  it('keeps other processes out, names the one that has it, and is gone with it', async () => {
    const path = image();
    const holder = new NodeChild(childFile, ['hold', path]);
    try {
      expect(await holder.line(0)).toBe('open');
      expect(refusal(() => FileStorage.open(path)).message).toContain(`pid ${holder.process.pid})`);
      const reader = new NodeChild(childFile, ['read', path]);
      expect(await reader.line(0)).toMatch(/^refused EBUSY .*is being written to by/);
      await reader.ended;
    } finally {
      await holder.kill();
    }
    FileStorage.open(path)[Symbol.dispose]();
  });

  it('and that of QEMU are the same', () => {
    const path = image();
    /** As QEMU does: shared locks on what it does and what it suffers no other to do. Bits: 0 consistent read, 1 write, 3 resize. */
    const qemu = (does: readonly number[], suffersNot: readonly number[]) => {
      const fd = OwnedFd.own(openSync(path, 'r+'), path);
      for (const byte of [...does.map((bit) => 100 + bit), ...suffersNot.map((bit) => 200 + bit)]) {
        expect(addon().fcntlLock(fd.number, Sys.F_OFD_SETLK, Sys.F_RDLCK, byte, 1, new Int32Array(2))).toBe(0);
      }
      return fd;
    };
    const opens = (readOnly: boolean) => {
      try {
        FileStorage.open(path, { readOnly })[Symbol.dispose]();
        return true;
      } catch (error) {
        expect(error).toMatchObject({ code: 'EBUSY' });
        return false;
      }
    };
    for (const [does, suffersNot, write, read] of [
      [[0, 1, 3], [1, 3], false, false],
      [[0], [1, 3], false, true],
      [[0, 1], [], false, false],
      [[], [0], false, false],
      [[0], [], true, true],
    ] as const) {
      using _held = qemu(does, suffersNot);
      expect({ does, write: opens(false), read: opens(true) }).toEqual({ does, write, read });
    }
    // What QEMU looks for before it writes: nobody writes, nobody suffers no writer.
    const held = (fd: OwnedFd, byte: number) => {
      const answer = new Int32Array(2);
      expect(addon().fcntlLock(fd.number, Sys.F_OFD_GETLK, Sys.F_WRLCK, byte, 1, answer)).toBe(0);
      return answer[0] !== Sys.F_UNLCK;
    };
    using other = OwnedFd.own(openSync(path, 'r'), path);
    const bytes = [100, 101, 102, 103, 200, 201, 202, 203];
    const writer = FileStorage.open(path);
    expect(bytes.filter((byte) => held(other, byte))).toEqual([100, 101, 201, 203]);
    writer[Symbol.dispose]();
    using _reader = FileStorage.open(path, { readOnly: true });
    expect(bytes.filter((byte) => held(other, byte))).toEqual([100, 201, 203]);
  });

  it('is refused where somebody has locked the whole file', () => {
    const path = image();
    using other = OwnedFd.own(openSync(path, 'r+'), path);
    expect(addon().fcntlLock(other.number, Sys.F_OFD_SETLK, Sys.F_WRLCK, 0, 0, new Int32Array(2))).toBe(0);
    expect(refusal(() => FileStorage.open(path)).code).toBe('EBUSY');
    expect(refusal(() => FileStorage.open(path, { readOnly: true })).code).toBe('EBUSY');
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

  it('does not end before what is under way has been told', async () => {
    const path = image();
    const child = new NodeChild(childFile, ['end', path]);
    expect(await child.ended).toBe(0);
    expect(child.lines).toEqual(['open', 'told 1 0']);
    expect(readFileSync(path)[4095]).toBe(9);
  });

  it('has let go of the image, its descriptors and its threads when a worker was terminated in the middle', async () => {
    const path = image(4 << 20);
    const before = descriptors();
    const threads = () => readdirSync('/proc/self/task').length;
    const worker = (source: string) =>
      new Worker(source, { eval: true, workerData: { path, file: new URL('./file-storage.ts', import.meta.url).href } });
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
    // What a worker had open besides is closed in its own time.
    await expect.poll(descriptors, { timeout: 5000 }).toBe(before);
    await expect.poll(threads, { timeout: 5000 }).toBeLessThanOrEqual(threadsBefore + 1);
  });

  it('leaves no thread behind when a storage is disposed', () => {
    const threads = () => readdirSync('/proc/self/task').length;
    const before = threads();
    for (let round = 0; round < 20; round++) {
      using storage = FileStorage.open(image());
      const { queue } = opened(storage);
      for (let i = 0; i < 20; i++) queue.write(i * 512, new Uint8Array(512), i, false);
      queue.submit();
    }
    expect(threads()).toBe(before);
  });
});
