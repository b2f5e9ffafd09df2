/**
 * EventStream: the one place to which the parts of a machine, a server, a client and a driver emit
 * what happens. Without a reader a part looks at one flag; the kinds that have a line in the log
 * are counted and logged all the same.
 */
import type { EventDetails, EventKind, EventOf, EventOptions, VfioEvent } from '../abi/event.ts';
import { acrossCopies } from '../base/across-copies.ts';
import { type Clock, SystemClock } from '../base/clock.ts';
import { made } from '../base/declared.ts';
import { callForeign, surface } from '../base/foreign.ts';
import { type Logger, silentLogger } from '../base/log.ts';
import { LowestFree, type Numbers } from '../base/numbers.ts';
import { EventReader } from './reader.ts';
import { ReportLog } from './report-log.ts';
import { EventRing, RING_RECORDS } from './ring.ts';
import { EventSource } from './source.ts';

/** A reader that is called before it can lose records falls behind by this much at most. */
const PRESSURE_RECORDS = RING_RECORDS / 2;
/** Names beyond this number share the last one. */
const NAMES_MAX = 65_535;

/** Options of `new EventStream`. */
export interface EventStreamOptions {
  /** The clock of `timeNs`. Default: the machine's. */
  readonly clock?: Clock;
  /** Receives the lines of events that have some, limited in rate. Default: nothing does. */
  readonly log?: Logger;
  /** The clock by which lines of the log are limited in rate. Default: `clock`. */
  readonly logClock?: Clock;
  /** Numbers of containers, for streams that share them. Default: its own. */
  readonly containers?: Numbers;
}

const host = new SystemClock();

/** Events of one machine, or of one program that uses devices. */
export class EventStream implements Disposable {
  /** Whether there is a reader. */
  on = false;
  /** Whether a reader wants data. */
  data = false;
  /** `seq` of the event that is being answered now; 0: none is known. */
  cause = 0;
  readonly clock: Clock;
  /** Receives the lines of the stream's log. */
  readonly logger: Logger;
  readonly #log: ReportLog;
  /** The injected clock is the host's: one reading gives both times. */
  readonly #oneClock: boolean;
  readonly #names: string[] = [];
  readonly #numbers = new Map<string, number>();
  readonly #sources = new Set<EventSource>();
  /** Of living sources of `numbered`. */
  readonly #numbered = new Map<EventSource, { readonly number: number; readonly numbers: Numbers }>();
  readonly #containers: Numbers;
  readonly #iommufds: Numbers = new LowestFree();
  readonly #readers = new Set<EventReader>();
  #ring: EventRing | null = null;
  /** Numbers go on when a later reader gets a new ring. */
  #lastSeq = 0;
  /** A reader waits for the next event. */
  #waited = false;
  /** It was disposed. */
  #ended = false;
  /** The number of the event at which readers are called in the middle of a turn. */
  #alarm = Number.POSITIVE_INFINITY;
  #hostNs = 0;
  #timeNs = 0;

  /** A stream without readers, which takes no memory for events yet. */
  constructor({ clock = new SystemClock(), log = silentLogger, logClock = clock, containers = new LowestFree() }: EventStreamOptions = {}) {
    this.clock = clock;
    this.#oneClock = clock instanceof SystemClock;
    this.logger = log;
    this.#log = new ReportLog(log, logClock);
    this.#containers = containers;
  }

  /** Where a device emits. Each function, session or driver has a source of its own. */
  source(name: string): EventSource {
    const source = new EventSource(this, name, this.#nameOf(name));
    this.#sources.add(source);
    source.switched(this.on, this.data);
    return source;
  }

  /**
   * Where a container emits: `container 0`, `container 1`, with the lowest number that no living
   * container has.
   */
  container(): EventSource {
    return this.#numberedSource('container', this.#containers);
  }

  /** Where an iommufd emits: `iommufd 0`, and so on, as containers have numbers. */
  iommufd(): EventSource {
    return this.#numberedSource('iommufd', this.#iommufds);
  }

  #numberedSource(name: string, numbers: Numbers): EventSource {
    const number = numbers.take(name);
    const source = this.source(`${name} ${number}`);
    this.#numbered.set(source, { number, numbers });
    return source;
  }

  /** The device is gone: its source emits no more. */
  forget(source: EventSource): void {
    this.#sources.delete(source);
    const numbered = this.#numbered.get(source);
    numbered?.numbers.release(numbered.number);
    this.#numbered.delete(source);
    source.switched(false, false);
  }

  #nameOf(name: string): number {
    const known = this.#numbers.get(name);
    if (known !== undefined) return known;
    if (this.#names.length >= NAMES_MAX) return NAMES_MAX - 1;
    this.#names.push(name);
    this.#numbers.set(name, this.#names.length - 1);
    return this.#names.length - 1;
  }

