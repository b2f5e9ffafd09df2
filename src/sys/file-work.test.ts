import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { directory, filled, image, opened } from '../../tests/kit/images.ts';
import { Errno } from '../base/errno.ts';
import { addon, Sys } from './addon.ts';
import { FileStorage } from './file-storage.ts';

afterEach(() => vi.restoreAllMocks());

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
    if (left() !== '0') return context.skip(`the kernel does not say, or this filesystem has no disk: '${left()}'`);
    // The kernel may write the page out by itself right then.
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

  /** Operations that the threads get from now on: their kinds. */
  const watched = (): number[] => {
    const kinds: number[] = [];
    const real = addon().fileSubmit;
    vi.spyOn(addon(), 'fileSubmit').mockImplementation((id, slots, count, table, buffers) => {
      for (const slot of slots.subarray(0, count)) kinds.push(table[slot * 3]!);
      return real(id, slots, count, table, buffers);
    });
    return kinds;
  };

  it('that wait together share one fdatasync, and none is reported before an fdatasync that began after the request', () => {
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
    // Both operations end before the test looks, the write first.
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

  it('fail for good once the disk has lost data: the kernel reports it only once', () => {
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
