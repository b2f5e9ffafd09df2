/** `npm run bench -- --json`, `--against`: the file of a run, and two runs beside each other. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { againstLines, compare } from '../bench/against.ts';
import { fillPage } from '../bench/page.ts';
import { type BenchFile, benchFileOf, checkWritable, readBenchFile, writeBenchFile } from '../bench/record.ts';
import { format, Report, type Row } from '../bench/report.ts';

const root = join(import.meta.dirname, '..');
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vfio-bench-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** The file of a run of suite `dma` with these rows. */
function run(rows: readonly Row[], machine: Partial<BenchFile['machine']> = {}): BenchFile {
  const report = new Report(() => {});
  report.begin('dma');
  for (const row of rows) report.row(row);
  const file = benchFileOf(report.records);
  return { ...file, date: '2026-01-01T00:00:00.000Z', machine: { cpu: 'a', cores: 2, kernel: '6.1', node: 'v20.1.0', ...machine } };
}

const copy = (ours: readonly number[], floor: readonly number[] = [10, 10, 10]): Row => ({
  name: 'copy',
  ours,
  floor,
  floorName: 'memcpy',
});
const verdict = (then: Row, now: Row) => compare(run([then]), run([now]), ['dma'])[0]!.verdict;

describe('the noise of a figure', () => {
  it('hides a change while rounds of both runs overlap', () => {
    expect(verdict(copy([20, 21, 30]), copy([29, 40, 41]))).toBe('within noise');
  });

  it('hides a change of a tenth, though no rounds overlap', () => {
    expect(verdict(copy([20, 20, 20]), copy([21.9, 21.9, 21.9]))).toBe('within noise');
  });

  it('does not hide a change that every round shows', () => {
    expect(verdict(copy([20, 21, 22]), copy([30, 31, 33]))).toBe('slower');
    expect(verdict(copy([30, 31, 33]), copy([20, 21, 22]))).toBe('faster');
  });

  it('is that of the ratio: a machine of half the speed changes nothing', () => {
    expect(verdict(copy([20, 21, 22]), copy([40, 42, 44], [20, 20, 20]))).toBe('within noise');
  });

  it('is that of the value where the figure has no floor', () => {
    const heap = (bytes: number): Row => ({ name: 'heap', ours: [bytes], floor: null, floorName: '', unit: 'bytes' });
    expect(verdict(heap(100), heap(120))).toBe('larger');
    expect(verdict(heap(100), heap(80))).toBe('smaller');
    expect(verdict(heap(100), heap(105))).toBe('within noise');
    expect(verdict(heap(0), heap(0.5))).toBe('within noise');
    expect(verdict(heap(0), heap(200))).toBe('larger');
  });
});

describe('a ratio', () => {
  it('is the median of the ratios of the rounds, not the ratio of the medians', () => {
    const [record] = run([copy([10, 40, 90], [10, 10, 30])]).records;
    expect(record).toMatchObject({ ours: 40, floor: 10, ratio: 3, rounds: [1, 4, 3] });
  });
});

describe('two runs', () => {
  it('name the figures that only one of them has', () => {
    const other: Row = { name: 'map', ours: [1], floor: [1], floorName: 'x' };
    const lines = againstLines(run([copy([20])]), run([other]), ['dma']).join('\n');
    expect(lines).toMatch(/^ {2}map .* new: not in the file$/m);
    expect(lines).toMatch(/^ {2}copy .* gone: only in the file$/m);
  });

  it('do not miss the figures of a suite that did not run', () => {
    expect(compare(run([copy([20])]), run([]), ['events'])).toEqual([]);
  });

  it('do not compare figures beside different floors', () => {
    expect(verdict(copy([20]), { ...copy([90]), floorName: 'an echo' })).toBe('another floor');
  });

  it('say what differs between their machines', () => {
    const lines = againstLines(run([]), run([], { cpu: 'b', node: 'v22.1.0' }), []).join('\n');
    expect(lines).toContain('  processor: a then, b now\n  Node: v20.1.0 then, v22.1.0 now');
    expect(againstLines(run([]), run([]), []).join('\n')).not.toContain('not the same');
  });

  it('print values as the run itself prints them', () => {
    const lines = againstLines(run([{ ...copy([20]), shown: 'M/s' }]), run([{ ...copy([40]), shown: 'M/s' }]), ['dma']).join('\n');
    expect(lines).toMatch(/^ {2}copy +50\.00 M\/s +25\.00 M\/s +2\.00 +4\.00 +\+100 % {2}▲ slower$/m);
    expect(lines).toContain('1 worse, 0 better, 0 within noise, 0 new, 0 gone, 0 not comparable.');
  });
});

