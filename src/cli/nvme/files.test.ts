import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable, Writable } from 'node:stream';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openSink, openSource, StreamSink, StreamSource } from './files.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

it('a file that is written has holes where there are zeroes, its whole size, and nothing of what it was', async () => {
  const path = join(folder, 'out.img');
  writeFileSync(path, 'something longer'.repeat(100_000));
  const piece = 256 * 1024;
  {
    await using sink = await openSink(path);
    await sink.write(new Uint8Array(piece).fill(1));
    for (let i = 0; i < 30; i++) await sink.write(new Uint8Array(piece));
    await sink.write(new Uint8Array(piece).fill(2, piece - 1));
    await sink.write(new Uint8Array(piece));
  }
  const bytes = readFileSync(path);
  expect(bytes.length).toBe(33 * piece);
  expect(bytes.subarray(0, piece).every((byte) => byte === 1)).toBe(true);
  expect(bytes.subarray(piece).reduce((sum, byte) => sum + byte, 0)).toBe(2);
  expect(bytes[32 * piece - 1]).toBe(2);
  expect(statSync(path).blocks * 512).toBeLessThan(8 * piece);
});

it('a file is read to its end, whatever the pieces', async () => {
  const path = join(folder, 'in.img');
  writeFileSync(path, Buffer.from(Array.from({ length: 1000 }, (_, i) => i & 0xff)));
  await using source = await openSource(path);
  expect(source.size).toBe(1000);
  const [first, rest] = [new Uint8Array(300), new Uint8Array(900)];
  expect([await source.read(first), await source.read(rest), await source.read(rest)]).toEqual([300, 700, 0]);
  expect([first[299], rest[0], rest[699]]).toEqual([299 & 0xff, 300 & 0xff, 999 & 0xff]);
});

it('a stream fills what it is asked for, until it ends', async () => {
  const source = new StreamSource('a pipe', Readable.from([Buffer.from('ab'), Buffer.from('cdefg'), Buffer.from('h')]), null);
  const into = new Uint8Array(3);
  const read = async () => Buffer.from(into.subarray(0, await source.read(into))).toString();
  expect([await read(), await read(), await read(), await read()]).toEqual(['abc', 'def', 'gh', '']);
});

it('a stream has taken the bytes when write resolves: they may change then', async () => {
  const through = new PassThrough({ highWaterMark: 1 });
  const sink = new StreamSink('a pipe', through);
  const got: Buffer[] = [];
  through.on('data', (data: Buffer) => got.push(Buffer.from(data)));
  const bytes = new Uint8Array(4);
  for (let i = 1; i <= 3; i++) await sink.write(bytes.fill(i));
  through.end();
  await new Promise((resolve) => through.once('close', resolve));
  expect([...Buffer.concat(got)]).toEqual([1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]);
});

it('a stream that fails, at once or later, is an error as any other, and ends nothing else', async () => {
  const full = () => Object.assign(new Error('write'), { code: 'ENOSPC' });
  const error = { code: 'ENOSPC', message: 'standard output cannot be written: no space is left' };
  const later = new Writable({ write: (_bytes, _encoding, done) => done(full()) });
  await expect(new StreamSink('standard output', later).write(new Uint8Array(4))).rejects.toMatchObject(error);
  const atOnce = new Writable();
  atOnce.write = () => {
    throw full();
  };
  await expect(new StreamSink('standard output', atOnce).write(new Uint8Array(4))).rejects.toMatchObject(error);
});

it('names in words the file at fault', async () => {
  await expect(openSource(join(folder, 'none'))).rejects.toMatchObject({
    code: 'ENOENT',
    message: expect.stringContaining('none cannot be opened'),
  });
  await expect(openSource(folder)).rejects.toMatchObject({ code: 'EINVAL', message: expect.stringContaining('is a directory') });
  await expect(openSink(folder)).rejects.toThrow(/cannot be opened/);
});
