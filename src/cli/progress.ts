/** How far a long copy is: a line that is written over, on a terminal only. */
import { formatBytes, formatClock, formatRate } from './quantities.ts';

/** The output of a progress line: a terminal; any other output gets nothing. */
export interface ProgressOutput {
  readonly isTTY?: boolean;
  /** 0 where it is unknown. */
  readonly columns?: number;
  write(text: string): unknown;
}

const BAR = 24;
const EVERY_MS = 100;

/**
 * `[=========>              ]  38 %  1.23 GB of 3.21 GB  512 MB/s  ETA 0:04`.
 *
 * @param total  bytes; null when it is unknown
 * @param columns  of the terminal
 */
export function progressLine(done: number, total: number | null, elapsedMs: number, columns = 80): string {
  const rate = elapsedMs > 0 ? (done / elapsedMs) * 1000 : 0;
  const words = [total === null ? formatBytes(done) : `${formatBytes(done)} of ${formatBytes(total)}`, formatRate(rate)];
  if (total === null) return words.join('  ').slice(0, columns - 1);
  const share = total === 0 ? 1 : Math.min(done / total, 1);
  if (rate > 0) words.push(`ETA ${formatClock((total - done) / rate)}`);
  const filled = Math.floor(share * BAR);
  const bar = `${'='.repeat(filled)}${filled < BAR ? '>' : ''}`.padEnd(BAR);
  const text = `${String(Math.floor(share * 100)).padStart(3)} %  ${words.join('  ')}`;
  const whole = `[${bar}] ${text}`;
  return (whole.length < columns ? whole : text).slice(0, columns - 1);
}

export class Progress implements Disposable {
  readonly #output: ProgressOutput;
  readonly #total: number | null;
  readonly #now: () => number;
  readonly #begun: number;
  #shownAt: number;
  #shown = false;

  /** @param total  bytes; null when it is unknown   @param now  milliseconds */
  constructor(total: number | null, output: ProgressOutput = process.stderr, now: () => number = () => performance.now()) {
    this.#output = output;
    this.#total = total;
    this.#now = now;
    this.#begun = now();
    this.#shownAt = this.#begun;
  }

  /** @param bytes  that are through, in all */
  readonly update = (bytes: number): void => {
    if (this.#output.isTTY !== true) return;
    const now = this.#now();
    // A copy that is done in a blink shows no bar.
    if (now - this.#shownAt < EVERY_MS) return;
    this.#shownAt = now;
    this.#shown = true;
    this.#output.write(`\r${progressLine(bytes, this.#total, now - this.#begun, this.#output.columns || 80)}\u001b[K`);
  };

  get elapsedMs(): number {
    return this.#now() - this.#begun;
  }

  /** The line goes away. */
  [Symbol.dispose](): void {
    if (this.#shown) this.#output.write('\r\u001b[K');
    this.#shown = false;
  }
}
