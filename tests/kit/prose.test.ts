import { expect, it } from 'vitest';
import { hasOwnLine, isReadable, passages } from './prose.js';

const read = (file: string, source: string) => passages(file, source).map((p) => `${p.line} ${p.kind} ${p.text}`);

it('a comment has its line and its words', () => {
  expect(read('a.ts', 'const a = 1;\n  // two words\n/** One.\n *\n * Two. */')).toEqual([
    '2 comment  two words',
    '3 comment  One.\n\nTwo. ',
  ]);
});

it('a quote in a comment begins no text, and slashes in a text begin no comment', () => {
  expect(read('a.ts', `// it's\nconst a = 'http://host/*';`)).toEqual([`1 comment  it's`, '2 text http://host/*']);
});

it('a regular expression is code, whatever it holds', () => {
  expect(read('a.ts', `const a = /['"\`]/.test(b) / 2 / c; // end`)).toEqual(['1 comment  end']);
});

it('a template is its texts; the code between them is read as code', () => {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the source that is read
  expect(read('a.ts', "`one ${f({ a: 'two' }, `three ${b}`)} four`")).toEqual([
    '1 text one ',
    '1 text two',
    '1 text three ',
    '1 text  four',
  ]);
});

it('an escaped quote does not end a text', () => {
  expect(read('a.ts', `f('it\\'s', "\\\\")`)).toEqual([`1 text it\\'s`, '1 text \\\\']);
});

it('a quote that is a character of C begins no text', () => {
  expect(read('a.c', `char q = '"'; /* one */ f("two");`)).toContain('1 comment  one ');
});

it('YAML and shell have comments where a word may begin', () => {
  expect(read('a.sh', '#!/bin/sh\necho a#b # one')).toEqual(['1 comment /bin/sh', '2 comment  one']);
});

it('Lua has comments after two dashes', () => {
  expect(read('a.lua', "f('a') -- one")).toEqual(['1 text a', '1 comment  one']);
});

it('a comment behind code has no line of its own', () => {
  const source = 'f(); // one\n  // two';
  expect(passages('a.ts', source).map((p) => hasOwnLine(source, p))).toEqual([false, true]);
});

it('files of other kinds are not read', () => {
  expect(isReadable('a.md')).toBe(false);
  expect(isReadable('a.ts')).toBe(true);
});
