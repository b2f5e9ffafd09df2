/**
 * The figures of a run of `npm run bench`: every suite hands them to one `Report`, which prints
 * them and keeps a record of each for `--json` and `--against`.
 */
import { type Figure, measure, median } from './harness.ts';
import type { BenchRecord, Shown } from './record.ts';

/**
 * A figure that was measured in rounds: `ours[i]` and `floor[i]` were measured one after the other,
 * so the machine's load hits both. Smaller is better.
 */
export interface Row {
  readonly name: string;
  /** One value for each round, in `unit`. */
  readonly ours: readonly number[];
  /** The least that the machine needs for the same job. Null: there is no such thing. */
  readonly floor: readonly number[] | null;
  readonly floorName: string;
  /** The figure that an issue or the design asks for. */
  readonly aim?: string;
  /** Nanoseconds an operation, or bytes. Default: ns. */
  readonly unit?: 'ns' | 'bytes';
  /** How values print. Default: the unit. */
  readonly shown?: Shown;
  /** Bytes of one operation, for GB/s and Gbit/s. */
  readonly bytes?: number;
  /** Of a cost at several sizes. */
  readonly size?: string;
}

/** The cost of one unit of work at sizes that grow, in the order of a section's sizes. */
export interface Growth {
  readonly name: string;
  /** The unit: `function`, `page written`. */
  readonly work: string;
  /** One list of rounds for each size, in `unit`. */
  readonly rounds: readonly (readonly number[])[];
  readonly unit?: 'ns' | 'bytes';
  readonly shown?: Shown;
}

/** The ratios of the rounds, or the values themselves where the figure has no floor. */
export function rounds({ ours, floor }: Pick<Row, 'ours' | 'floor'>): readonly number[] {
  return floor === null ? ours : ours.map((value, i) => value / floor[i]!);
}

const ns = (value: number) => (value < 100 ? value.toFixed(1) : value < 10_000 ? value.toFixed(0) : `${(value / 1000).toFixed(1)}k`);
const scaled = (value: number) => (value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : value.toFixed(0));

/** A value as people read it. @param value nanoseconds or bytes */
export function format(value: number, shown: Shown, bytes = 0): string {
  switch (shown) {
    case 'ns':
      return `${ns(value)} ns`;
    case 'µs':
      return `${scaled(value / 1e3)} µs`;
    case 'ms':
      return `${scaled(value / 1e6)} ms`;
    case 'k/s':
      return `${scaled(1e6 / value)} k/s`;
    case 'M/s':
      return `${(1e3 / value).toFixed(2)} M/s`;
    case 'GB/s':
      return `${(bytes / value).toFixed(2)} GB/s`;
    case 'Gbit/s':
      return `${((bytes * 8) / value).toFixed(1)} Gbit/s`;
    case 'bytes':
      return Math.abs(value) < 10_000 ? `${value.toFixed(0)} B` : `${scaled(value / 1024)} KiB`;
    default:
      return shown satisfies never;
  }
}

export type Suite = (report: Report) => Promise<void>;

export class Report {
  readonly records: BenchRecord[] = [];
  readonly #print: (line: string) => void;
  #suite = '';
  #section = '';
  #header = false;
  #sizes: readonly string[] = [];

  constructor(print: (line: string) => void) {
    this.#print = print;
  }

  /** The figures that follow are those of this suite. */
  begin(suite: string): void {
    this.#suite = suite;
  }

  /** A heading; the next row stands under a new header. */
  section(title: string): void {
    this.#print(`\n${title}`);
    this.#section = title;
    this.#header = true;
  }

  /** A line for people, which is no figure. */
  note(line: string): void {
    this.#print(`  ${line}`);
  }

  /** Print a figure and keep its record. */
  row(row: Row): void {
    if (this.#header) {
      this.#print(`  ${'figure'.padEnd(58)}${'ours'.padStart(12)}${'floor'.padStart(12)}${'ratio'.padStart(9)}  floor is / aim`);
      this.#header = false;
    }
    const record = this.keep(row);
    const { ours, floor, ratio, shown, bytes } = record;
    const value = (number: number | null) => (number === null ? '–' : format(number, shown, bytes)).padStart(12);
    const aim = record.aim === '' ? '' : `aim ${record.aim}`;
    this.#print(
      `  ${row.name.padEnd(58)}${value(ours)}${value(floor)}${(ratio?.toFixed(2) ?? '–').padStart(9)}  ${[row.floorName, aim].filter(Boolean).join('; ')}`,
    );
  }

  /** Keep the record of a figure that is printed elsewhere. */
  keep(row: Row): BenchRecord {
    const { name, ours, floor, floorName, aim = '', unit = 'ns', shown = unit, bytes, size } = row;
    const record: BenchRecord = {
      suite: this.#suite,
      section: this.#section,
      name,
      unit,
      ours: median(ours),
      floor: floor === null ? null : median(floor),
      ratio: floor === null ? null : median(rounds(row)),
      rounds: rounds(row).map((value) => Number(value.toPrecision(6))),
      floorName,
      aim,
      shown,
      ...(bytes === undefined ? {} : { bytes }),
      ...(size === undefined ? {} : { size }),
    };
    const wrong = [...record.rounds, record.ours].find((value) => !Number.isFinite(value));
    if (wrong !== undefined) throw new Error(`bench: figure '${name}' of suite ${record.suite} is ${wrong}; its floor may be 0`);
    if (this.records.some((other) => other.suite === record.suite && other.name === name)) {
      throw new Error(`bench: suite ${this.#suite} has two figures '${name}'`);
    }
    this.records.push(record);
    return record;
  }

  /** A heading of figures at sizes, such as `['1', '100', '1000']`; `growth` prints the rows. */
  sizes(title: string, labels: readonly string[]): void {
    this.section(title);
    this.#header = false;
    this.#sizes = labels;
    const cells = labels.map((label) => label.padStart(12)).join('');
    this.#print(`  ${'cost of one unit of work at'.padEnd(46)}${cells}${'growth'.padStart(9)}  unit`);
  }

  /**
   * Print the cost at each size, and keep a record for each. The floor of a size is the size before
   * it: a cost that grows as its work has the ratio 1. `growth` is that of the last size.
   */
  growth({ name, work, rounds: sizes, unit = 'ns', shown = unit }: Growth): void {
    const records = sizes.map((ours, i) =>
      this.keep({
        name: `${name}, ${this.#sizes[i]!}`,
        size: this.#sizes[i]!,
        ours,
        floor: i === 0 ? null : sizes[i - 1]!,
        floorName: i === 0 ? '' : `at ${this.#sizes[i - 1]!}`,
        unit,
        shown,
      }),
    );
    const cells = records.map(({ ours }) => format(ours, shown).padStart(12)).join('');
    this.#print(`  ${name.padEnd(46)}${cells}${(records.at(-1)!.ratio?.toFixed(2) ?? '–').padStart(9)}  ${work}`);
  }

  /** Measure figures that loop in this process, under a heading. */
  async measure(title: string, figures: readonly Figure[]): Promise<void> {
    this.section(title);
    for (const figure of figures) this.row(await measure(figure));
  }
}
