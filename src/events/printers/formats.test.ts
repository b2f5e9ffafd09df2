import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { about, anyEvent } from '../../../tests/kit/arbitrary-events.ts';
import { formatNames } from './format-files.ts';
import { formatNamed, formatOfFile, formats } from './formats.ts';

it('each name of a format has a printer, and each printer a name', () => {
  expect(formats.map(({ name }) => name)).toEqual(formatNames);
});

describe.each(formats.map(({ name }) => name))('%s', (name) => {
  it('no event makes the printer throw, or writes without bound', () => {
    fc.assert(
      fc.property(fc.array(anyEvent, { maxLength: 10 }), (events) => {
        const printer = formatNamed(name).make({ about });
        printer.begin();
        for (const event of events) expect(printer.event(event).length).toBeLessThan(1e5);
        printer.end();
      }),
    );
  });

  it('is found by each of its endings', () => {
    const { extensions } = formatNamed(name);
    expect(extensions.map((ending) => formatOfFile(`/tmp/a.b/out.${ending.toUpperCase()}`).name)).toEqual(extensions.map(() => name));
  });
});

it.each([
  ['jsonnl', "Did you mean 'jsonl'?"],
  ['xyzzy', 'Formats: text (.txt), jsonl (.jsonl)'],
])('the format %s does not exist: the error says which does', (name, fix) => {
  expect(() => formatNamed(name)).toThrow(expect.objectContaining({ code: 'EINVAL', fix: expect.stringContaining(fix) }));
});

it.each([
  ['out', "'out' has no ending that says its format"],
  ['/tmp/a.jsonl/out', "'out' has no ending that says its format"],
  ['out.jsnl', "'out.jsnl' ends as no format of events does"],
])('the file %s is of no format: the error says why', (path, message) => {
  expect(() => formatOfFile(path)).toThrow(message);
});

it('an ending that is far from all gets the list', () => {
  expect(() => formatOfFile('out.foo')).toThrow(expect.objectContaining({ fix: expect.stringContaining('vcd (.vcd)') }));
});

it('a typing error in an ending gets the nearest one', () => {
  expect(() => formatOfFile('out.jsnl')).toThrow(expect.objectContaining({ fix: "Did you mean 'jsonl'?" }));
});
