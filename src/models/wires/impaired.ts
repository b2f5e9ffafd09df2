/** A wire that loses, delays, swaps and doubles frames, around another one. */
import { Loss, WIRE_SLACK, type Wire, type WireCounters, type WireEnd, type WirePort } from '../../abi/wire.ts';
import { countersAround, WireTally } from '../../abi/wire-tally.ts';
import type { Clock } from '../../base/clock.ts';
import { VfioError } from '../../base/errno.ts';
import { type Impairments, Lane } from './lane.ts';
import { randomFrom } from './random.ts';

/** Bytes that wait in each direction before the wire is not ready. */
const QUEUE_BYTES = 2 ** 20;

/**
 * `inner` with impairments in both directions, on `clock`. The wire takes `inner` over. The same
 * seed and the same frames at the same times give the same result.
 *
 * @throws VfioError EINVAL for a probability that is not from 0 to 1, or a time or rate below 0
 */
export function impaired(inner: Wire, what: Impairments, clock: Clock): Wire {
  for (const name of ['loss', 'duplicate', 'reorder'] as const) {
    const chance = what[name] ?? 0;
    if (!(chance >= 0 && chance <= 1)) throw new VfioError('EINVAL', `${name} is ${chance}; a probability is from 0 to 1`);
  }
  for (const name of ['delayMs', 'jitterMs', 'rate'] as const) {
    const value = what[name] ?? 0;
    if (!(value >= 0 && value < Number.POSITIVE_INFINITY)) throw new VfioError('EINVAL', `${name} is ${value}; it cannot be negative`);
  }
  return new ImpairedWire(inner, what, clock);
}

class ImpairedWire implements Wire {
  readonly name: string;
  readonly #inner: Wire;
  readonly #what: Impairments;
  readonly #clock: Clock;
  readonly #tally = new WireTally();
  #end: ImpairedEnd | null = null;

  constructor(inner: Wire, what: Impairments, clock: Clock) {
    this.name = inner.name;
    this.#inner = inner;
    this.#what = what;
    this.#clock = clock;
  }

  get counters(): WireCounters {
    return countersAround(this.#tally, this.#inner.counters);
  }

  plug(port: WirePort): WireEnd {
    this.#end = new ImpairedEnd(port, this.#inner, this.#what, this.#clock, this.#tally);
    return this.#end;
  }

  [Symbol.dispose](): void {
    this.#end?.[Symbol.dispose]();
    this.#inner[Symbol.dispose]();
  }
}

class ImpairedEnd implements WireEnd {
  readonly #inner: WireEnd;
  readonly #tally: WireTally;
  readonly #out: Lane;
  readonly #in: Lane;
  #ended = false;

  constructor(port: WirePort, wire: Wire, what: Impairments, clock: Clock, tally: WireTally) {
    const [seed, end] = [what.seed ?? 1, this];
    const shared = {
      copied: () => void tally.copied++,
      holds: (frames: number) => {
        tally.waiting += frames;
      },
    };
    this.#tally = tally;
    this.#out = new Lane(
      what,
      randomFrom(seed),
      clock,
      {
        ...shared,
        get open() {
          return end.#inner.ready;
        },
        leave: (bytes, offset, length) => end.#inner.send(bytes, offset, length),
        lost: (reason) => tally.lose(reason),
        roomAgain: () => port.readyAgain(),
      },
      QUEUE_BYTES,
      WIRE_SLACK,
    );
    this.#in = new Lane(
      what,
      randomFrom(seed ^ 0x5bd1_e995),
      clock,
      {
        ...shared,
        open: true,
        leave: (bytes, offset, length) => {
          tally.countReceived(length);
          port.receive(bytes, offset, length);
        },
        lost: (reason) => tally.miss(reason),
        roomAgain: () => {},
      },
      QUEUE_BYTES,
      WIRE_SLACK,
    );
    this.#inner = wire.plug({
      receive: (bytes, offset, length) => this.#in.enter(bytes, offset, length),
      carrierChanged: () => port.carrierChanged(),
      readyAgain: () => {
        this.#out.flow();
        if (this.ready) port.readyAgain();
      },
    });
  }

  get up(): boolean {
    return this.#inner.up;
  }

  get ready(): boolean {
    return this.#out.ready && this.#inner.ready;
  }

  send(bytes: Uint8Array, offset: number, length: number): void {
    this.#tally.countSent(length);
    // A frame that nothing carries is not delayed first.
    if (this.#ended || !this.#inner.up) this.#tally.lose(Loss.NO_CARRIER);
    else this.#out.enter(bytes, offset, length);
  }

  setLink(on: boolean): void {
    this.#inner.setLink(on);
  }

  [Symbol.dispose](): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#out.end();
    this.#in.end();
    this.#inner[Symbol.dispose]();
  }
}
