import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readFileSync, readSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import * as zlib from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Fuse, StalledFile, whyNoFuse } from '../../tests/kit/stalled-fuse.ts';
import type { VfioEvent } from '../abi/event.ts';
import { ManualClock } from '../base/clock.ts';
import { JsonLinesReader } from '../events/printers/json-lines-reader.ts';
import type { EventSource } from '../events/source.ts';
import { EventStream } from '../events/stream.ts';
import { ByteOutput, type OutputEntry } from '../sys/byte-output.ts';
import { type EventFileOptions, writeEvents } from './event-file.ts';
import { readEvents } from './recorded-events.ts';

let folder: string;
let stream: EventStream;
let source: EventSource;
let said: string[];
const opened: Disposable[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
  stream = new EventStream({ clock: new ManualClock() });
  source = stream.source('0000:00:04.0');
  said = [];
});
afterEach(() => {
  for (const each of opened.splice(0).reverse()) each[Symbol.dispose]();
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true });
});

function write(name: string, options: EventFileOptions = {}) {
  const path = name.startsWith('/') ? name : join(folder, name);
  const file = writeEvents(stream, path, { log: { log: (_, text) => said.push(text) }, ...options });
  opened.push(file);
  return { path, file };
}

function eventsIn(bytes: Uint8Array): VfioEvent[] {
  const reader = new JsonLinesReader();
  return [...reader.read(bytes), ...reader.end()];
}

const readBar = (offset = 0) => source.read(source.access(false, 0, offset, 4, 0, 0, false), 5, 0);

