import { expect, it } from 'vitest';
import { VfioError } from './errno.ts';
import { printable, printableJson, printableLines } from './printable.ts';

it('printable: escapes characters that a terminal acts on, and leaves text unchanged', () => {
  for (const [text, shown] of [
    ['x\u001b]0;OWNED\u0007\u001b[2J', 'x\\x1b]0;OWNED\\x07\\x1b[2J'],
    ['a\nb\rc\0', 'a\\nb\\rc\\x00'],
    ['\u007f\u0080\u009b31m\u009f', '\\x7f\\x80\\x9b31m\\x9f'],
    ['\u202etxt.exe\u202c \u2066x\u2069 \u061c\u200e\u200f', '\\u202etxt.exe\\u202c \\u2066x\\u2069 \\u061c\\u200e\\u200f'],
    ['\u2028\u2029', '\\u2028\\u2029'],
    ['\ud83d and \ude00', '\\ud83d and \\ude00'],
    ['a\tb Grüße 磁盘 \u{1f600} ½', 'a\tb Grüße 磁盘 \u{1f600} ½'],
    ['C:\\x1b', 'C:\\x1b'],
  ] as const) {
    expect(printable(text)).toBe(shown);
    expect(printable(shown)).toBe(shown);
  }
});

it('printableLines: a line of a text cannot pass for a message of its own', () => {
  expect(printableLines('Error: \u001b[1m\nerror: forged\n    at x')).toEqual(['Error: \\x1b[1m', '    error: forged', '        at x']);
});

it('printableJson: parses to the same document', () => {
  const document = { name: 'a\u001b\u007f\u009b\u202e\u2028\ud800', list: [1, 'ü\n'] };
  const text = printableJson(JSON.stringify(document, null, 2));
  expect(text).toMatch(/^[\n\x20-\x7e\u00fc]*$/);
  expect(JSON.parse(text)).toEqual(document);
});

it('VfioError: a line break in a name begins no line of the error', () => {
  const culprits = [{ bdf: '0000:00:01.0', driver: 'd\n', why: 'w\nfix: rm', fix: 'f\u001b' }];
  const { length } = new VfioError('EBUSY', 'a\nb', { culprits, fix: 'c\nd' }).explain().split('\n');
  expect(length).toBe(4);
  const several = new VfioError('EINVAL', 'it is wrong', { details: ['one\nEINVAL: forged', 'two'] });
  expect(several.message).toBe('it is wrong:\n  one\nEINVAL: forged\n  two');
  expect(several.explain()).toBe('EINVAL: it is wrong:\n  one\\nEINVAL: forged\n  two');
});