describe('a file of figures', () => {
  it('reads back as it was written', () => {
    const file = run([{ ...copy([20]), shown: 'GB/s', bytes: 4096, aim: 'ratio ≤ 2' }]);
    const path = join(folder, 'a.json');
    writeBenchFile(path, file);
    expect(readBenchFile(path)).toEqual(file);
    expect(benchFileOf([]).commit).toMatch(/^[0-9a-f]{12}\+?$/);
  });

  it.each([
    ['text', 'x', /a\.json is no file of figures, for it is not JSON/],
    ['other JSON', '[]', /it has no 'format'/],
    ['another format', '{"format":"vfio-ts/show/1"}', /it has the format "vfio-ts\/show\/1", where 'vfio-ts\/bench\/1' is expected/],
    ['a part that is missing', '{"format":"vfio-ts/bench/1","date":"","commit":null,"records":[]}', /a\.json: machine: /],
  ])('is not %s', (_what, text, message) => {
    const path = join(folder, 'a.json');
    writeFileSync(path, text);
    expect(() => readBenchFile(path)).toThrow(message);
  });

  it('that is not there is named, with the way to make it', () => {
    expect(() => readBenchFile(join(folder, 'none.json'))).toThrow(/there is no file .*none\.json; make one with: npm run bench -- --json/);
  });

  it('that cannot be written is refused before the run', () => {
    expect(() => checkWritable(join(folder, 'none/a.json'))).toThrow(/none\/a\.json cannot be written: ENOENT/);
    expect(() => checkWritable(folder)).toThrow(/is a folder/);
  });
});

describe('a value', () => {
  it.each([
    [123.4, 'ns', '123 ns'],
    [46_000, 'µs', '46.0 µs'],
    [46e6, 'ms', '46.0 ms'],
    [2e4, 'k/s', '50.0 k/s'],
    [2048, 'bytes', '2048 B'],
    [20_480, 'bytes', '20.0 KiB'],
  ] as const)('of %d as %s prints %s', (value, shown, text) => {
    expect(format(value, shown)).toBe(text);
  });

  it('of a rate of bytes counts the bytes of an operation', () => {
    expect(format(65_536, 'GB/s', 131_072)).toBe('2.00 GB/s');
  });
});

describe('a report', () => {
  it('refuses two figures of one name, which no later run could tell apart', () => {
    expect(() => run([copy([1]), copy([1])])).toThrow("suite dma has two figures 'copy'");
  });

  it('refuses a ratio that is no number, which a file could not hold', () => {
    expect(() => run([copy([1], [0])])).toThrow("figure 'copy' of suite dma is Infinity; its floor may be 0");
  });
});

describe('a cost at several sizes', () => {
  it('has the size before as its floor: a cost that grows as its work has the ratio 1', () => {
    const lines: string[] = [];
    const report = new Report((line) => lines.push(line));
    report.begin('scale');
    report.sizes('Mappings', ['16', '4096', '65535']);
    report.growth({
      name: 'map',
      work: 'mapping',
      rounds: [
        [50, 52, 51],
        [40, 40, 40],
        [80, 84, 88],
      ],
    });
    expect(report.records.map(({ name, ours, floorName, ratio }) => [name, ours, floorName, ratio])).toEqual([
      ['map, 16', 51, '', null],
      ['map, 4096', 40, 'at 16', 40 / 51],
      ['map, 65535', 84, 'at 4096', 2.1],
    ]);
    expect(lines.at(-1)).toMatch(/^ {2}map +51\.0 ns +40\.0 ns +84\.0 ns +2\.10 {2}mapping$/);
  });
});

