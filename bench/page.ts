/**
 * Tables of figures in a page of Markdown. A page marks the place of each suite's tables, and of
 * the lines about the machine:
 *
 *     <!-- bench: nvme -->
 *     <!-- /bench -->
 *
 * The text between is replaced; a place whose suite did not run stays as it is.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { type BenchFile, type BenchRecord, BenchUsageError } from './record.ts';
import { format } from './report.ts';

const PLACE = /(<!-- bench: ([\w-]+) -->\n)([\s\S]*?)(<!-- \/bench -->)/g;

const row = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
const value = ({ shown, bytes }: BenchRecord, number: number | null) => (number === null ? '–' : format(number, shown, bytes));

function figuresTable(records: readonly BenchRecord[]): string[] {
  return [
    row(['', 'ours', 'floor', 'ratio', 'floor is']),
    row(['---', '--:', '--:', '--:', '---']),
    ...records.map((record) => {
      const { name, ours, floor, ratio, floorName } = record;
      return row([name, value(record, ours), value(record, floor), ratio?.toFixed(2) ?? '–', floorName]);
    }),
  ];
}

/** Costs at sizes: a row for each cost. The ratio of the last size is its growth. */
function sizesTable(records: readonly BenchRecord[]): string[] {
  const sizes = [...new Set(records.map(({ size }) => size!))];
  const costs = new Map<string, BenchRecord[]>();
  for (const record of records) {
    const cost = record.name.slice(0, -`, ${record.size}`.length);
    costs.set(cost, [...(costs.get(cost) ?? []), record]);
  }
  return [
    row(['', ...sizes, 'growth']),
    row(['---', ...sizes.map(() => '--:'), '--:']),
    ...[...costs].map(([cost, list]) =>
      row([cost, ...list.map((record) => value(record, record.ours)), list.at(-1)!.ratio?.toFixed(2) ?? '–']),
    ),
  ];
}

function tables(records: readonly BenchRecord[]): string {
  const sections = new Map<string, BenchRecord[]>();
  for (const record of records) sections.set(record.section, [...(sections.get(record.section) ?? []), record]);
  return [...sections]
    .map(([title, list]) => [`**${title}**`, '', ...(list[0]!.size === undefined ? figuresTable(list) : sizesTable(list)), ''].join('\n'))
    .join('\n');
}

function machineLine({ date, commit, machine }: BenchFile): string {
  const { cpu, cores, kernel, node } = machine;
  return `${cpu}, ${cores} processors\nLinux ${kernel}, Node ${node}\ncommit ${commit ?? 'unknown'}, ${date.slice(0, 10)}`;
}

/**
 * Replace the tables of the suites that the file has.
 * @throws BenchUsageError when the page cannot be read, or marks no place
 */
export function fillPage(path: string, file: BenchFile): void {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new BenchUsageError(`the page ${path} cannot be read: ${(error as Error).message}`);
  }
  let places = 0;
  const filled = text.replace(PLACE, (whole, begin: string, what: string, _old: string, end: string) => {
    places++;
    if (what === 'machine') return `${begin}\n\`\`\`text\n${machineLine(file)}\n\`\`\`\n\n${end}`;
    const records = file.records.filter(({ suite }) => suite === what);
    return records.length === 0 ? whole : `${begin}\n${tables(records)}\n${end}`;
  });
  if (places === 0) throw new BenchUsageError(`${path} has no place for figures, such as <!-- bench: nvme --> and <!-- /bench -->`);
  writeFileSync(path, filled);
}
