import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { about, anyEvent, eventOf, printed } from '../../../tests/kit/arbitrary-events.ts';
import type { VfioEvent } from '../../abi/event.ts';
import { kindNames } from '../kinds.ts';
import { JsonLinesReader } from './json-lines-reader.ts';

const head = { seq: 7, timeNs: 1500, hostNs: 2500, device: '0000:00:04.0', cause: 3 };
const access: VfioEvent = { ...head, kind: 'access', op: 'write', region: 0, offset: 0x1000, size: 4, value: 5, verdict: 'device' };
const HEADER = '{"vfio-events":1,"program":"vfio-ts 0.1.0","epochNs":"1790000000000000000"}\n';

/** The events of a file, read in chunks of `chunk` bytes. */
function read(file: Uint8Array | string, chunk = 64, reader = new JsonLinesReader()) {
  const bytes = Buffer.from(file as string);
  const events: VfioEvent[] = [];
  for (let at = 0; at < bytes.length; at += chunk) events.push(...reader.read(bytes.subarray(at, at + chunk)));
  events.push(...reader.end());
  return { events, reader };
}

it('a line has the fields in the order of the table, addresses as text', () => {
  expect(printed('jsonl', [access]).toString()).toBe(
    `${HEADER}{"seq":7,"timeNs":1500,"hostNs":2500,"device":"0000:00:04.0","cause":3,"kind":"access",` +
      '"op":"write","region":0,"offset":"0x1000","size":4,"value":"0x5","verdict":"device"}\n',
  );
});

it('a file begins with its version, the program and the time of the host at 0', () => {
  const { reader } = read(printed('jsonl', []));
  expect(reader.about).toEqual(about);
});

describe.each(kindNames)('%s', (kind) => {
  it('is read back as it was written', () => {
    fc.assert(
      fc.property(fc.array(eventOf(kind), { maxLength: 4 }), fc.integer({ min: 1, max: 300 }), (events, chunk) => {
        expect(read(printed('jsonl', events), chunk).events).toEqual(events);
      }),
      { numRuns: 60 },
    );
  });
});

it('no text breaks a line or moves a cursor', () => {
  fc.assert(
    fc.property(fc.array(anyEvent, { maxLength: 5 }), (events) => {
      const file = printed('jsonl', events).toString();
      expect(file.split('\n')).toHaveLength(events.length + 2);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: the test looks for them
      expect(file.replaceAll('\n', '')).not.toMatch(/[\0-\x1f\x7f-\x9f\u2028\u202e]/);
    }),
  );
});

it('a text that is too long is cut, and the line is still read', () => {
  const note: VfioEvent = { ...head, kind: 'note', level: 'warn', about: 'x', text: '\0'.repeat(1e6) };
  const [event] = read(printed('jsonl', [note]), 65536).events;
  expect(event).toEqual({ ...note, text: `${'\0'.repeat(16_384)}…` });
});

it('bytes of a huge transfer are cut, and its size is not', () => {
  const dma: VfioEvent = { ...head, kind: 'dma', op: 'read', iova: 0n, size: 5e6, way: 'direct', data: new Uint8Array(5e6) };
  const [event] = read(printed('jsonl', [dma]), 65536).events as [typeof dma];
  expect([event.size, event.data!.length]).toEqual([5e6, 2 * 2 ** 20]);
});

describe('a model that breaks the types of its fields gets a note instead of its event', () => {
  it.each<[string, object, string]>([
    ['a latency that is no number', { latencyNs: Number.NaN }, 'latencyNs: its value has another type'],
    ['fields that are none', { fields: null }, 'fields: its value has another type'],
    ['a field that is an object', { fields: { a: {} } }, 'fields: its value has another type'],
    ['a name that is missing', { name: undefined }, 'name: its value has another type'],
  ])('%s', (_name, details, why) => {
    const command = { ...head, kind: 'command', name: 'Read', fields: {}, status: 'ok', latencyNs: 1, ...details } as unknown as VfioEvent;
    expect(read(printed('jsonl', [command, access])).events).toEqual([
      { ...head, kind: 'note', level: 'warn', about: 'command', text: `an event of kind 'command' cannot be written: ${why}` },
      access,
    ]);
  });

  it('a getter that throws', () => {
    const fields = {
      get a(): string {
        throw new Error('mine');
      },
    };
    const command: VfioEvent = { ...head, kind: 'command', name: 'Read', fields, status: 'ok', latencyNs: 1 };
    expect(read(printed('jsonl', [command])).events).toMatchObject([{ kind: 'note', text: expect.stringContaining('mine') }]);
  });
});