  /**
   * Read the events from now on.
   *
   * @param onPressure called in the middle of a turn of the event loop, when the reader is half a
   *   ring behind: it may `take`, and must not emit. Without it a reader can lose events of a long
   *   turn.
   * @throws VfioError EINVAL for options or kinds that do not exist
   */
  read<K extends EventKind = EventKind>(options: EventOptions<K> = {}, onPressure?: () => void): EventReader<EventOf<K | 'dropped'>> {
    const reader = new EventReader<EventOf<K | 'dropped'>>(this, options, onPressure);
    this.#ring ??= this.#newRing();
    reader.start(this.#ring);
    this.#readers.add(reader);
    this.#update();
    if (this.#ended) reader.end();
    return reader;
  }

  #newRing(): EventRing {
    const ring = new EventRing(this.#names);
    ring.seq = this.#lastSeq;
    return ring;
  }

  /** A reader is done. The memory goes with the last one. */
  left(reader: EventReader): void {
    if (!this.#readers.delete(reader)) return;
    this.#update();
    if (this.#readers.size > 0) return;
    this.#lastSeq = this.#ring?.seq ?? this.#lastSeq;
    this.#ring = null;
    this.cause = 0;
  }

  #update(): void {
    this.on = this.#readers.size > 0;
    this.data = [...this.#readers].some((reader) => reader.wantsData);
    this.#setAlarm();
    for (const source of this.#sources) source.switched(this.on, this.data);
  }

  #setAlarm(): void {
    this.#alarm = Number.POSITIVE_INFINITY;
    for (const reader of this.#readers) {
      if (reader.onPressure !== undefined) this.#alarm = Math.min(this.#alarm, reader.position + PRESSURE_RECORDS);
    }
  }

  /**
   * A reader waits, which has none: it is called once there is an event, in a turn of the loop of
   * its own. How far others have read does not matter.
   *
   * @param anew  it was called, and found none
   */
  wait(anew: boolean): void {
    this.#waited = true;
    // A read is under way, and no event may come after its value.
    if (!anew && this.#ring !== null && this.#ring.settled < this.#ring.seq) this.#wakeSoon();
  }

  #wakeSoon(): void {
    this.#waited = false;
    setImmediate(() => {
      for (const reader of [...this.#readers]) reader.wake();
    });
  }

  /** For a source, whose read ends: null without a reader. */
  get ring(): EventRing | null {
    return this.#ring;
  }

  /** Times and calls before each record. @returns null without a reader */
  begin(): EventRing | null {
    const ring = this.#ring;
    if (ring === null) return null;
    if (this.#waited) this.#wakeSoon();
    if (ring.seq >= this.#alarm) this.#press(ring);
    // Whole nanoseconds: other readers of files take them for integers.
    this.#hostNs = Math.round(host.nowNs());
    this.#timeNs = this.#oneClock ? this.#hostNs : Math.round(this.clock.nowNs());
    return ring;
  }

  /** Of the last `begin`. */
  get hostNs(): number {
    return this.#hostNs;
  }

  /** Of the last `begin`. */
  get timeNs(): number {
    return this.#timeNs;
  }

  /**
   * Put in an event of another stream, with the times that it has there. It has no line in the log:
   * the other stream has written it.
   *
   * @param cause its `cause` in this stream
   * @returns the event's `seq` here; 0 while there is no reader
   */
  relay({ kind, seq: _, timeNs, hostNs, device, cause: __, ...details }: VfioEvent, cause: number): number {
    const ring = this.begin();
    return ring === null ? 0 : ring.put(timeNs, hostNs, cause, kind, this.#nameOf(device), details);
  }

  #press(ring: EventRing): void {
    this.#alarm = Number.POSITIVE_INFINITY;
    for (const reader of this.#readers) if (ring.seq - reader.position >= PRESSURE_RECORDS) pressed(reader);
    this.#setAlarm();
    // A read whose model emits without end keeps every reader waiting.
    this.#alarm = Math.max(this.#alarm, ring.seq + 1024);
  }

  /** Writes the line of an event that has one. */
  report<K extends EventKind>(source: EventSource, kind: K, details: EventDetails<K>): void {
    this.#log.report(source.name, kind, details);
  }

  /**
   * The end of the stream: lines that are held back are written, and readers end when they have
   * read what is there. A later reader ends at once.
   */
  [Symbol.dispose](): void {
    this.#ended = true;
    this.#log[Symbol.dispose]();
    for (const reader of [...this.#readers]) reader.end();
  }
}

acrossCopies(EventStream, 'EventStream');

/** @throws VfioError EINVAL for another thing than a stream, as JavaScript may give it */
export const checkStream = made([EventStream], 'an EventStream');

/**
 * The stream of the option `events`, or a new one.
 *
 * @throws VfioError EINVAL for another thing than a stream
 */
export function streamOf(given: EventStream | undefined, options: EventStreamOptions): EventStream {
  if (given === undefined) return new EventStream(options);
  checkStream(given, "the option 'events'");
  return given;
}

/** A failure of the callback is its author's, and not of the device in whose access it runs. */
function pressed(reader: EventReader): void {
  callForeign(
    'a reader under pressure',
    () => reader.onPressure?.(),
    (_what, error) => surface(error),
  );
}
