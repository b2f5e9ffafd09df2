/**
 * A reader of a stream: a position in the ring, and a filter. Its memory does not grow with its
 * delay.
 */
import type { EventFlow, EventOptions, VfioEvent } from '../abi/event.ts';
import { flag, keys, listOf, text } from '../base/declared.ts';
import { kindNames, kindNumber } from './kinds.ts';
import type { EventRing } from './ring.ts';

/** Events that a loop gets at once: each is an object. */
const BATCH = 256;

/** Checks of `EventOptions`, as JavaScript may give them: a misspelt one would give every event. */
export const eventChecks = { kinds: listOf((kind) => void kindNumber(kind as string)), devices: listOf(text), data: flag };
const checkOptions = keys(eventChecks);

/** The stream, as its readers use it. */
export interface ReadStream {
  /** Call `wake` once there are events. `anew`: after a call that came too early. */
  wait(anew: boolean): void;
  left(reader: EventReader): void;
}

export class EventReader<out E extends VfioEvent = VfioEvent> implements EventFlow<E> {
  /** Called in the middle of a turn when it may lose events; see `EventStream.read`. */
  readonly onPressure: (() => void) | undefined;
  readonly wantsData: boolean;
  readonly #stream: ReadStream;
  /** By number of the kind: 1 where it is wanted. */
  readonly #kinds: Uint8Array;
  readonly #devices: ReadonlySet<string> | null;
  #ring: EventRing | null = null;
  /** The stream has ended: what is in the ring is the rest. */
  #ended = false;
  /** The last record that it has seen. */
  #position = 0;
  #wake: (() => void) | null = null;

  /** For the stream. @throws VfioError EINVAL for options or kinds that do not exist */
  constructor(stream: ReadStream, options: EventOptions, onPressure?: () => void) {
    checkOptions(options, 'events()');
    const { kinds, devices, data = false } = options;
    this.#stream = stream;
    this.wantsData = data;
    this.onPressure = onPressure;
    this.#kinds = new Uint8Array(kindNames.length).fill(kinds === undefined ? 1 : 0);
    for (const kind of kinds ?? []) this.#kinds[kindNumber(kind)] = 1;
    this.#devices = devices === undefined ? null : new Set(devices);
  }

  /** For the stream. */
  start(ring: EventRing): void {
    this.#ring = ring;
    this.#position = ring.seq;
  }

  /** The number of the last record that it has passed. */
  get position(): number {
    return this.#position;
  }

  /** Whether there are records that it has not passed. */
  get ready(): boolean {
    return this.#ring !== null && this.#ring.settled > this.#position;
  }

  take(max = Number.POSITIVE_INFINITY): E[] {
    const ring = this.#ring;
    const events: VfioEvent[] = [];
    if (ring === null || max <= 0) return [];
    const { oldest, settled } = ring;
    if (this.#position < oldest - 1) {
      const count = oldest - 1 - this.#position;
      this.#position = oldest - 1;
      const { timeNs, hostNs } = ring.decode(oldest, false);
      events.push({ kind: 'dropped', seq: oldest - 1, timeNs, hostNs, device: 'machine', cause: 0, count });
    }
    while (this.#position < settled && events.length < max) {
      const seq = ++this.#position;
      if (this.#kinds[ring.kindAt(seq)] !== 1) continue;
      if (this.#devices !== null && !this.#devices.has(ring.deviceAt(seq))) continue;
      events.push(ring.decode(seq, this.wantsData));
    }
    // Others are passed over.
    return events as E[];
  }

  /** For the stream: there may be events. */
  wake(): void {
    if (this.#ring !== null && !this.ready && !this.#ended) {
      // Another reader's event, or a read that is under way.
      if (this.#wake !== null) this.#stream.wait(true);
      return;
    }
    const wake = this.#wake;
    this.#wake = null;
    wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<E, void, void> {
    try {
      while (this.#ring !== null) {
        const events = this.take(BATCH);
        if (events.length > 0) yield* events;
        else if (this.#ended) return;
        else if (!this.ready) await this.next();
      }
    } finally {
      this[Symbol.dispose]();
    }
  }

  /** Settles when there may be events, or the reader is disposed. */
  next(): Promise<void> {
    if (this.#ring === null || this.ready || this.#ended) return Promise.resolve();
    return new Promise((resolve) => {
      const before = this.#wake;
      this.#wake = () => {
        before?.();
        resolve();
      };
      this.#stream.wait(false);
    });
  }

  /** For the stream: no more events come. The events that are there can still be read. */
  end(): void {
    if (this.#ended || this.#ring === null) return;
    this.#ended = true;
    this.#stream.left(this);
    this.wake();
  }

  [Symbol.dispose](): void {
    if (this.#ring === null) return;
    this.#ring = null;
    this.wake();
    if (!this.#ended) this.#stream.left(this);
  }
}
