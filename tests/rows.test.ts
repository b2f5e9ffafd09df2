/** Every row of docs/rows.md, VFIO's behaviours by id, has a test with its id in the title. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';

const root = join(import.meta.dirname, '..');

/**
 * Titles as they stand in the sources; a `describe` title that starts with a row id names its tests
 * too.
 */
const titles = ['src', 'tests']
  .flatMap((folder) => readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map((f) => join(root, folder, f)))
  .filter((f) => f.endsWith('.test.ts') && !f.endsWith('rows.test.ts'))
  .flatMap((f) => [...readFileSync(f, 'utf8').matchAll(/\b(?:it|test|describe)(?:\.\w+)*(?:\([^()'"`]*\))?\(\s*(['"`])((?:(?!\1).)+)\1/g)])
  .map((m) => m[2]!);

const document = readFileSync(join(root, 'docs/rows.md'), 'utf8');
const [withTests, without] = document.split('## Rows without a test');
const idsOf = (section: string) => [...section.matchAll(/^\| ((?:S\d|B|C|T\d|E-)[^|]*?) \|/gm)].map((m) => m[1]!);
const ids = idsOf(document);
/**
 * A title counts for the longest id that it starts with: 'B.6 MAP VADDR …' proves nothing of B.6
 * MAP.
 */
const tested = new Set(titles.map((title) => ids.filter((id) => startsWith(title, id)).sort((a, b) => b.length - a.length)[0]));
const hasTest = (id: string) => tested.has(id);

it('finds titles and rows', () => {
  expect(titles.length).toBeGreaterThan(200);
  expect(idsOf(withTests!).length).toBeGreaterThan(100);
  expect(idsOf(without!).length).toBeGreaterThan(0);
});

it('every row of the first table has a test whose title starts with its id', () => {
  expect(idsOf(withTests!).filter((id) => !hasTest(id))).toEqual([]);
});

it('no row of the second table has one', () => {
  expect(idsOf(without!).filter(hasTest)).toEqual([]);
});

it('every row of the design threads, and of migration, is listed', () => {
  const numbered = (thread: string, numbers: readonly number[]) => numbers.map((n) => `${thread}-${String(n).padStart(2, '0')}`);
  const rows = [
    ...numbered('S0', range(1, 20)),
    ...numbered('S1', range(1, 15)),
    ...numbered('S2', [...range(1, 15), ...range(20, 27), ...range(30, 53)]),
    ...numbered('S3', range(1, 28)),
    ...numbered('S4', range(1, 14)),
    ...range(1, 13).map((n) => `T${n}`),
    ...[
      '',
      ' MIGRATION',
      ' data_fd',
      ' PRE_COPY',
      ' MIG_GET_PRECOPY_INFO',
      ' MIG_DATA_SIZE',
      ' ERROR',
      ' DMA_LOGGING_START',
      ' DMA_LOGGING_REPORT',
    ].map((what) => `B.11${what}`),
  ];
  const listed = new Set([...idsOf(withTests!), ...idsOf(without!)]);
  expect(rows.filter((id) => !listed.has(id))).toEqual([]);
});

function startsWith(title: string, id: string): boolean {
  return title.startsWith(id) && !/^\w/.test(title.slice(id.length));
}

function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}
