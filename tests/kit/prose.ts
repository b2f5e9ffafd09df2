/** The sentences of a source file: its comments, and the texts between quotes. */

/** A comment, or a text between quotes, as it stands in a file. */
export interface Passage {
  readonly kind: 'comment' | 'text';
  /** Line on which it begins; the first line of a file is 1. */
  readonly line: number;
  /** Where it stands in the file, delimiters included. */
  readonly start: number;
  readonly end: number;
  /**
   * Its words, without delimiters and without the stars of a block comment; its lines stay lines.
   */
  readonly text: string;
}

/**
 * How a language marks comments and texts. `block` is C's; a regular expression literal is
 * TypeScript's.
 */
interface Language {
  readonly line: RegExp;
  readonly block: boolean;
  readonly quotes: string;
  readonly expressions: boolean;
}

const C: Language = { line: /\/\//y, block: true, quotes: '"\'', expressions: false };
const SCRIPT: Language = { line: /\/\//y, block: true, quotes: '\'"`', expressions: true };
const LUA: Language = { line: /--/y, block: false, quotes: '\'"', expressions: false };
/** YAML and shell: `#` begins a comment where a word may begin. Texts are not read. */
const HASH: Language = { line: /(?<=^|\s)#/my, block: false, quotes: '', expressions: false };

const LANGUAGES: Readonly<Record<string, Language>> = {
  ts: SCRIPT,
  js: SCRIPT,
  mjs: SCRIPT,
  cjs: SCRIPT,
  c: C,
  h: C,
  lua: LUA,
  yaml: HASH,
  yml: HASH,
  sh: HASH,
};

/** True when {@link passages} can read such a file. */
export function isReadable(file: string): boolean {
  return extension(file) in LANGUAGES;
}

function extension(file: string): string {
  return file.slice(file.lastIndexOf('.') + 1);
}

/**
 * A slash begins a regular expression where a value may begin: after an operator, a bracket or one
 * of these words.
 */
const BEFORE_VALUE = /(?:^|[(,=:[!&|?{};+\-*%~^<>]|\b(?:return|typeof|case|in|of|do|else|void|yield|await))\s*$/;
const EXPRESSION = /\/(?![/*])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\[\n])+\/[a-z]*/y;

/**
 * The passages of a file in their order. The parts of a template between its values are passages of
 * their own; a value's code is read as code.
 */
export function passages(file: string, source: string): Passage[] {
  const language = LANGUAGES[extension(file)]!;
  const found: Passage[] = [];
  let line = 1;
  let counted = 0;
  const add = (kind: Passage['kind'], start: number, end: number, text: string) => {
    for (; counted < start; counted++) if (source[counted] === '\n') line++;
    found.push({ kind, line, start, end, text });
  };
  /** For each open template, how many braces of its value's code are open. */
  const templates: number[] = [];
  let at = 0;

  const readTemplate = (start: number) => {
    let end = start;
    while (end < source.length && source[end] !== '`' && !source.startsWith('${', end)) end += source[end] === '\\' ? 2 : 1;
    if (end > start) add('text', start, end, source.slice(start, end));
    if (source[end] === '`') templates.pop();
    at = end + (source[end] === '`' ? 1 : 2);
  };

  while (at < source.length) {
    const c = source[at]!;
    if (matches(language.line, source, at)) {
      const end = endOfLine(source, at);
      add('comment', at, end, source.slice(at, end).replace(/^(?:\/\/+|--+|#+!?)/, ''));
      at = end;
    } else if (language.block && source.startsWith('/*', at)) {
      const close = source.indexOf('*/', at + 2);
      const end = close < 0 ? source.length : close + 2;
      const inner = source.slice(at + 2, end - 2).replace(/^\*/, '');
      add('comment', at, end, inner.replace(/\n[ \t]*\* ?/g, '\n'));
      at = end;
    } else if (c === '`' && language.quotes.includes('`')) {
      templates.push(0);
      readTemplate(at + 1);
    } else if (language.quotes.includes(c) && c !== '`') {
      let end = at + 1;
      while (end < source.length && source[end] !== c && source[end] !== '\n') end += source[end] === '\\' ? 2 : 1;
      add('text', at, end + 1, source.slice(at + 1, end));
      at = end + 1;
    } else if (language.expressions && c === '/' && BEFORE_VALUE.test(source.slice(Math.max(0, at - 40), at))) {
      EXPRESSION.lastIndex = at;
      at = EXPRESSION.test(source) ? EXPRESSION.lastIndex : at + 1;
    } else if (templates.length > 0 && c === '{') {
      templates[templates.length - 1]!++;
      at++;
    } else if (templates.length > 0 && c === '}') {
      if (templates.at(-1) === 0) readTemplate(at + 1);
      else {
        templates[templates.length - 1]!--;
        at++;
      }
    } else at++;
  }
  return found;
}

/** True when nothing but blanks stands before the passage on its line. */
export function hasOwnLine(source: string, passage: Passage): boolean {
  return source.slice(source.lastIndexOf('\n', passage.start - 1) + 1, passage.start).trim() === '';
}

function matches(mark: RegExp, source: string, at: number): boolean {
  mark.lastIndex = at;
  return mark.test(source);
}

function endOfLine(source: string, at: number): number {
  const end = source.indexOf('\n', at);
  return end < 0 ? source.length : end;
}
