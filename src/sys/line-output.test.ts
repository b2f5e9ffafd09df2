import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readFileSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Fuse, StalledFile, whyNoFuse } from '../../tests/kit/stalled-fuse.ts';
import { addon } from './addon.ts';
import { LineOutput } from './line-output.ts';
import { OwnedFd } from './owned-fd.ts';

let folder: string;
const open: { [Symbol.dispose](): void }[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
});
afterEach(() => {
  for (const each of open.splice(0).reverse()) each[Symbol.dispose]();
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true });
});

function outputTo(fd: number) {
  const events: string[] = [];
  const output = new LineOutput(fd, {
    missing: (count) => `(${count} missing)`,
    onDropped: (reason) => events.push(reason),
    onAgain: (count) => events.push(`again ${count}`),
  });
  open.push(output);
  return { output, events };
}

/** A named pipe, and both its ends. */
function pipe() {
  const path = join(folder, 'pipe');
  execFileSync('mkfifo', [path]);
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const writer = openSync(path, constants.O_WRONLY);
  open.push({ [Symbol.dispose]: () => closeSync(writer) });
  const read = () => {
    let text = '';
    const bytes = Buffer.alloc(65536);
    try {
      for (let n = readSync(reader, bytes); n > 0; n = readSync(reader, bytes)) text += bytes.toString('utf8', 0, n);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
    }
    return text;
  };
  return { path, reader, writer, read };
}

const long = `${'x'.repeat(9999)}\n`;

describe('LineOutput', () => {
  it('a line is in the file when write returns', () => {
    const path = join(folder, 'log');
    const fd = openSync(path, 'w');
    const { output } = outputTo(fd);
    // However long the file takes.
    vi.spyOn(performance, 'now').mockReturnValue(0);
    output.write('one\n');
    expect(readFileSync(path, 'utf8')).toBe('one\n');
    closeSync(fd);
    output.write('two\n');
    expect(readFileSync(path, 'utf8')).toBe('one\ntwo\n');
  });

  it('a full disk drops lines, counts them, and is said once', () => {
    const fd = openSync('/dev/full', 'w');
    open.push({ [Symbol.dispose]: () => closeSync(fd) });
    const { output, events } = outputTo(fd);
    for (let i = 0; i < 100; i++) output.write('line\n');
    expect(events).toEqual(['ENOSPC']);
  });

  it('a pipe that is not read never keeps the writer waiting; what is missing is counted where it is missing', async () => {
    const { writer, read } = pipe();
    const { output, events } = outputTo(writer);
    const lines = 500;
    for (let i = 0; i < lines; i++) output.write(long);
    expect(events).toEqual(['its reader does not read']);
    let text = '';
    // The room that reading makes wakes the writer.
    const readUntil = async (enough: () => boolean) => {
      while (!enough()) {
        text += read();
        await turn();
      }
    };
    await readUntil(() => text.length > 200_000);
    output.write('the last\n');
    await readUntil(() => text.endsWith('the last\n'));
    const [, missing] = /\((\d+) missing\)\nthe last\n$/.exec(text)!;
    expect(text.split(long).length - 1 + Number(missing)).toBe(lines);
    expect(events.at(-1)).toBe(`again ${missing}`);
  });

  it('a process that shares the pipe sees no change', () => {
    const { writer } = pipe();
    const { output } = outputTo(writer);
    for (let i = 0; i < 20; i++) output.write(long);
    expect(addon().fcntl(writer, 3, 0) & constants.O_NONBLOCK).toBe(0);
  });

  it('a reader that goes away drops lines; another one gets the next', () => {
    const { path, reader, writer, read } = pipe();
    const { output, events } = outputTo(writer);
    output.write('before\n');
    expect(read()).toBe('before\n');
    closeSync(reader);
    for (let i = 0; i < 3; i++) output.write('lost\n');
    expect(events).toEqual(['EPIPE']);
    const next = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    output.write('after\n');
    const bytes = Buffer.alloc(100);
    expect(bytes.toString('utf8', 0, readSync(next, bytes))).toBe('(3 missing)\nafter\n');
    closeSync(next);
  });

  it.each(['read', 'gone'])('a socket whose other end is %s: the same', (what) => {
    const numbers = new Int32Array(2);
    addon().socketpair(numbers);
    const [ours, theirs] = [...numbers].map((n) => OwnedFd.own(n, 'a socket'));
    const { output, events } = outputTo(ours!.number);
    open.push(ours!);
    if (what === 'gone') theirs![Symbol.dispose]();
    else open.push(theirs!);
    for (let i = 0; i < 500; i++) output.write(long);
    expect(events).toEqual([what === 'gone' ? 'EPIPE' : 'its reader does not read']);
  });

  it('a pipe that cannot be opened anew is asked before each write', () => {
    const numbers = new Int32Array(2);
    addon().socketpair(numbers);
    for (const n of numbers) closeSync(n);
    const { path, reader, writer } = pipe();
    // The pipe has no reader while it is opened, so the open fails.
    closeSync(reader);
    const { output, events } = outputTo(writer);
    const next = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    for (let i = 0; i < 500; i++) output.write(long);
    expect(events).toEqual(['its reader does not read']);
    closeSync(next);
  });

  it.skipIf(whyNoFuse() !== null)('a file whose disk does not answer: neither a line nor the end waits for it', async () => {
    await using file = await StalledFile.mount(join(folder, 'stalled'), [Fuse.WRITE]);
    const { output, events } = outputTo(file.open().number);
    for (let i = 0; i < 200; i++) output.write(long);
    expect(events).toEqual(['its reader does not read']);
    while (file.stalled === 0) await turn();
    expect(file.stalled).toBe(1);
    output[Symbol.dispose]();
    output.write('after its end\n');
  });
});