describe('the reader', () => {
  const line = printed('jsonl', [access]).toString().split('\n')[1]!;

  it('a last line that is broken off is left out and reported, at every byte', () => {
    const file = printed('jsonl', [access, access]);
    const begin = file.indexOf('\n', HEADER.length) + 1;
    for (let end = begin + 1; end < file.length - 1; end++) {
      const { events, reader } = read(file.subarray(0, end));
      expect([events.length, reader.cut]).toEqual([1, true]);
    }
  });

  it.each<[string, string]>([
    ['nothing', ''],
    ['half a header', HEADER.slice(0, 30)],
    ['the first byte', '{'],
  ])('a file with %s has no events', (_name, file) => {
    const { events, reader } = read(file);
    expect([events, reader.about, reader.cut]).toEqual([[], null, file !== '']);
  });

  it('a last line without its line break is whole', () => {
    const { events, reader } = read(printed('jsonl', [access]).subarray(0, -1));
    expect([events, reader.cut]).toEqual([[access], false]);
  });

  it('kinds and fields of a later version are left out and counted', () => {
    const later = `${HEADER}${line.replace('"access"', '"later"')}\n${line.replace('{', '{"new":1,"x":[],')}\n`;
    const { events, reader } = read(later);
    expect([events, reader.skipped]).toEqual([[access], { events: 1, fields: 2 }]);
  });

  it.each<[string, string, string]>([
    ['"size":4', '"size":"4"', `'size' is "4", where a number is expected`],
    ['"offset":"0x1000"', '"offset":4096', `'offset' is 4096, where a text such as "0x1000" is expected`],
    ['"offset":"0x1000"', '"offset":"0x20000000000000"', `'offset' is "0x20000000000000", where`],
    ['"op":"write"', '"op":null', `'op' is null, where a text is expected`],
    [',"size":4', '', `'size' is missing, where a number is expected`],
    ['"kind":"access"', '"kind":1', `'kind' is 1, where a text is expected`],
    ['"kind":"access"', `"kind":${'['.repeat(200_000)}${']'.repeat(200_000)}`, `'kind' is a list, where a text is expected`],
    ['"op":"write"', '"op":{"a":1}', `'op' is an object, where a text is expected`],
    ['"cause":3', '"cause":1e999', `'cause' is Infinity, where a number is expected`],
    ['"value":"0x5"', '"value":"0xZZ"', `'value' is "0xZZ", where`],
    ['}', ',"data":"abc"}', `'data' is "abc", where a text of hexadecimal digits`],
    ['{', '{{', 'it is no JSON'],
    [line, '[]', `'kind' is missing`],
    [line, 'null', 'it is no object'],
  ])('%s as %s is an error that names line and field', (from, to, message) => {
    const file = `${HEADER}${line}\n${line.replace(from, to)}\n`;
    expect(() => read(file)).toThrow(expect.objectContaining({ code: 'EINVAL', message: expect.stringContaining('line 3 is no event') }));
    expect(() => read(file)).toThrow(message);
  });

  it('the events before a broken line are given', () => {
    const reader = new JsonLinesReader();
    const seen: VfioEvent[] = [];
    expect(() => {
      for (const event of reader.read(Buffer.from(`${HEADER}${line}\nxyz\n`))) seen.push(event);
    }).toThrow('line 3');
    expect(seen).toEqual([access]);
  });

  it.each([
    ['another JSON file', '{"name":"vfio-ts"}\n', 'not the header'],
    ['a text', 'hello', 'not the header'],
    ['a binary', '\x0a\x0d\x0d\x0a\0\0', 'not the header'],
    ['no object', 'null\n', 'not the header'],
    ['version 2', '{"vfio-events":2}\n', 'version 2; this program reads version 1'],
    ['no time', '{"vfio-events":1,"program":"x"}\n', "'epochNs' is missing"],
  ])('%s is refused', (_name, file, message) => {
    expect(() => read(file)).toThrow(message);
  });

  it('a line without end is refused before it fills the memory', () => {
    const reader = new JsonLinesReader();
    [...reader.read(Buffer.from(HEADER))];
    const chunk = Buffer.alloc(2 ** 20, 0x20);
    expect(() => {
      for (let i = 0; i < 64; i++) [...reader.read(chunk)];
    }).toThrow('it has more than 16777216 characters');
  });

  it('a hostile file is read or refused by an error of ours', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 3 }), fc.string({ unit: 'binary' }), (json, junk) => {
        for (const file of [`${HEADER}${json}\n`, `${HEADER}${junk}\n`, junk]) {
          try {
            read(file);
          } catch (error) {
            expect(error).toMatchObject({ code: 'EINVAL' });
          }
        }
      }),
    );
  });
});
