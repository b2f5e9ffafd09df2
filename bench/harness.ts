/**
 * Figures beside their floors. A figure is the time of one operation of ours. Its floor is the
 * least that the machine needs for the same job (a bare load, a plain copy). Both are measured in
 * the same run, in turns, so that the machine's load hits both. Read the ratios, not the
 * nanoseconds.
 */
import { Bench } from 'tinybench';
import type { Shown } from './record.ts';
import type { Row } from './report.ts';

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
  /** How a time prints. Default: 'ns', nanoseconds an operation. */
  readonly shown?: Shown;
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

/** Measures ours and floor in turns, five times. */
export async function measure(figure: Figure, timeMs = 60): Promise<Row> {
  const ours: number[] = [];
  const floor: number[] = [];
  for (let round = 0; round < 5; round++) {
    floor.push(median(await sample(figure.floorName, figure.floor, figure.beforeEach, figure.operations, timeMs)));
    ours.push(median(await sample(figure.name, figure.ours, figure.beforeEach, figure.operations, timeMs)));
  }
  const { name, floorName, aim, shown } = figure;
  return { name, ours, floor, floorName, ...(aim === undefined ? {} : { aim }), ...(shown === undefined ? {} : { shown }) };
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
