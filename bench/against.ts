/**
 * Two runs beside each other. The ratios to the floors are compared, because a floor goes up and
 * down with the machine; a figure without a floor is compared by its value.
 *
 * A change counts when it is beyond noise: the rounds of the two runs do not overlap (every round
 * of one is above every round of the other), and the medians differ by more than `THRESHOLD`. The
 * threshold is there because V8 compiles the same source differently in each process, which the
 * rounds of one process do not show.
 */
import type { BenchFile, BenchRecord } from './record.ts';
import { format } from './report.ts';

/**
 * Two runs of one commit on a shared machine differ by more in one figure of ten, and seldom in
 * every round.
 */
export const THRESHOLD = 0.1;

/** Changes smaller than this print as none. */
const NOTHING = 0.005;

/** Heap is counted for each object: a difference below one byte is the collector's. */
const NOISE_BYTES = 1;

export type Verdict = 'slower' | 'faster' | 'larger' | 'smaller' | 'within noise' | 'new' | 'gone' | 'another floor';

export interface Comparison {
  readonly suite: string;
  readonly name: string;
  readonly then: BenchRecord | null;
  readonly now: BenchRecord | null;
  /** -0.2: a fifth less than then. Null where one of the two is missing or cannot be compared. */
  readonly change: number | null;
  readonly verdict: Verdict;
}

const compared = (record: BenchRecord) => record.ratio ?? record.ours;

function verdictOf(then: BenchRecord, now: BenchRecord, change: number): Verdict {
  const overlap = Math.max(...then.rounds) >= Math.min(...now.rounds) && Math.max(...now.rounds) >= Math.min(...then.rounds);
  if (overlap || Math.abs(change) <= THRESHOLD) return 'within noise';
  if (now.unit === 'bytes' && Math.abs(now.ours - then.ours) < NOISE_BYTES) return 'within noise';
  if (now.unit === 'bytes') return change > 0 ? 'larger' : 'smaller';
  return change > 0 ? 'slower' : 'faster';
}

function comparisonOf(suite: string, name: string, then: BenchRecord | null, now: BenchRecord | null): Comparison {
  const base = { suite, name, then, now };
  if (then === null) return { ...base, change: null, verdict: 'new' };
  if (now === null) return { ...base, change: null, verdict: 'gone' };
  if (then.floorName !== now.floorName || then.unit !== now.unit || (then.ratio === null) !== (now.ratio === null)) {
    return { ...base, change: null, verdict: 'another floor' };
  }
  const change = compared(now) / compared(then) - 1;
  return { ...base, change: Number.isFinite(change) ? change : null, verdict: verdictOf(then, now, change) };
}

/**
 * The figures of both runs, in the order of this run's.
 * @param suites those that ran now; a figure of another suite is not missed
 */
export function compare(then: BenchFile, now: BenchFile, suites: readonly string[]): Comparison[] {
  const key = ({ suite, name }: BenchRecord) => `${suite}\0${name}`;
  const before = new Map(then.records.map((record) => [key(record), record]));
  const found = now.records.map((record) => {
    const earlier = before.get(key(record)) ?? null;
    before.delete(key(record));
    return comparisonOf(record.suite, record.name, earlier, record);
  });
  const gone = [...before.values()].filter(({ suite }) => suites.includes(suite));
  return [...found, ...gone.map((record) => comparisonOf(record.suite, record.name, record, null))];
}

/** The differences between the machines of two runs, as lines of a warning. */
function machineLines(then: BenchFile, now: BenchFile): string[] {
  const names = { cpu: 'processor', cores: 'processors', kernel: 'kernel', node: 'Node' } as const;
  const lines: string[] = [];
  for (const key of Object.keys(names) as (keyof typeof names)[]) {
    if (then.machine[key] !== now.machine[key]) lines.push(`  ${names[key]}: ${then.machine[key]} then, ${now.machine[key]} now`);
  }
  if (lines.length === 0) return [];
  return ['The machine is not the same; ratios travel a little, absolute values do not:', ...lines];
}

const percent = (change: number | null) => {
  if (change === null) return '';
  if (Math.abs(change) < NOTHING) return '0 %';
  return `${change > 0 ? '+' : ''}${(change * 100).toFixed(0)} %`;
};

const marks: Readonly<Record<Verdict, string>> = {
  slower: '▲ slower',
  larger: '▲ larger',
  faster: '▼ faster',
  smaller: '▼ smaller',
  'within noise': '',
  new: 'new: not in the file',
  gone: 'gone: only in the file',
  'another floor': 'not comparable: another floor or unit',
};

function line({ name, then, now, change, verdict }: Comparison): string {
  const value = (record: BenchRecord | null) => (record === null ? '–' : format(record.ours, record.shown, record.bytes)).padStart(12);
  const ratio = (record: BenchRecord | null) => (record?.ratio?.toFixed(2) ?? '–').padStart(9);
  const cells = `${value(then)}${value(now)}${ratio(then)}${ratio(now)}${percent(change).padStart(9)}`;
  return `  ${name.padEnd(58)}${cells}  ${marks[verdict]}`.trimEnd();
}

/** @param suites see `compare` */
export function againstLines(then: BenchFile, now: BenchFile, suites: readonly string[]): string[] {
  const commit = (file: BenchFile) => `${file.commit ?? 'no commit'}, ${file.date}`;
  const comparisons = compare(then, now, suites);
  const lines = [`Then: ${commit(then)}`, `Now:  ${commit(now)}`, ...machineLines(then, now)];
  let suite = '';
  for (const comparison of comparisons) {
    if (comparison.suite !== suite) {
      suite = comparison.suite;
      lines.push(
        '',
        `  ${suite.padEnd(58)}${'ours then'.padStart(12)}${'ours now'.padStart(12)}${'then'.padStart(9)}${'now'.padStart(9)}${'change'.padStart(9)}`,
      );
    }
    lines.push(line(comparison));
  }
  const count = (...verdicts: Verdict[]) => comparisons.filter(({ verdict }) => verdicts.includes(verdict)).length;
  lines.push(
    '',
    `${count('slower', 'larger')} worse, ${count('faster', 'smaller')} better, ${count('within noise')} within noise, ` +
      `${count('new')} new, ${count('gone')} gone, ${count('another floor')} not comparable.`,
    `"then" and "now" are ratios to the floor. A change is of the ratio, or of the value where there is no floor.`,
    `It is marked when it is above ${THRESHOLD * 100} % and the rounds of the two runs do not overlap.`,
  );
  return lines;
}
