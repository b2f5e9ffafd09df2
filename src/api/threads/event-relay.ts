/**
 * Events of threads in the stream of the thread that started them, in the order of the host's
 * clock. A thread sends batches, each with the time up to which it has sent everything; the
 * receiver holds events back until every thread has got there.
 */
import type { VfioEvent } from '../../abi/event.ts';
import { SystemClock } from '../../base/clock.ts';
import type { EventReader } from '../../events/reader.ts';
import type { EventStream } from '../../events/stream.ts';

/** How long events may wait in a thread, in milliseconds. */
const PERIOD_MS = 5;
/** The most events of a batch. */
const BATCH = 4096;
/** Batches on the way: when there are more, the thread keeps its events, and at last loses some. */
const BATCHES_MAX = 64;
/** A thread that has sent nothing for so long is not waited for. */
const PATIENCE_NS = 500e6;

export interface EventBatch {
  readonly events: readonly VfioEvent[];
  /** All events up to this `hostNs` have been sent. */
  readonly upTo: number;
}

const clock = new SystemClock();

/** The sending end. */
export class EventSender implements Disposable {
  readonly #reader: EventReader;
  readonly #send: (batch: EventBatch) => void;
  /** How many batches the receiver has taken. */
  readonly #taken: Int32Array;
  readonly #timer: NodeJS.Timeout;
  #sent: number;

  /** @param taken shared with the receiver */
  constructor(stream: EventStream, data: boolean, taken: Int32Array, send: (batch: EventBatch) => void) {
    this.#send = send;
    this.#taken = taken;
    this.#sent = Atomics.load(taken, 0);
    this.#reader = stream.read({ data }, () => this.#flush());
    this.#timer = setInterval(() => this.#flush(), PERIOD_MS);
    this.#timer.unref();
  }

  #flush(): void {
    for (;;) {
      if (this.#sent - Atomics.load(this.#taken, 0) >= BATCHES_MAX) return;
      const upTo = clock.nowNs();
      const events = this.#reader.take(BATCH);
      const more = events.length === BATCH;
      this.#sent++;
      this.#send({ events, upTo: more ? events.at(-1)!.hostNs : upTo });
      if (!more) return;
    }
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#flush();
    this.#reader[Symbol.dispose]();
  }
}

/** Numbers of a thread's events that a later event may name as its cause. */
const CAUSES = 65_536;

/** One thread, as the receiver sees it. */
interface Origin {
  readonly taken: Int32Array;
  readonly waiting: VfioEvent[];
  upTo: number;
  /** By `seq` of the thread, as far as it goes: the `seq` there, and here. */
  readonly theirs: Float64Array;
  readonly ours: Float64Array;
}

/** The receiving end, of all threads. */
export class EventMerger implements Disposable {
  readonly #stream: EventStream;
  readonly #origins = new Map<number, Origin>();
  readonly #timer: NodeJS.Timeout;

  constructor(stream: EventStream) {
    this.#stream = stream;
    this.#timer = setInterval(() => this.#merge(), PATIENCE_NS / 1e6);
    this.#timer.unref();
  }

  /** A thread begins to send. @param taken shared with it */
  add(thread: number, taken: Int32Array): void {
    const numbers = () => new Float64Array(CAUSES);
    this.#origins.set(thread, { taken, waiting: [], upTo: clock.nowNs(), theirs: numbers(), ours: numbers() });
  }

  receive(thread: number, { events, upTo }: EventBatch): void {
    const origin = this.#origins.get(thread);
    if (origin === undefined) return;
    Atomics.add(origin.taken, 0, 1);
    for (const event of events) origin.waiting.push(event);
    origin.upTo = upTo;
    this.#merge();
  }

  /** A thread has ended: nothing more comes from it. */
  remove(thread: number): void {
    const origin = this.#origins.get(thread);
    if (origin !== undefined) origin.upTo = Number.POSITIVE_INFINITY;
    this.#merge();
    this.#origins.delete(thread);
  }

  #merge(): void {
    const late = clock.nowNs() - PATIENCE_NS;
    let upTo = Number.POSITIVE_INFINITY;
    for (const origin of this.#origins.values()) if (origin.upTo > late) upTo = Math.min(upTo, origin.upTo);
    const due: { readonly event: VfioEvent; readonly origin: Origin }[] = [];
    for (const origin of this.#origins.values()) {
      let count = 0;
      while (count < origin.waiting.length && origin.waiting[count]!.hostNs <= upTo) count++;
      for (const event of origin.waiting.splice(0, count)) due.push({ event, origin });
    }
    // The sort is stable: events of one thread stay in their order.
    due.sort((a, b) => a.event.hostNs - b.event.hostNs);
    for (const { event, origin } of due) this.#put(event, origin);
  }

  #put(event: VfioEvent, { theirs, ours }: Origin): void {
    const before = event.cause % CAUSES;
    const cause = event.cause !== 0 && theirs[before] === event.cause ? ours[before]! : 0;
    const at = event.seq % CAUSES;
    ours[at] = this.#stream.relay(event, cause);
    theirs[at] = event.seq;
  }

  /** Events that have come are put in. */
  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    for (const thread of [...this.#origins.keys()]) this.remove(thread);
  }
}
