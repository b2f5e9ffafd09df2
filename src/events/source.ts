/**
 * EventSource: where one device emits. The three frequent kinds have a method each, which makes
 * nothing; all other kinds go through `emit`.
 *
 * A part that answers an event (an access, a message) sets `cause` for the time of the answer, so
 * that what follows from it names it:
 *
 * ```ts
 * const before = events.cause;
 * events.cause = events.access(true, bar, offset, width, value, 0, false);
 * model.write(bar, offset, width, value);
 * events.cause = before;
 * ```
 */
import type { EventDetails, EventKind, EventPort, EventShape, VfioEvent } from '../abi/event.ts';
import { errnoOf } from '../base/errno.ts';
import type { LogLevel } from '../base/log.ts';
import { rowOf } from './kinds.ts';
import { type EventRing, irqs, type MessageShape, reasons, steps, ways } from './ring.ts';

/** Kinds of requests, which can be refused. */
type RefusedKind = Extract<VfioEvent, { readonly errno?: string; readonly reason?: string }>['kind'];

export const Step = numbered(steps);
export const Irq = numbered(irqs);
export const Way = numbered(ways);
export const Reason = numbered(reasons);

/** `{ raised: 0, lowered: 1, … }` */
function numbered<const T extends readonly string[]>(names: T): { readonly [N in T[number]]: number } {
  return Object.fromEntries(names.map((name, number) => [name, number])) as { [N in T[number]]: number };
}

/** The stream, as its sources use it. */
export interface SourceStream {
  cause: number;
  /** Of the last `begin`. */
  readonly timeNs: number;
  readonly hostNs: number;
  readonly ring: EventRing | null;
  /** Called before each record. Null: there is no reader. */
  begin(): EventRing | null;
  /** Write the line of an event that has one. */
  report<K extends EventKind>(source: EventSource, kind: K, details: EventDetails<K>): void;
  forget(source: EventSource): void;
}

/** The longest reason: an error may quote its arguments. */
const REASON_LENGTH = 500;

/** An error as the fields of the request that it refuses. */
export function refusalOf(error: unknown): { readonly errno: string; readonly reason: string } {
  return { errno: errnoOf(error), reason: (error instanceof Error ? error.message : 'it failed').slice(0, REASON_LENGTH) };
}

export class EventSource implements EventPort, Disposable {
  /** Whether there is a reader. While there is none, the methods do nothing. */
  on = false;
  /** Whether a reader wants data. */
  data = false;
  readonly name: string;
  readonly stream: SourceStream;
  readonly #number: number;
  readonly #counts = new Map<string, number>();
  #onSwitch: (() => void) | null = null;
  readonly #watchers = new Set<{ readonly call: () => void }>();

  /** `EventStream.source` makes it. */
  constructor(stream: SourceStream, name: string, number: number) {
    this.stream = stream;
    this.name = name;
    this.#number = number;
  }

  get cause(): number {
    return this.stream.cause;
  }

  set cause(seq: number) {
    this.stream.cause = seq;
  }

  /** Called when `on` or `data` has changed, for parts that take another way then. */
  set onSwitch(call: () => void) {
    this.#onSwitch = call;
  }

