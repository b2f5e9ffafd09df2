import { openSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { refusal } from '../../tests/kit/errno.ts';
import { childFile, image } from '../../tests/kit/images.ts';
import { NodeChild } from '../../tests/kit/node-child.ts';
import { addon, Sys } from './addon.ts';
import { FileStorage } from './file-storage.ts';
import { OwnedFd } from './owned-fd.ts';

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
    /**
     * The locks of QEMU: shared ones on what it does and on what it suffers no other to do. Bits: 0
     * consistent read, 1 write, 3 resize.
     */
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
    // QEMU's test before it writes: no process writes, and none forbids a writer.
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

  it('is refused where another process has locked the whole file', () => {
    const path = image();
    using other = OwnedFd.own(openSync(path, 'r+'), path);
    expect(addon().fcntlLock(other.number, Sys.F_OFD_SETLK, Sys.F_WRLCK, 0, 0, new Int32Array(2))).toBe(0);
    expect(refusal(() => FileStorage.open(path)).code).toBe('EBUSY');
    expect(refusal(() => FileStorage.open(path, { readOnly: true })).code).toBe('EBUSY');
  });
});
