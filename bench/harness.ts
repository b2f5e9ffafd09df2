/**
 * Figures beside their floors. A figure is the time of one operation of ours. Its floor is the
 * least that the machine needs for the same job (a bare load, a plain copy). Both are measured in
 * the same run, in turns, so that the machine's load hits both. Read the ratios, not the
 * nanoseconds.
 */
import { Bench } from 'tinybench';

/** Loops store here, so that the compiler cannot drop their reads. */
export const kept = new Int32Array(1);

export interface Figure {
  readonly name: string;
  /**
   * Operations in one call of `ours` and of `floor`: both loop, so that the timer costs nothing.
   */
  readonly operations: number;
  ours(): void;
  readonly floorName: string;
  floor(): void;
  /** Run between samples, outside the time. */
  readonly beforeEach?: () => void;
  /** The figure that an issue or the design asks for. */
  readonly aim?: string;
  /** 'ops' prints millions of operations a second, 'ns' nanoseconds an operation. Default: 'ns'. */
  readonly unit?: 'ns' | 'ops';
}

export interface Result {
  readonly name: string;
  readonly oursNs: number;
  readonly floorNs: number;
  readonly ratio: number;
}

export const median = (samples: readonly number[]) => [...samples].sort((a, b) => a - b)[samples.length >> 1]!;

/** Samples of a task in nanoseconds per operation. */
async function sample(
  name: string,
  run: () => void,
  before: (() => void) | undefined,
  operations: number,
  timeMs: number,
): Promise<number[]> {
  const bench = new Bench({ time: timeMs, warmupTime: timeMs / 4, warmup: true, retainSamples: true });
  bench.add(name, run, before === undefined ? {} : { beforeEach: before });
  const [task] = await bench.run();
  const result = task!.result;
  if (result.state !== 'completed')
    throw new Error(`${name}: benchmark ended as '${result.state}'${'error' in result ? `: ${String(result.error)}` : ''}`);
  return result.latency.samples!.map((ms) => (ms * 1e6) / operations);
}

/** Measures ours and floor in turns, five times; the ratio is the median of the pairs' ratios. */
export async function measure(figure: Figure, timeMs = 60): Promise<Result> {
  const ours: number[] = [];
  const floors: number[] = [];
  for (let round = 0; round < 5; round++) {
    floors.push(median(await sample(figure.floorName, figure.floor, figure.beforeEach, figure.operations, timeMs)));
    ours.push(median(await sample(figure.name, figure.ours, figure.beforeEach, figure.operations, timeMs)));
  }
  return {
    name: figure.name,
    oursNs: median(ours),
    floorNs: median(floors),
    ratio: median(ours.map((ns, i) => ns / floors[i]!)),
  };
}

const ns = (value: number) => (value < 100 ? value.toFixed(1) : value < 10_000 ? value.toFixed(0) : `${(value / 1000).toFixed(1)}k`);
const shown = (figure: Figure, value: number) => (figure.unit === 'ops' ? `${(1e3 / value).toFixed(2)} M/s` : `${ns(value)} ns`);

export async function report(title: string, figures: readonly Figure[]): Promise<Result[]> {
  console.log(`\n${title}`);
  console.log(`  ${'figure'.padEnd(58)}${'ours'.padStart(12)}${'floor'.padStart(12)}${'ratio'.padStart(9)}  floor is / aim`);
  const results: Result[] = [];
  for (const figure of figures) {
    const r = await measure(figure);
    results.push(r);
    const aim = figure.aim === undefined ? '' : `; aim ${figure.aim}`;
    console.log(
      `  ${figure.name.padEnd(58)}${shown(figure, r.oursNs).padStart(12)}${shown(figure, r.floorNs).padStart(12)}${r.ratio.toFixed(2).padStart(9)}  ${figure.floorName}${aim}`,
    );
  }
  return results;
}

/**
 * Bytes of JavaScript heap that `act` leaves behind while its result is held. Needs --expose-gc.
 */
export function heapGrowth<T>(act: () => T): { bytes: number; held: T } {
  const gc = (globalThis as { gc?: () => void }).gc;
  if (gc === undefined) throw new Error('run with node --expose-gc (npm run bench does)');
  gc();
  gc();
  const before = process.memoryUsage();
  const held = act();
  gc();
  gc();
  const after = process.memoryUsage();
  return { bytes: after.heapUsed + after.arrayBuffers - before.heapUsed - before.arrayBuffers, held };
}

/** A figure that was measured elsewhere, in nanoseconds, beside its floor. */
export interface Row {
  readonly name: string;
  readonly ours: number;
  readonly floor: number;
  readonly floorName: string;
  readonly aim: string;
  /** How to print a time: as it is, as operations a second, or as bytes a second. */
  readonly shown?: (ns: number) => string;
}

export const microseconds = (ns: number) => `${(ns / 1000).toFixed(1)} µs`;
export const perSecond = (ns: number) => `${(1e6 / ns).toFixed(0)} k/s`;

export function printRows(rows: readonly Row[]): void {
  console.log(`  ${'figure'.padEnd(58)}${'ours'.padStart(12)}${'floor'.padStart(12)}${'ratio'.padStart(9)}  floor is / aim`);
  for (const { name, ours, floor, floorName, aim, shown = microseconds } of rows) {
    console.log(
      `  ${name.padEnd(58)}${shown(ours).padStart(12)}${shown(floor).padStart(12)}${(ours / floor).toFixed(2).padStart(9)}  ${floorName}; aim ${aim}`,
    );
  }
}
