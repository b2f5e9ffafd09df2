/**
 * Writes the table of messages (src/vfio-user/messages/) into tools/vfio-user.lua, between the two
 * marks there. The code around them, which reads the table, is written by hand.
 *
 *     node --import ./bin/typescript.js tools/vfio-user-lua.ts
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Errno } from '../src/base/errno.ts';
import type { AnyStruct, Names, Shape, Word } from '../src/vfio-user/messages/shape.ts';
import { messages } from '../src/vfio-user/messages.ts';

const BEGIN = '-- begin of the table: written by tools/vfio-user-lua.ts\n';
const END = '-- end of the table\n';

export const dissectorFile = join(import.meta.dirname, 'vfio-user.lua');

/** The file with the current table. @throws Error when it lacks the marks */
export function withTable(file: string): string {
  const begin = file.indexOf(BEGIN);
  const end = file.indexOf(END);
  if (begin < 0 || end < begin) throw new Error('tools/vfio-user.lua has no marks around its table');
  return file.slice(0, begin + BEGIN.length) + table() + file.slice(end);
}

function table(): string {
  const names = new Shared<Names>('names');
  const structs = new Map<string, AnyStruct>();
  const rows = messages.map(({ name, number, command, reply, masked }) => {
    const row = { name, secret: masked !== undefined, command: shape(command), reply: shape(reply) };
    return `  [${number}] = ${lua(row, 1)},`;
  });

  /** Structures by name, and names by number: both stand once. */
  function shape({ at = 0, structs: given = [], words }: Shape): unknown {
    for (const each of given) structs.set(each.structName, each);
    return { at, structs: given.map(({ structName }) => structName), words: words.map(word) };
  }
  function word(given: Word): unknown {
    if (typeof given === 'string') return given;
    switch (given.kind) {
      case 'name':
      case 'flags':
        return { ...given, names: names.get(given.names) };
      case 'each':
        return {
          ...given,
          layouts: given.layouts.map(({ struct, words }) => {
            structs.set(struct.structName, struct);
            return { struct: struct.structName, size: struct.structSize, words: words.map(word) };
          }),
        };
      case 'pick':
        return { kind: 'pick', cases: given.cases.map(({ test, shape: then }) => ({ test, shape: shape(then) })) };
      default:
        return given;
    }
  }

  const errnos = Object.entries(Errno).map(([name, number]) => `  [${number}] = "${name}",`);
  const layouts = [...structs.values()].map(
    (each) => `  ${each.structName} = ${lua({ size: each.structSize, fields: fieldsOf(each) }, 1)},`,
  );
  return [
    'local errnos = {',
    ...new Set(errnos),
    '}',
    'local names = {',
    ...names.all.map((each) => `  ${lua(Object.entries(each), 1)},`),
    '}',
    'local structs = {',
    ...layouts,
    '}',
    'local messages = {',
    ...rows,
    '}',
    '',
  ].join('\n');
}

/** Values that the Lua file holds once, by their place. */
class Shared<T> {
  readonly all: T[] = [];
  readonly #list: string;

  constructor(list: string) {
    this.#list = list;
  }

  get(value: T): { readonly lua: string } {
    let index = this.all.indexOf(value);
    if (index < 0) index = this.all.push(value) - 1;
    return { lua: `${this.#list}[${index + 1}]` };
  }
}

function fieldsOf(layout: AnyStruct): readonly unknown[] {
  const entries = Object.entries(layout as unknown as Record<string, unknown>);
  return entries.flatMap(([name, field]) => {
    if (typeof field !== 'object' || field === null) return [];
    const { offset, size } = field as { readonly offset: number; readonly size: number };
    return [[name, offset, size]];
  });
}

const WIDTH = 120;

/** A value as Lua writes it. `{ lua }` is an expression. */
function lua(value: unknown, depth: number): string {
  if (typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  if (typeof value !== 'object' || value === null) throw new Error(`no Lua for ${String(value)}`);
  if ('lua' in value) return String(value.lua);
  const parts = Array.isArray(value)
    ? value.map((each) => lua(each, depth + 1))
    : Object.entries(value).flatMap(([key, each]) => (each === null || each === undefined ? [] : [`${key} = ${lua(each, depth + 1)}`]));
  if (parts.length === 0) return '{}';
  const line = `{ ${parts.join(', ')} }`;
  if (line.length + 2 * depth <= WIDTH && !line.includes('\n')) return line;
  const indent = '  '.repeat(depth);
  return `{\n${parts.map((part) => `${indent}  ${part},\n`).join('')}${indent}}`;
}

if (process.argv[1] === import.meta.filename) writeFileSync(dissectorFile, withTable(readFileSync(dissectorFile, 'utf8')));
