import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { refusal } from '../../tests/kit/errno.ts';
import { descriptors, directory, filled, image, newPath, opened } from '../../tests/kit/images.ts';
import { FileStorage } from './file-storage.ts';

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
    expect(refusal(() => FileStorage.open(empty)).explain()).toMatch(/EINVAL: .* is empty\n {2}fix: Give its size/);
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
