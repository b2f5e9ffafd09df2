/**
 * The log, as a printer of the stream: the line of each event that has one. This is the one place
 * that limits the rate of lines, so that requests of an unprivileged user cannot flood the log
 * (S0-08, S2-47).
 *
 * Two events are alike when they are of one device and kind and agree in the fields that the kind's
 * row names (`alike`). Of like events one is written in an interval, and the others are counted;
 * the count is written at the end of the interval, or at dispose. The interval doubles, up to a
 * minute, while the flood goes on. Notes are alike when their first lines are equal. A few
 * different texts about one thing get through in an interval, and the rest is counted together.
 */
import type { EventDetails, EventKind } from '../abi/event.ts';
import type { Clock } from '../base/clock.ts';
import { callForeign } from '../base/foreign.ts';
import type { Logger, LogLevel } from '../base/log.ts';
import { cut } from './details.ts';
import { type KindRow, rowOf } from './kinds.ts';

const INTERVAL_NS = 5e9;
/** A flood that goes on gets longer intervals, up to this one. */
const INTERVAL_MAX_NS = 60e9;
/** Devices and kinds that are remembered. Those of a flood of still more write together. */
const KEYS_MAX = 256;
/**
 * Different texts of one device and kind. Texts may come from a peer, which must not flood the
 * log.
 */
const TEXTS_MAX = 8;
const OTHER = '';
/** Characters of a line, which is remembered as long as it is limited in rate. */
const LINE_CHARS = 16_384;
/** Characters of a field by which events are alike. */
const KEY_CHARS = 512;

/** Like events: when one was last written, and how many were dropped since. */
interface Seen {
  atNs: number;
  intervalNs: number;
  swallowed: number;
  level: LogLevel;
  line: string;
}

export class ReportLog implements Disposable {
  readonly #keys = new Map<string, Map<string, Seen>>();
  readonly #logger: Logger;
  readonly #clock: Clock;
  #timer: Disposable | null = null;
  #disposed = false;

  constructor(logger: Logger, clock: Clock) {
    this.#logger = logger;
    this.#clock = clock;
  }

  /** An event that may have a line. */
  report<K extends EventKind>(device: string, kind: K, details: EventDetails<K>): void {
    const row = rowOf(kind);
    const level = typeof row.level === 'function' ? row.level(details as never) : row.level;
    if (level === null) return;
    const note = kind === 'note' ? (details as unknown as EventDetails<'note'>) : null;
    const key = `${device}\0${kind}\0${row.alike.map((field) => cut(String(details[field as never]), KEY_CHARS)).join('\0')}`;
    const now = this.#clock.nowNs();
    const texts = this.#textsOf(key, now);
    const text = this.#roomFor(texts, note === null ? kind : firstLine(cut(note.text, LINE_CHARS)), now);
    const seen = texts.get(text);
    if (seen !== undefined && now - seen.atNs < seen.intervalNs) {
      seen.swallowed++;
      this.#wake(seen.atNs + seen.intervalNs, now);
      return;
    }
    const intervalNs = seen !== undefined && seen.swallowed > 0 ? longer(seen.intervalNs) : INTERVAL_NS;
    if (seen !== undefined) this.#writeCount(seen);
    const line = cut(note === null ? named(device, wordsOf(row, details)) : note.text, LINE_CHARS);
    texts.set(text, { atNs: now, intervalNs, swallowed: 0, level, line });
    this.#write(level, line);
  }

  /**
   * Writes the counts that are due. Later lines are limited too, but no timer waits to write their
   * counts.
   */
  [Symbol.dispose](): void {
    this.#disposed = true;
    this.#timer?.[Symbol.dispose]();
    this.#timer = null;
    for (const texts of this.#keys.values()) for (const seen of texts.values()) this.#writeCount(seen);
  }

  #textsOf(key: string, now: number): Map<string, Seen> {
    let texts = this.#keys.get(key);
    if (texts !== undefined) return texts;
    if (this.#keys.size >= KEYS_MAX && !this.#forgetOne(now)) {
      // A flood of things that are all different: they share what one of them may write.
      texts = this.#keys.get(OTHER) ?? new Map();
      this.#keys.set(OTHER, texts);
      return texts;
    }
    texts = new Map();
    this.#keys.set(key, texts);
    return texts;
  }

  /** Forget a device and kind of which nothing came lately. @returns false where there is none */
  #forgetOne(now: number): boolean {
    for (const [key, texts] of this.#keys) {
      if (![...texts.values()].every((seen) => isOver(seen, now))) continue;
      this.#keys.delete(key);
      return true;
    }
    return false;
  }

  /** `text`, or the text that stands for all others when there is no room for more. */
  #roomFor(texts: Map<string, Seen>, text: string, now: number): string {
    if (texts.has(text) || texts.size < TEXTS_MAX) return text;
    for (const [each, seen] of texts) if (isOver(seen, now)) texts.delete(each);
    return texts.size < TEXTS_MAX ? text : OTHER;
  }

  #intervalOver(): void {
    this.#timer = null;
    const now = this.#clock.nowNs();
    let next = Number.POSITIVE_INFINITY;
    for (const texts of this.#keys.values()) {
      for (const seen of texts.values()) {
        if (now - seen.atNs >= seen.intervalNs) this.#writeCount(seen, now);
        else if (seen.swallowed > 0) next = Math.min(next, seen.atNs + seen.intervalNs);
      }
    }
    if (next < Number.POSITIVE_INFINITY) this.#wake(next, now);
  }

  /** The end of an interval is due at `dueNs`. */
  #wake(dueNs: number, now: number): void {
    if (this.#disposed) return;
    this.#timer ??= this.#clock.after((dueNs - now) / 1e6, () => this.#intervalOver());
  }

  /** @param now  the time, when the line belongs to the next interval */
  #writeCount(seen: Seen, now = seen.atNs): void {
    if (seen.swallowed === 0) return;
    const { swallowed, level, line } = seen;
    seen.swallowed = 0;
    if (now > seen.atNs) seen.intervalNs = longer(seen.intervalNs);
    seen.atNs = now;
    this.#write(level, `${line} (${swallowed} more since)`);
  }

  #write(level: LogLevel, line: string): void {
    // A line is lost when the logger fails, and so is the failure: there is no other place to write
    // them to.
    callForeign(
      'log',
      () => this.#logger.log(level, line),
      () => {},
    );
  }
}

/** Nothing is to be written about it. */
function isOver({ atNs, intervalNs, swallowed }: Seen, now: number): boolean {
  return swallowed === 0 && now - atNs >= intervalNs;
}

/** The lines after it are a stack, which differs where V8 has optimized. */
function firstLine(text: string): string {
  const end = text.indexOf('\n');
  return end < 0 ? text : text.slice(0, end);
}

function longer(intervalNs: number): number {
  return Math.min(2 * intervalNs, INTERVAL_MAX_NS);
}

/** Words that name the device stand alone. */
function named(device: string, words: string): string {
  return words.includes(device) ? words : `${device}: ${words}`;
}

function wordsOf(row: KindRow, details: object): string {
  return row.words(details as never);
}
