import { expect, it } from 'vitest';
import { cpioArchive } from './cpio.ts';

/** Reads an archive back: name, mode, content. */
function read(archive: Buffer) {
  const found: [path: string, mode: string, content: string][] = [];
  for (let at = 0; ; ) {
    const field = (i: number) => Number.parseInt(archive.toString('latin1', at + 6 + 8 * i, at + 14 + 8 * i), 16);
    expect(archive.toString('latin1', at, at + 6)).toBe('070701');
    const size = field(6);
    const nameEnd = at + 110 + field(11);
    const name = archive.toString('utf8', at + 110, nameEnd - 1);
    const start = (nameEnd + 3) & ~3;
    if (name === 'TRAILER!!!') return found;
    found.push([name, field(1).toString(8), archive.toString('utf8', start, start + size)]);
    at = (start + size + 3) & ~3;
  }
}

it('holds files, links and directories, parents first and once', () => {
  const archive = cpioArchive([
    { kind: 'file', path: 'init', bytes: Buffer.from('#!/bin/sh\n'), executable: true },
    { kind: 'file', path: 'lib/modules/a.ko', bytes: Buffer.from('12345') },
    { kind: 'file', path: 'lib/b', bytes: new Uint8Array() },
    { kind: 'link', path: 'lib64', target: 'usr/lib64' },
    { kind: 'directory', path: 'dev' },
    { kind: 'directory', path: 'lib' },
  ]);
  expect(archive.length % 4).toBe(0);
  expect(read(archive)).toEqual([
    ['init', '100755', '#!/bin/sh\n'],
    ['lib', '40755', ''],
    ['lib/modules', '40755', ''],
    ['lib/modules/a.ko', '100644', '12345'],
    ['lib/b', '100644', ''],
    ['lib64', '120777', 'usr/lib64'],
    ['dev', '40755', ''],
  ]);
});

it('takes no absolute path', () => {
  expect(() => cpioArchive([{ kind: 'directory', path: '/dev' }])).toThrow("'/dev' cannot be a path in an archive");
});
