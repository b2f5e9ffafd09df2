import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { withCode } from '../../tests/kit/errno.ts';
import { until } from '../../tests/kit/event-loop.ts';
import { openDescriptorsAndFiles } from '../../tests/kit/open-descriptors.ts';
import { typescript } from '../../tests/kit/typescript.ts';
import { addon, Sys } from './addon.ts';
import { WOULD_BLOCK } from './byte-stream.ts';
import { OwnedFd } from './owned-fd.ts';
import { PipeStream } from './pipe-stream.ts';
import { UnixSocket } from './unix-socket.ts';

const directory = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
afterAll(() => rmSync(directory, { recursive: true }));
const bytes = (value: string): Uint8Array => new TextEncoder().encode(value);
const into = new Uint8Array(4096);

let before = 0;
beforeEach(() => {
  addon();
  before = openDescriptorsAndFiles();
});
afterEach(() => expect(openDescriptorsAndFiles(), 'descriptors open afterwards').toBe(before));

/** Both ends of a FIFO, kept open as the shell would keep them. */
function fifo(name: string): [OwnedFd, OwnedFd] {
  const path = join(directory, name);
  expect(spawnSync('mkfifo', [path]).status).toBe(0);
  const both = OwnedFd.own(openSync(path, 'r+'), 'opening');
  return [both, OwnedFd.own(openSync(path, 'w'), 'opening')];
}

/**
 * A program over its own standard input and output that answers every portion in capitals, and ends
 * with them.
 */
const echo = join(directory, 'echo.ts');
writeFileSync(
  echo,
  `import { PipeStream } from ${JSON.stringify(pathToFileURL(join(import.meta.dirname, 'pipe-stream.ts')).href)};
   const stream = PipeStream.stdio(), bytes = new Uint8Array(8);
   stream.listen(() => {
     const n = stream.receive(bytes, 0, 8, []);
     if (n === 0) { console.error('end'); return false; }
     for (let i = 0; i < n; i++) if (bytes[i]! >= 97) bytes[i]! -= 32;
     for (let at = 0; at < n; ) { const m = stream.send(bytes, at, n); if (m > 0) at += m; else stream.wait('writable', 1000); }
     return true;
   }, { keepAlive: true });`,
);

describe('transport: standard input and output', () => {
  it.each([
    ['pipes', `printf 'hello world, hello' | "$0" "$@" | cat`],
    [
      'files',
      `printf 'hello world, hello' > ${directory}/in; "$0" "$@" < ${directory}/in >> ${directory}/out; cat ${directory}/out; rm ${directory}/out`,
    ],
    ['a file that is read on', `printf 'XXhello world, hello' > ${directory}/in; { IFS= read -rn 2; "$0" "$@" | cat; } < ${directory}/in`],
    ['nothing', `"$0" "$@" < /dev/null`],
  ])('transport: as %s', (what, command) => {
    const result = spawnSync('bash', ['-c', command, process.execPath, ...typescript, echo], { encoding: 'utf8', timeout: 180_000 });
    expect(result.stderr).toBe('end\n');
    expect(result.stdout).toBe(what === 'nothing' ? '' : 'HELLO WORLD, HELLO');
    expect(result.status).toBe(0);
  });

  it('transport: as sockets, which is what a child of Node has', async () => {
    const child = spawn(process.execPath, [...typescript, echo], { stdio: ['pipe', 'pipe', 'ignore'] });
    const closed = once(child, 'close');
    child.stdin.write('hello ');
    child.stdin.end('child');
    expect(await text(child.stdout)).toBe('HELLO CHILD');
    // Our end of the child's standard input stays open until the child has ended.
    await closed;
  });
});