  /** For the stream. */
  switched(on: boolean, data: boolean): void {
    if (this.on === on && this.data === data) return;
    const watched = this.on !== on;
    this.on = on;
    this.data = data;
    this.#onSwitch?.();
    if (watched) for (const { call } of [...this.#watchers]) call();
  }

  /** Calls `call` whenever `on` has changed. */
  watch(call: () => void): Disposable {
    const watcher = { call };
    this.#watchers.add(watcher);
    return { [Symbol.dispose]: () => void this.#watchers.delete(watcher) };
  }

  /**
   * Emit an event. A kind that has a line in the log is logged also while there is no reader.
   *
   * @param details the caller does not change it later
   * @returns the event's `seq`; 0 while there is no reader
   */
  emit<K extends EventKind>(kind: K, details: EventDetails<K>): number {
    if (rowOf(kind).level !== null) this.stream.report(this, kind, details);
    if (!this.on) return 0;
    const { stream } = this;
    const ring = stream.begin();
    return ring === null ? 0 : ring.put(stream.timeNs, stream.hostNs, stream.cause, kind, this.#number, details);
  }

  /**
   * Emit a command or a wait, without making an object.
   *
   * @param a `b`, `c`, `d`: the values of the shape's fields, in order
   * @returns the event's `seq`; 0 while there is no reader
   */
  emitShaped(shape: EventShape, latencyNs: number, a = 0, b = 0, c = 0, d = 0): number {
    if (!this.on) return 0;
    const { stream } = this;
    const ring = stream.begin();
    return ring === null ? 0 : ring.shaped(stream.timeNs, stream.hostNs, stream.cause, this.#number, shape, latencyNs, a, b, c, d);
  }

  /** Emit a message without making an object. */
  message(shape: MessageShape, a: number, b: number, c: number, d: number, e: number): number {
    const { stream } = this;
    const ring = stream.begin();
    return ring === null ? 0 : ring.shaped(stream.timeNs, stream.hostNs, stream.cause, this.#number, shape, a, b, c, d, e);
  }

  /** For control paths: hot paths set `cause` themselves. */
  during<T>(seq: number, act: () => T): T {
    const before = this.cause;
    if (seq !== 0) this.cause = seq;
    try {
      return act();
    } finally {
      this.cause = before;
    }
  }

  /** `callback`, to be called later for the event that is being answered now. */
  later<T>(callback: () => T): () => T {
    const { cause } = this;
    return cause === 0 ? callback : () => this.during(cause, callback);
  }

  /**
   * Begin an event whose fields are known when it is over; events that it leads to come after it.
   * `end` or `withdraw` follows in the same turn, whatever happens in between: until then no reader
   * sees this event, or one after it.
   *
   * @returns the event's `seq`; 0 while there is no reader
   */
  begin(kind: EventKind): number {
    if (!this.on) return 0;
    const { stream } = this;
    const ring = stream.begin();
    return ring === null ? 0 : ring.open(stream.timeNs, stream.hostNs, stream.cause, kind, this.#number);
  }

  /** The fields of the event `seq` of `begin`. Its kind has no line in the log. */
  end<K extends EventKind>(seq: number, _kind: K, details: EventDetails<K>): void {
    if (seq !== 0) this.stream.ring?.fill(seq, details);
  }

  /**
   * Run `act`, which the event is about: events that it leads to name it as their cause. When `act`
   * throws, the event has the errno and the message.
   *
   * Call it only while there is a reader: `details` is an object.
   *
   * @param answer  fields that the result of `act` adds
   */
  attempt<K extends RefusedKind, T>(kind: K, details: EventDetails<K>, act: () => T, answer?: (done: T) => Partial<EventDetails<K>>): T {
    const seq = this.begin(kind);
    try {
      const done = this.during(seq, act);
      this.end(seq, kind, answer === undefined ? details : { ...details, ...answer(done) });
      return done;
    } catch (error) {
      this.end(seq, kind, { ...details, ...refusalOf(error) });
      throw error;
    }
  }

  /**
   * The event `seq` of `begin` is none after all.
   *
   * @returns false when others have come since: it has to be ended
   */
  withdraw(seq: number): boolean {
    return seq === 0 || this.stream.ring === null || this.stream.ring.withdraw(seq);
  }

  /**
   * Emit a line for people.
   *
   * @param about notes about one thing are limited in rate together
   */
  note(level: LogLevel, about: string, text: string): void {
    this.emit('note', { level, about, text });
  }

  /** Count one more `what`. @returns how many there were, this one included */
  count(what: string): number {
    const count = (this.#counts.get(what) ?? 0) + 1;
    this.#counts.set(what, count);
    return count;
  }

  /** How many `what` were counted. */
  counted(what: string): number {
    return this.#counts.get(what) ?? 0;
  }

  /**
   * A register access that the device answers. `low` and `high` are the halves of the value: of a
   * read, `read` gives them when it is known.
   *
   * @param memory plain memory, whose values are data
   */
  access(write: boolean, region: number, offset: number, size: number, low: number, high: number, memory: boolean): number {
    const { stream } = this;
    const ring = stream.begin();
    if (ring === null) return 0;
    return ring.access(stream.timeNs, stream.hostNs, stream.cause, this.#number, write, region, offset, size, low, high, memory, !write);
  }

  /** The value that the read `seq` of `access` gave. Every read that was begun needs it. */
  read(seq: number, low: number, high: number): void {
    this.stream.ring?.close(seq, low, high);
  }

  /**
   * A DMA that landed, at byte `byte` of page `page` of 4 KiB.
   *
   * @param way  of `Way`   @param bytes  what was copied: kept while `data`
   */
  dma(write: boolean, page: number, byte: number, size: number, way: number, bytes: Uint8Array | null): number {
    const { stream } = this;
    const ring = stream.begin();
    if (ring === null) return 0;
    return ring.dma(stream.timeNs, stream.hostNs, stream.cause, this.#number, write, page, byte, size, way, this.data ? bytes : null);
  }

  /** @param step  of `Step`   @param irq  of `Irq`   @param reason  of `Reason`; 0: none */
  interrupt(step: number, irq: number, vector: number, reason = 0): number {
    const { stream } = this;
    const ring = stream.begin();
    return ring === null ? 0 : ring.interrupt(stream.timeNs, stream.hostNs, stream.cause, this.#number, step, irq, vector, reason);
  }

  /** The device is gone. */
  [Symbol.dispose](): void {
    this.stream.forget(this);
  }
}
