/** The choice of events on the command line of `vfio events`. */
import type { EventKind, VfioEvent } from '../../abi/event.ts';

export interface FilterOptions {
  readonly kinds?: readonly EventKind[];
  readonly devices?: readonly string[];
  /** Nanoseconds since the first event. */
  readonly from?: number;
  readonly to?: number;
  /** The number of an event: that event, and those that it led to. */
  readonly cause?: number;
}

/** Events back that a cause is looked for: memory does not grow. A power of two. */
const REACH = 2 ** 20;
/** Names of devices that are kept for an error. */
const NAMES = 20;

/** Asked about each event, in order. */
export class EventFilter {
  readonly #kinds: ReadonlySet<EventKind> | null;
  readonly #devices: ReadonlySet<string> | null;
  readonly #from: number;
  readonly #to: number;
  readonly #root: number | null;
  /** Numbers of events that the root led to, each at its number modulo REACH. */
  readonly #led: Float64Array;
  readonly #seen = new Set<string>();
  #took = false;
  #beganNs: number | null = null;

  constructor({ kinds, devices, from = 0, to = Number.POSITIVE_INFINITY, cause }: FilterOptions) {
    this.#kinds = kinds === undefined ? null : new Set(kinds);
    this.#devices = devices === undefined ? null : new Set(devices);
    this.#from = from;
    this.#to = to;
    this.#root = cause ?? null;
    this.#led = new Float64Array(cause === undefined ? 0 : REACH);
  }

  /** The time of the first event. */
  get beganNs(): number {
    return this.#beganNs ?? 0;
  }

  /** There were events, and the options chose none of them. */
  get choseNone(): boolean {
    return this.#seen.size > 0 && !this.#took;
  }

  /** Names of devices that have events, whatever the options say. */
  get devices(): readonly string[] {
    return [...this.#seen];
  }

  takes(event: VfioEvent): boolean {
    this.#beganNs ??= event.timeNs;
    if (this.#seen.size < NAMES) this.#seen.add(event.device);
    const takes = this.#takes(event, this.#beganNs);
    this.#took ||= takes;
    return takes;
  }

  #takes(event: VfioEvent, beganNs: number): boolean {
    if (this.#root !== null && !this.#isLed(this.#root, event)) return false;
    // A gap matters whatever is asked for.
    if (event.kind === 'dropped') return true;
    const at = event.timeNs - beganNs;
    if (at < this.#from || at > this.#to) return false;
    return (this.#kinds?.has(event.kind) ?? true) && (this.#devices?.has(event.device) ?? true);
  }

  #isLed(root: number, { seq, cause }: VfioEvent): boolean {
    const led = seq === root || (cause > 0 && this.#led[cause & (REACH - 1)] === cause);
    if (led) this.#led[seq & (REACH - 1)] = seq;
    return led;
  }
}
