/**
 * Lines for a descriptor whose reader is not to be trusted: a log. Writing never waits and never
 * fails. Lines that the reader does not take in time, and lines that the disk has no room for, are
 * dropped and counted. A line with the number of missing lines precedes the next line that gets
 * through.
 */
import { ByteOutput, type OutputOwner } from './byte-output.ts';

/** The most that waits for a slow reader. */
const QUEUE_BYTES = 2 ** 20;
/** `write` waits for a file that answers, so a line is there when `write` returns. */
const FILE_MS = 20;
/** At the end, for a reader that is slow. */
const PATIENCE_MS = 500;

export interface LineOutputOptions {
  /** The line that stands for `count` missing ones. */
  readonly missing: (count: number) => string;
  /** Called when the first line is dropped, with the reason. */
  readonly onDropped?: (reason: string) => void;
  /** Called when lines get through again, with the number of missing ones. */
  readonly onAgain?: (count: number) => void;
}

interface Entry {
  readonly bytes: Uint8Array;
  readonly lines: number;
  /** Missing lines that it stands for. */
  readonly missing: number;
}

export class LineOutput implements Disposable, OutputOwner<Entry> {
  readonly #options: LineOutputOptions;
  readonly #output: ByteOutput<Entry>;
  #missing = 0;
  /** The last line was written in part. */
  #cut = false;

  /** @param number a descriptor, which stays its owner's   @throws VfioError EBADF */
  constructor(number: number, options: LineOutputOptions) {
    this.#options = options;
    this.#output = new ByteOutput(number, this);
  }

  /** @param text one or more lines, each with its end */
  write(text: string, lines = 1): void {
    const output = this.#output;
    if (output.closed) return;
    if (output.queued >= QUEUE_BYTES) {
      this.#drop(lines, 'its reader does not read');
      return;
    }
    const missing = this.#missing;
    if (missing > 0) {
      this.#missing = 0;
      output.add({ bytes: bytesOf(`${this.#cut ? '\n' : ''}${this.#options.missing(missing)}\n`), lines: 0, missing });
    }
    output.add({ bytes: bytesOf(text), lines, missing: 0 });
    output.push(FILE_MS);
  }

  /** A slow reader gets half a second for the waiting lines. */
  [Symbol.dispose](): void {
    this.#output.finish(PATIENCE_MS);
    this.#output[Symbol.dispose]();
  }

  /** For the output. */
  written({ missing }: Entry): void {
    if (missing === 0) return;
    this.#cut = false;
    this.#options.onAgain?.(missing);
  }

  /**
   * For the output: the waiting lines will not be written. The next line tries again: disks get
   * room, and named pipes other readers.
   */
  failed(reason: string): void {
    this.#cut ||= this.#output.begun;
    const entries = this.#output.clear();
    const dropped = entries.reduce((sum, { lines, missing }) => sum + lines + missing, 0);
    if (entries.some(({ missing }) => missing > 0)) this.#missing += dropped;
    else this.#drop(dropped, reason);
  }

  #drop(lines: number, reason: string): void {
    const first = this.#missing === 0;
    this.#missing += lines;
    if (first) this.#options.onDropped?.(reason);
  }
}

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