describe('writeEvents', () => {
  it('writes the events of a turn at its end, for their owner to read', async () => {
    const { path, file } = write('a.jsonl');
    readBar(8);
    source.note('info', 'x', 'hello');
    while (eventsIn(readFileSync(path)).length < 2) await turn();
    expect(statSync(path).mode & 0o777).toBe(0o600);
    file[Symbol.dispose]();
    file[Symbol.dispose]();
    readBar();
    expect(eventsIn(readFileSync(path)).map(({ kind }) => kind)).toEqual(['access', 'note']);
    expect(stream.on).toBe(false);
  });

  it('writes what is left when it is disposed', () => {
    const { path, file } = write('a.txt');
    readBar(8);
    file[Symbol.dispose]();
    expect(readFileSync(path, 'utf8')).toBe('    0.000000  0000:00:04.0  read32 BAR 0+0x8 → 0x5\n');
  });

  it('loses nothing of a turn that is longer than stream and queue hold', () => {
    // However long the disk takes.
    vi.spyOn(performance, 'now').mockReturnValue(0);
    const { path, file } = write('a.jsonl');
    for (let i = 0; i < 300_000; i++) readBar(i);
    file[Symbol.dispose]();
    const events = eventsIn(readFileSync(path));
    expect(events.length).toBe(300_000);
    expect(events.every((event, i) => event.kind === 'access' && event.offset === i)).toBe(true);
    expect(said).toEqual([]);
  });

  it('writes the kinds and devices that are asked for, and data only then', () => {
    const other = stream.source('other');
    const plain = write('plain.jsonl', { kinds: ['dma'], devices: ['0000:00:04.0'] });
    const full = write('full.jsonl', { data: true });
    readBar();
    source.dma(true, 1, 0, 3, 0, Uint8Array.of(0xde, 0xad, 0xbe));
    other.dma(true, 2, 0, 3, 0, Uint8Array.of(0xde, 0xad, 0xbe));
    plain.file[Symbol.dispose]();
    full.file[Symbol.dispose]();
    const text = readFileSync(plain.path, 'utf8');
    expect(eventsIn(Buffer.from(text)).map(({ kind, device }) => `${kind} ${device}`)).toEqual(['dma 0000:00:04.0']);
    expect(text).not.toContain('deadbe');
    expect(readFileSync(full.path, 'utf8').split('"data":"deadbe"').length).toBe(3);
  });

  it('a format can be named; a name without a format is an error that makes no file', () => {
    expect(() => write('a.bin')).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => write('a.jsonl', { kinds: ['acess' as 'access'] })).toThrow(
      expect.objectContaining({ code: 'EINVAL', fix: "Did you mean 'access'?" }),
    );
    expect(() => statSync(join(folder, 'a.bin'))).toThrow('ENOENT');
    expect(() => statSync(join(folder, 'a.jsonl'))).toThrow('ENOENT');
    const { path, file } = write('a.bin', { format: 'jsonl' });
    file[Symbol.dispose]();
    expect(eventsIn(readFileSync(path))).toEqual([]);
    expect(stream.on).toBe(false);
  });

  it('a file that cannot be made is an error that names it, and nothing reads the stream', () => {
    expect(() => write('no/a.jsonl')).toThrow(expect.objectContaining({ code: 'ENOENT', message: expect.stringContaining('no/a.jsonl') }));
    writeFileSync(join(folder, 'f'), '');
    expect(() => write('f/a.jsonl')).toThrow(expect.objectContaining({ code: 'ENOTDIR' }));
    expect(stream.on).toBe(false);
  });

  it('.gz decompresses up to where it was broken off', async () => {
    const { path, file } = write('a.jsonl.gz');
    for (let i = 0; i < 5000; i++) readBar(i);
    while (statSync(path).size < 100) await turn();
    const early = readFileSync(path);
    source.note('info', 'x', 'the last');
    file[Symbol.dispose]();
    const whole = eventsIn(zlib.gunzipSync(readFileSync(path)));
    expect(whole.length).toBe(5001);
    const part = eventsIn(zlib.gunzipSync(early, { finishFlush: 2 }));
    expect(part).toEqual(whole.slice(0, part.length));
    execFileSync('gzip', ['-t', path]);
  });

  it.skipIf(!('zstdCompressSync' in zlib))('.zst is read back, frame by frame', async () => {
    const { path, file } = write('a.jsonl.zst');
    for (let i = 0; i < 3000; i++) readBar(i);
    while (statSync(path).size < 100) await turn();
    source.note('info', 'x', 'the last');
    file[Symbol.dispose]();
    let events = 0;
    for await (const _ of readEvents(path)) events++;
    expect(events).toBe(3001);
  });

  it.skipIf('zstdCompressSync' in zlib)('.zst is an error that names the version of Node', () => {
    expect(() => write('a.jsonl.zst')).toThrow(expect.objectContaining({ code: 'EOPNOTSUPP', message: expect.stringContaining('22.15') }));
  });

  it('a full disk is reported once; the device goes on, and the end says how many events are missing', () => {
    const { file } = write('/dev/full', { format: 'jsonl' });
    for (let i = 0; i < 100; i++) readBar(i);
    file[Symbol.dispose]();
    expect(said).toEqual(['/dev/full cannot be written: ENOSPC: events may be missing in it', '/dev/full: 100 events are missing in it']);
  });

  it.skipIf(whyNoFuse() !== null)('a disk that does not answer is waited for once; then events are dropped', async () => {
    await using disk = await StalledFile.mount(join(folder, 'stalled'), [Fuse.WRITE]);
    const waits: number[] = [];
    const push = ByteOutput.prototype.push;
    vi.spyOn(ByteOutput.prototype, 'push').mockImplementation(function (this: ByteOutput<OutputEntry>, ms) {
      if (ms > 0) waits.push(ms);
      push.call(this, ms > 0 ? 1 : 0);
    });
    const { file } = write(`/proc/self/fd/${disk.open().number}`, { format: 'jsonl' });
    for (let i = 0; i < 600_000; i++) readBar(i);
    expect(disk.stalled).toBeLessThanOrEqual(1);
    expect(waits.reduce((sum, ms) => sum + Math.min(ms, 1), 0)).toBeLessThan(1000);
    file[Symbol.dispose]();
    expect(said.at(-1)).toMatch(/: 600000 events are missing in it$/);
  });

  it('a pipe gets the events; a reader that is too slow finds where and how many are missing', async () => {
    const path = join(folder, 'pipe.jsonl');
    execFileSync('mkfifo', [path]);
    expect(() => write(path)).toThrow(expect.objectContaining({ code: 'ENXIO' }));
    const pipe = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const { file } = write(path);
    const EVENTS = 300_000;
    for (let i = 0; i < EVENTS; i++) readBar(i);
    const parts: Buffer[] = [];
    const bytes = Buffer.alloc(2 ** 16);
    const drain = () => {
      try {
        for (let n = readSync(pipe, bytes); n > 0; n = readSync(pipe, bytes)) parts.push(Buffer.from(bytes.subarray(0, n)));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      }
    };
    const last = () => Buffer.concat(parts.slice(-2)).includes(`"offset":"0x${(EVENTS - 1).toString(16)}"`);
    while (!last()) {
      drain();
      await turn();
    }
    file[Symbol.dispose]();
    drain();
    closeSync(pipe);
    const events = eventsIn(Buffer.concat(parts));
    const dropped = events.filter(({ kind }) => kind === 'dropped').reduce((sum, event) => sum + (event as { count: number }).count, 0);
    expect(dropped).toBeGreaterThan(0);
    expect(events.filter(({ kind }) => kind === 'access').length + dropped).toBe(EVENTS);
    expect(said[0]).toContain('takes events too slowly');
    expect(said).toHaveLength(2);
  });

  it('a disk that gets room again takes the events that wait', async () => {
    // The reader of a pipe goes, and another one comes.
    const path = join(folder, 'pipe.txt');
    execFileSync('mkfifo', [path]);
    const first = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const { file } = write(path);
    closeSync(first);
    readBar(0x10);
    while (said.length === 0) await turn();
    const second = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    file[Symbol.dispose]();
    const bytes = Buffer.alloc(1000);
    expect(bytes.toString('utf8', 0, readSync(second, bytes))).toContain('BAR 0+0x10');
    closeSync(second);
    expect(said.map((text) => text.replace(path, 'PIPE'))).toEqual([
      'PIPE cannot be written: EPIPE: events may be missing in it',
      'PIPE can be written again',
    ]);
  });
});

it.each<[string, () => unknown, string]>([
  [
    'another thing than a stream',
    () => writeEvents({} as never, 'a.jsonl'),
    'the first argument of writeEvents is an object; it takes an EventStream',
  ],
  ['no path', () => writeEvents(stream, undefined as never), 'the path of writeEvents is undefined; it takes text'],
  ['a misspelt option', () => writeEvents(stream, 'a.jsonl', { kind: ['access'] } as never), "writeEvents() has no 'kind'"],
])('%s is an error that names it, and no file is made', (_, call, message) => {
  expect(call).toThrow(expect.objectContaining({ code: 'EINVAL', message }));
  expect(stream.on).toBe(false);
});

it('a file whose format shows no event that came is named', () => {
  const { file } = write('wire.pcapng');
  source.emit('power', { state: 'D0' });
  file[Symbol.dispose]();
  expect(said).toEqual([`${join(folder, 'wire.pcapng')} has no events: pcapng holds messages of vfio-user, for Wireshark and tshark`]);
});

it('a directory that is not there is named, with the way to have it', () => {
  const path = join(folder, 'no/run.jsonl');
  expect(() => writeEvents(stream, path)).toThrow(
    expect.objectContaining({
      code: 'ENOENT',
      message: `${path} cannot be written: there is no directory ${join(folder, 'no')}`,
      fix: 'Make the directory first.',
    }),
  );
});