describe('transport: a stream over two descriptors', () => {
  it('transport: bytes through a pipe; a full one takes a part, then nothing; a process that shares the pipe sees no change', async () => {
    const [reading, writing] = fifo('full');
    using _reading = reading;
    using _writing = writing;
    using stream = PipeStream.fromNumbers(reading.number, writing.number);
    expect(stream.carriesFds).toBe(false);
    expect(stream.receive(into, 0, 10, [])).toBe(WOULD_BLOCK);
    expect(stream.wait('readable', 0)).toBe(false);
    const data = new Uint8Array(100_000).map((_, i) => i);
    const sent = stream.send(data, 0, data.length);
    expect(sent).toBeGreaterThan(0);
    expect(sent).toBeLessThan(data.length);
    expect(stream.send(data, sent, data.length)).toBe(WOULD_BLOCK);
    expect(stream.wait('writable', 0)).toBe(false);
    let writable = 0;
    stream.onWritable(() => writable++);
    const got = new Uint8Array(sent);
    let at = 0;
    using _listening = stream.listen(() => {
      at += stream.receive(got, at, sent, []);
      return at < sent;
    });
    await until(() => at >= sent && writable > 0);
    expect([at, writable]).toEqual([sent, 1]);
    expect(got).toEqual(data.subarray(0, sent));
    for (const fd of [reading, writing]) expect(addon().fcntl(fd.number, Sys.F_GETFL, 0) & Sys.O_NONBLOCK).toBe(0);
  });

  it('transport: files are read to their end and written, in turns of the event loop', async () => {
    const path = join(directory, 'data');
    writeFileSync(path, 'some data');
    using input = OwnedFd.own(openSync(path, 'r'), 'opening');
    using output = OwnedFd.own(openSync(join(directory, 'copy'), 'w'), 'opening');
    using stream = PipeStream.fromNumbers(input.number, output.number);
    let ended = false;
    let room = 0;
    stream.onWritable(() => room++);
    stream.onWritable(() => room++)[Symbol.dispose]();
    stream.listen(() => {
      const n = stream.receive(into, 0, 4, []);
      if (n > 0) stream.send(into, 0, n);
      ended ||= n === 0;
      return true;
    });
    expect(() => stream.listen(() => false)).toThrow(withCode('EBUSY'));
    await until(() => ended);
    expect([ended, room, readFileSync(join(directory, 'copy'), 'utf8')]).toEqual([true, 1, 'some data']);
    const again = stream.listen(() => false);
    again[Symbol.dispose]();
  });

  it('transport: descriptors are refused, and those that come over a socket all the same are closed', () => {
    const [a, b] = UnixSocket.pair();
    using fd = a.release();
    using output = fd.duplicate();
    using stream = PipeStream.fromNumbers(fd.number, output.number);
    using _b = b;
    using passed = fd.duplicate();
    const fds: OwnedFd[] = [];
    const start = openDescriptorsAndFiles();
    b.send(bytes('with'), 0, 4, [passed, passed]);
    expect(stream.receive(into, 0, 10, fds)).toBe(4);
    expect([fds.length, openDescriptorsAndFiles()]).toEqual([0, start]);
    expect(() => stream.send(bytes('x'), 0, 1, [passed])).toThrow(withCode('EINVAL'));
    expect(stream.send(bytes('x'), 0, 1, [])).toBe(1);
    expect(b.receive(into, 0, 10, fds)).toBe(1);
    b[Symbol.dispose]();
    expect(() => stream.send(bytes('x'), 0, 1)).toThrow(withCode('EPIPE'));
  });

  it('transport: a reader that is gone is EPIPE; ranges that are none EINVAL; a disposed stream EBADF', () => {
    const result = spawnSync(
      'bash',
      [
        '-c',
        `"$0" "$@" | true`,
        process.execPath,
        ...typescript,
        '-e',
        `import(${JSON.stringify(pathToFileURL(join(import.meta.dirname, 'pipe-stream.ts')).href)}).then(({ PipeStream }) => {
        const stream = PipeStream.stdio();
        for (;;) try { stream.send(new Uint8Array(9), 0, 9); } catch (error) { console.error(error.code); break; }
      })`,
      ],
      { encoding: 'utf8', timeout: 180_000 },
    );
    expect(result.stderr).toBe('EPIPE\n');

    const [reading, writing] = fifo('errors');
    using _reading = reading;
    using _writing = writing;
    const stream = PipeStream.fromNumbers(reading.number, writing.number);
    for (const [start, end] of [
      [2, 1],
      [-1, 2],
      [0, 5000],
      [Number.NaN, 3],
    ] as const) {
      expect(() => stream.send(into, start, end)).toThrow(withCode('EINVAL'));
      expect(() => stream.receive(into, start, end, [])).toThrow(withCode('EINVAL'));
    }
    expect(() => stream.receive(into, 1, 1, [])).toThrow(withCode('EINVAL'));
    expect(stream.send(into, 1, 1)).toBe(0);
    stream[Symbol.dispose]();
    stream[Symbol.dispose]();
    for (const call of [
      () => stream.send(into, 0, 1),
      () => stream.receive(into, 0, 1, []),
      () => stream.wait('readable', 0),
      () => stream.listen(() => false),
    ]) {
      expect(call).toThrow(withCode('EBADF'));
    }
    expect(() => PipeStream.fromNumbers(0, 999_999)).toThrow(withCode('EBADF'));
    expect(() => PipeStream.fromNumbers(-1, 1)).toThrow(withCode('EBADF'));
  });
});