describe('the page of figures', () => {
  const page = (text: string, file: BenchFile) => {
    const path = join(folder, 'page.md');
    writeFileSync(path, text);
    fillPage(path, file);
    return readFileSync(path, 'utf8');
  };

  it('gets a table for each suite that ran, and keeps the others', () => {
    const old = '# Page\n\n<!-- bench: dma -->\nold\n<!-- /bench -->\n\n<!-- bench: nvme -->\nkept\n<!-- /bench -->\n';
    const filled = page(old, run([{ ...copy([20]), shown: 'µs' }]));
    expect(filled).toContain('| copy | 0.02 µs | 0.01 µs | 2.00 | memcpy |\n\n<!-- /bench -->');
    expect(filled).toContain('# Page\n\n<!-- bench: dma -->\n');
    expect(filled).toContain('<!-- bench: nvme -->\nkept\n<!-- /bench -->\n');
    expect(filled).not.toContain('old');
    expect(page(filled, run([{ ...copy([20]), shown: 'µs' }]))).toBe(filled);
  });

  it('has the sizes of a cost in one row', () => {
    const report = new Report(() => {});
    report.begin('scale');
    report.sizes('Mappings', ['16', '4096']);
    report.growth({ name: 'map, at once', work: 'mapping', rounds: [[50], [40]] });
    const filled = page('<!-- bench: scale -->\n<!-- /bench -->', { ...run([]), records: report.records });
    expect(filled).toContain(
      '**Mappings**\n\n|  | 16 | 4096 | growth |\n| --- | --: | --: | --: |\n| map, at once | 50.0 ns | 40.0 ns | 0.80 |',
    );
  });

  it('says on which machine they were measured', () => {
    expect(page('<!-- bench: machine -->\n<!-- /bench -->', run([]))).toContain('a, 2 processors\nLinux 6.1, Node v20.1.0\ncommit ');
  });

  it('that marks no place is refused', () => {
    expect(() => page('# Page\n', run([]))).toThrow(/page\.md has no place for figures, such as <!-- bench: nvme -->/);
  });
});

describe('npm run bench', () => {
  const bench = (...words: string[]) =>
    spawnSync(process.execPath, ['--import', './bin/typescript.js', 'bench/run.ts', ...words], { cwd: root, encoding: 'utf8' });

  it('compares two files and measures nothing', () => {
    const [a, b] = [join(folder, 'a.json'), join(folder, 'b.json')];
    writeBenchFile(a, run([copy([20, 20])]));
    writeBenchFile(b, run([copy([40, 40])]));
    const { status, stdout } = bench('--against', a, '--of', b);
    expect([status, stdout]).toEqual([0, `\n${againstLines(readBenchFile(a), readBenchFile(b), ['dma']).join('\n')}\n`]);
  });

  it.each([
    [['nothing'], "bench: there is no suite 'nothing'; there are device, "],
    [['--against', 'none.json'], 'bench: there is no file none.json'],
    [['--of', 'none.json'], 'bench: --of FILE needs --against FILE, with which it is compared, or --page'],
    [['--jsno', 'x'], "bench: Unknown option '--jsno'"],
  ])('%j is wrong usage', (words, message) => {
    const { status, stderr } = bench(...words);
    expect([status, stderr.slice(0, message.length), stderr.includes('npm run bench -- --help')]).toEqual([2, message, true]);
  });

  it('has a help that names every suite', () => {
    const { stdout } = bench('--help');
    const suites = [...readFileSync(join(root, 'bench/run.ts'), 'utf8').matchAll(/^ {2}'?([\w-]+)'?: \w+Bench,$/gm)].map(
      (match) => match[1]!,
    );
    expect(suites.length).toBeGreaterThan(5);
    for (const name of suites) expect(stdout).toContain(name);
  });
});
