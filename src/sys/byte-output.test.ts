import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readFileSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { ByteOutput } from './byte-output.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function outputTo(fd: number) {
  const seen: string[] = [];
  const output = new ByteOutput<{ readonly bytes: Uint8Array }>(fd, {
    written: ({ bytes }) => seen.push(`${bytes.length} written`),
    failed: (reason) => seen.push(reason),
  });
  const add = (text: string) => output.add({ bytes: Buffer.from(text) });
  return { output, add, seen };
}

it('entries that could not be written are there for the next try, in order', () => {
  const path = join(folder, 'pipe');
  execFileSync('mkfifo', [path]);
  const gone = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const { output, add, seen } = outputTo(openSync(path, constants.O_WRONLY));
  closeSync(gone);
  add('one ');
  output.push(0);
  add('two');
  expect(seen).toEqual(['EPIPE']);
  expect(output.queued).toBe(7);
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  output.push(0);
  const bytes = Buffer.alloc(20);
  expect(bytes.toString('utf8', 0, readSync(reader, bytes))).toBe('one two');
  expect(seen).toEqual(['EPIPE', '4 written', '3 written']);
  output[Symbol.dispose]();
  closeSync(reader);
});

it('finish writes all to a file, and ends at the first failure', () => {
  const path = join(folder, 'file');
  const file = outputTo(openSync(path, 'w'));
  for (let i = 0; i < 100; i++) file.add(`${i} `);
  expect(file.output.finish(10_000)).toBe(true);
  expect(readFileSync(path, 'utf8').split(' ').length).toBe(101);
  const full = outputTo(openSync('/dev/full', 'w'));
  full.add('lost');
  expect(full.output.finish(10_000)).toBe(false);
  expect(full.seen).toEqual(['ENOSPC']);
  for (const { output } of [file, full]) output[Symbol.dispose]();
});

it('clear gives what is not written, and the queue is empty', () => {
  const { output, add } = outputTo(openSync('/dev/full', 'w'));
  add('a');
  add('bc');
  output.push(0);
  expect(output.clear().map(({ bytes }) => bytes.length)).toEqual([1, 2]);
  expect(output.queued).toBe(0);
  output[Symbol.dispose]();
});
