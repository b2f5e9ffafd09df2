/** Recordings in files: archives of tar, compressed or not, and texts. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { readRecording } from './recording.ts';
import { TarReader } from './tar.ts';

const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-recording-'));
afterAll(() => rmSync(folder, { recursive: true }));
const long = `top/${'deep/'.repeat(40)}config`;
mkdirSync(join(folder, 'top', 'deep/'.repeat(40)), { recursive: true });
writeFileSync(join(folder, long), 'far');
writeFileSync(join(folder, 'top/vendor'), '0x8086\n');
writeFileSync(join(folder, 'top/other'), 'x'.repeat(5000));
symlinkSync('../../devices/x', join(folder, 'top/link'));
const tarOf = (...options: string[]) => execFileSync('tar', ['-c', ...options, '-C', folder, 'top'], { maxBuffer: 2 ** 24 });
const wanted = (path: string) => !path.endsWith('/other');
const file = (name: string, bytes: Uint8Array | string) => {
  writeFileSync(join(folder, name), bytes);
  return join(folder, name);
};
const textIn = (recording: Awaited<ReturnType<typeof readRecording>>, path: string) => {
  const entry = 'entries' in recording ? recording.entries.get(path) : undefined;
  return entry !== undefined && 'bytes' in entry ? new TextDecoder().decode(entry.bytes) : entry;
};

describe('sys: archives', () => {
  it.each([['--format=ustar'], ['--format=gnu'], ['--format=pax']])(
    'tar %s: files, links, long names; entries that are not wanted are left out',
    async (format) => {
      const excluded = format === '--format=ustar' ? ['--exclude=deep'] : [];
      const recording = await readRecording(file('a.tar', tarOf(format, ...excluded)), wanted);
      expect(textIn(recording, 'top/vendor')).toBe('0x8086\n');
      expect(textIn(recording, 'top/link')).toEqual({ link: '../../devices/x' });
      expect(textIn(recording, 'top/other')).toBeUndefined();
      if (excluded.length === 0) expect(textIn(recording, long)).toBe('far');
    },
  );

  it.each([
    ['gzip', (bytes: Uint8Array) => gzipSync(bytes)],
    ['xz', (bytes: Uint8Array) => execFileSync('xz', ['-c'], { input: bytes })],
    ['bzip2', (bytes: Uint8Array) => execFileSync('bzip2', ['-c'], { input: bytes })],
  ])('compressed by %s, whatever its name is', async (_, compress) => {
    const recording = await readRecording(file('b.bin', compress(tarOf())), wanted);
    expect(textIn(recording, 'top/vendor')).toBe('0x8086\n');
  });

  it('one that breaks off, or is damaged, is EINVAL', async () => {
    const whole = tarOf();
    await expect(readRecording(file('c.tar', whole.subarray(0, 1500)), () => true)).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(readRecording(file('d.tar.gz', gzipSync(whole).subarray(0, 100)), wanted)).rejects.toMatchObject({ code: 'EINVAL' });
    const bad = Buffer.from(whole);
    bad[10]! ^= 1;
    await expect(readRecording(file('e.tar', bad), wanted)).rejects.toMatchObject({
      code: 'EINVAL',
      message: expect.stringContaining('checksum'),
    });
  });

  it('names with .. stay inside', () => {
    const header = Buffer.alloc(512);
    header.write('../../etc/passwd', 0);
    header.write('00000000000\0', 124);
    header.write('        ', 148);
    header.write('0', 156);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
    const reader = new TarReader('x', () => true);
    reader.push(header);
    expect([...reader.end().keys()]).toEqual(['etc/passwd']);
  });

  it('paths that are too deep are left out', async () => {
    const deep = `top/${'below/'.repeat(70)}`;
    mkdirSync(join(folder, deep), { recursive: true });
    const recording = await readRecording(file('deep.tar', tarOf()), wanted);
    rmSync(join(folder, 'top/below'), { recursive: true });
    const depths = 'entries' in recording ? [...recording.entries.keys()].map((path) => path.split('/').length) : [];
    expect(Math.max(...depths)).toBe(64);
  });

  it('names count as bytes that are kept: millions of them are EFBIG', () => {
    const header = Buffer.alloc(512);
    header.write('a/'.repeat(49), 0);
    header.write('00000000000\0', 124);
    header.write('        ', 148);
    header.write('5', 156);
    header.write(
      `${header
        .reduce((sum, byte) => sum + byte, 0)
        .toString(8)
        .padStart(6, '0')}\0 `,
      148,
    );
    const reader = new TarReader('x', () => true);
    expect(() => {
      for (let i = 0; i < 100_000; i++) reader.push(header);
    }).toThrow(expect.objectContaining({ code: 'EFBIG' }));
  });

  it('bytes behind the end of an archive do not count', async () => {
    const path = file('behind.tar', Buffer.concat([tarOf(), Buffer.alloc(2 ** 20, 'x')]));
    expect(textIn(await readRecording(path, wanted), 'top/vendor')).toBe('0x8086\n');
  });

  it('pieces of any size give the same entries', () => {
    const whole = tarOf();
    for (const size of [1, 100, 511, 513, 4096]) {
      const reader = new TarReader('x', wanted);
      for (let at = 0; at < whole.length; at += size) reader.push(whole.subarray(at, at + size));
      expect([...reader.end().keys()]).toContain(long);
    }
  });
});

describe('sys: texts', () => {
  it('are texts, also compressed and also short', async () => {
    expect(await readRecording(file('t.txt', '00:02.0 x'), wanted)).toEqual({ text: '00:02.0 x' });
    expect(await readRecording(file('t.txt.gz', gzipSync('00:02.0 x'.repeat(1000))), wanted)).toEqual({ text: '00:02.0 x'.repeat(1000) });
  });

  it('a file that is not there: ENOENT', async () => {
    await expect(readRecording(join(folder, 'none'), wanted)).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
