/**
 * CONTRIBUTING.md, "Sentences": the part of the rule that a machine can check, for sources and
 * pages.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { isReadable, type Passage, passages } from './kit/prose.js';

const root = join(import.meta.dirname, '..');
const COLUMNS = 100;

const BANNED: ReadonlyArray<readonly [RegExp, string]> = [
  [/\b(?:whoever|whomever|nobody|somebody)\b/i, 'name the actor: driver, model, client, guest, kernel, engine'],
  [/\blet(?:s|ting)? go\b/i, 'release, close, drop'],
  [/\b(?:is|are) none of\b/i, 'not one of; not this one’s task'],
  [/\bunless told\b/i, 'Default: …'],
  [/\b(?:tells|told)\b/i, 'reports, prints, says'],
];

/** Every file but the two that quote forbidden words. */
const files = execFileSync('git', ['ls-files', '-co', '--exclude-standard'], { cwd: root, encoding: 'utf8' })
  .split('\n')
  .filter((file) => file !== '' && existsSync(join(root, file)))
  .filter((file) => !['tests/words.test.ts', 'tests/kit/prose.test.ts'].includes(file));
const sources = files.filter(isReadable).map((file) => readSource(file));
const pages = files.filter((file) => file.endsWith('.md')).map((file) => readPage(file));

/** A piece of prose: a comment, a message, a title, a paragraph. */
interface Piece {
  readonly where: string;
  readonly text: string;
}

const prose: Piece[] = [...sources.flatMap((source) => source.pieces), ...pages.flatMap((page) => page.pieces)];

it('finds comments, messages and paragraphs', () => {
  expect(sources.flatMap((source) => source.pieces).length).toBeGreaterThan(2000);
  expect(pages.flatMap((page) => page.pieces).length).toBeGreaterThan(10);
});

it.each(BANNED)('prose has no %s', (word, instead) => {
  expect(
    prose.filter((piece) => word.test(piece.text)).map((piece) => `${piece.where}: ${around(piece.text, word)}`),
    instead,
  ).toEqual([]);
});

it('a sentence that begins with What is a question', () => {
  const wrong = prose.flatMap((piece) =>
    sentences(piece.text)
      .filter((sentence) => /^What\s/.test(sentence) && !sentence.includes('?'))
      .map((sentence) => `${piece.where}: ${sentence.slice(0, 60)}`),
  );
  expect(wrong).toEqual([]);
});

it(`prose wraps at ${COLUMNS} columns`, () => {
  const wide = [...sources.flatMap((source) => source.wide), ...pages.flatMap((page) => page.wide)];
  expect(wide).toEqual([]);
});

it('every id of a rule that a source cites is a row of docs/rows.md', () => {
  const document = readFileSync(join(root, 'docs/rows.md'), 'utf8');
  const rows = [...document.matchAll(/^\| ([STBCE][\d.-]+)[^|]*\|/gm)].map((m) => m[1]!);
  const cited = sources
    .filter((source) => /^(?:src|tests)\//.test(source.file))
    .flatMap((source) => source.pieces)
    .flatMap((piece) =>
      [...piece.text.matchAll(/\b(?:S\d-\d\d|[A-Z]-\d\d|[A-Z]\.\d\d?)\b(?!\.\d)/g)].map((m) => ({ where: piece.where, id: m[0] })),
    );
  expect(rows.length).toBeGreaterThan(100);
  expect(cited.length).toBeGreaterThan(200);
  expect(cited.filter(({ id }) => !rows.includes(id)).map(({ where, id }) => `${where}: ${id}`)).toEqual([]);
});

interface Source {
  readonly file: string;
  readonly pieces: readonly Piece[];
  /** Comment lines that are too wide. */
  readonly wide: readonly string[];
}

function readSource(file: string): Source {
  const source = readFileSync(join(root, file), 'utf8');
  const lines = source.split('\n');
  const found = passages(file, source);
  const pieces = joined(found)
    .filter((p) => p.kind === 'comment' || /\S\s+\S/.test(p.text))
    .map((p) => ({ where: `${file}:${p.line}`, text: withoutCode(p.text) }));
  const wide = found
    .filter((p) => p.kind === 'comment')
    .flatMap((p) => p.text.split('\n').map((_, i) => p.line + i))
    .filter((line) => isWide(lines[line - 1]!))
    .map((line) => `${file}:${line}`);
  return { file, pieces, wide };
}

/** Comments of one line each, on lines that follow one another, are one comment. */
function joined(found: readonly Passage[]): Passage[] {
  const result: Passage[] = [];
  for (const passage of found) {
    const last = result.at(-1);
    const lastLine = last === undefined ? 0 : last.line + last.text.split('\n').length - 1;
    if (last?.kind === 'comment' && passage.kind === 'comment' && lastLine + 1 === passage.line)
      result[result.length - 1] = { ...last, text: `${last.text}\n${passage.text.trim()}`, end: passage.end };
    else result.push(passage);
  }
  return result;
}

/**
 * Paragraphs, items and cells of a page, without what stands in a fence. A table's row cannot be
 * wrapped.
 */
function readPage(file: string): Source {
  const pieces: Piece[] = [];
  const wide: string[] = [];
  let fenced = false;
  let paragraph = null as Piece | null;
  for (const [i, line] of readFileSync(join(root, file), 'utf8').split('\n').entries()) {
    if (/^\s*(?:```|~~~)/.test(line)) fenced = !fenced;
    const indented = /^(?: {4}|\t)/.test(line) && paragraph === null;
    if (fenced || indented || line.trim() === '') {
      if (paragraph !== null) pieces.push(paragraph);
      paragraph = null;
      continue;
    }
    if (!line.startsWith('|') && isWide(line)) wide.push(`${file}:${i + 1}`);
    paragraph = paragraph === null ? { where: `${file}:${i + 1}`, text: line } : { ...paragraph, text: `${paragraph.text}\n${line}` };
  }
  if (paragraph !== null) pieces.push(paragraph);
  return { file, pieces: pieces.map((p) => ({ ...p, text: withoutCode(withoutQuotedRule(p.text)) })), wide };
}

/**
 * The table of sentences before and after, in CONTRIBUTING.md: its first column shows bad
 * sentences.
 */
function withoutQuotedRule(text: string): string {
  return text.startsWith('| before | after |') ? text.replace(/^\|[^|]*\|/gm, '|') : text;
}

function withoutCode(text: string): string {
  return text.replace(/`[^`]*`/g, '`…`').replace(/\{@link [^}]*\}/g, '…');
}

/** Wide, and with a blank at which it can be broken before the last column. */
function isWide(line: string): boolean {
  return line.length > COLUMNS && /\S\s+\S/.test(line.slice(0, COLUMNS).replace(/^[\s/*#>-]+/, ''));
}

function sentences(text: string): string[] {
  return text
    .split(/(?<=[.!?:;])\s+|\n\s*\n|\n(?=\s*[-|*@])|\|/)
    .map((sentence) => sentence.replace(/^[\s*#>-]+/, ''))
    .filter((sentence) => sentence !== '');
}

function around(text: string, word: RegExp): string {
  const at = text.search(word);
  return text.slice(Math.max(0, at - 30), at + 40).replace(/\s+/g, ' ');
}
