/** docs/events.md has every kind with its fields, and every format with its endings. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { fieldsOf, headFields, kindNames } from '../src/events/kinds.ts';
import { formats } from '../src/events/printers/formats.ts';

const page = readFileSync(join(import.meta.dirname, '../docs/events.md'), 'utf8');

/** The cells of the table below this line of names. */
function table(names: string): string[][] {
  const [, rows] = page.split(`${names}\n|`);
  expect(rows, names).toBeDefined();
  const lines = rows!.slice(0, rows!.indexOf('\n\n')).split('\n').slice(1);
  return lines.map((line) => line.slice(2, -2).split(' | '));
}

it('kinds and their fields are those of the table of kinds, in its order', () => {
  const fields = (kind: (typeof kindNames)[number]) =>
    fieldsOf(kind)
      .map(([name, type]) => `\`${name}\`${type.endsWith('?') ? '?' : ''}`)
      .join(', ');
  expect(table('| kind | fields | when |').map((cells) => cells.slice(0, 2))).toEqual(
    kindNames.map((kind) => [`\`${kind}\``, fields(kind)]),
  );
});

it('the head is that of all events', () => {
  expect(table('| field | meaning |').map(([name]) => name)).toEqual(Object.keys(headFields).map((name) => `\`${name}\``));
});

it('formats and their endings are those of the table of formats', () => {
  const cells = formats.map(({ name, extensions }) => [`\`${name}\``, extensions.map((each) => `\`.${each}\``).join(', ')]);
  expect(table('| name | file | holds | opens in |').map((row) => row.slice(0, 2))).toEqual(cells);
});
