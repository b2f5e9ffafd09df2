import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { ManualClock } from '../base/clock.ts';
import { EventStream } from '../events/stream.ts';
import { writeEvents } from './event-file.ts';
import { type RecordedOptions, readEvents } from './recorded-events.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** A recording of notes with these texts. */
function recorded(name: string, texts: readonly string[]): string {
  const path = join(folder, name);
  const stream = new EventStream({ clock: new ManualClock() });
  const source = stream.source('a');
  const file = writeEvents(stream, path);
  for (const text of texts) source.note('info', 'x', text);
  file[Symbol.dispose]();
  return path;
}

async function texts(path: string, options?: RecordedOptions): Promise<string[]> {
  const found: string[] = [];
  for await (const event of readEvents(path, options)) if (event.kind === 'note') found.push(event.text);
  return found;
}

const failureOf = async (path: string) => {
  try {
    return await texts(path);
  } catch (error) {
    return error;
  }
};

it.each(['a.jsonl', 'a.jsonl.gz'])('%s is read back', async (name) => {
  const many = Array.from({ length: 3000 }, (_, i) => `note ${i}`);
  const events = readEvents(recorded(name, many));
  expect(events.about).toBe(null);
  const found: string[] = [];
  for await (const event of events) found.push((event as { text: string }).text);
  expect(found).toEqual(many);
  expect(events.about?.program).toMatch(/^vfio-ts /);
  expect([events.cut, events.skipped]).toEqual([false, { events: 0, fields: 0 }]);
});

it.each(['a.jsonl', 'a.jsonl.gz'])('%s that breaks off is read up to its last whole event', async (name) => {
  const path = recorded(name, ['one', 'two']);
  if (name.endsWith('.gz')) {
    const whole = readFileSync(recorded('b.jsonl', ['one', 'two']));
    writeFileSync(path, gzipSync(whole.subarray(0, -20)).subarray(0, -8));
  } else writeFileSync(path, readFileSync(path).subarray(0, -20));
  const events = readEvents(path);
  const found = [];
  for await (const event of events) found.push(event);
  expect(found).toMatchObject([{ text: 'one' }]);
  expect(events.cut).toBe(true);
});

it('a file in a format of other programs is refused by its name', async () => {
  for (const name of ['a.txt', 'a.txt.gz']) {
    writeFileSync(join(folder, name), '');
    expect(() => readEvents(join(folder, name))).toThrow(
      expect.objectContaining({
        code: 'EINVAL',
        message: expect.stringContaining('cannot be read back'),
        fix: expect.stringContaining('.jsonl'),
      }),
    );
  }
});

it.each([
  ['nothing', new Uint8Array(0), 'it is empty'],
  ['another text', Buffer.from('hello\n'), 'header'],
  ['another binary', Uint8Array.of(0, 1, 2, 255), 'header'],
])('%s is an error that names the file', async (_, bytes, message) => {
  const path = join(folder, 'a.jsonl');
  writeFileSync(path, bytes);
  expect(await failureOf(path)).toMatchObject({ code: 'EINVAL', message: expect.stringMatching(new RegExp(`a\\.jsonl: .*${message}`)) });
});

it('a file that is not compressed, although its name says so, is an error that names it', async () => {
  const path = join(folder, 'a.jsonl.gz');
  writeFileSync(path, readFileSync(recorded('b.jsonl', ['one'])));
  expect(await failureOf(path)).toMatchObject({ code: 'EINVAL', message: expect.stringContaining('a.jsonl.gz') });
});

it('a file that is not there, or a directory, is an error at once', () => {
  expect(() => readEvents(join(folder, 'no.jsonl'))).toThrow(expect.objectContaining({ code: 'ENOENT' }));
  expect(() => readEvents(folder)).toThrow(expect.objectContaining({ code: 'EISDIR' }));
});

it('a file that grows is followed until the signal', async () => {
  const path = recorded('a.jsonl', ['one', 'two']);
  const whole = readFileSync(path);
  writeFileSync(path, whole.subarray(0, -30));
  const stop = new AbortController();
  const found: string[] = [];
  for await (const event of readEvents(path, { follow: stop.signal })) {
    found.push((event as { text: string }).text);
    if (found.length === 1) appendFileSync(path, whole.subarray(-30));
    else stop.abort();
  }
  expect(found).toEqual(['one', 'two']);
});
