/**
 * The controller's interrupts (NVMe 1.4, 7.5): one vector for each completion queue that wants one,
 * coalesced as the host asks, or the pin, which is a level.
 */
import type { DeviceHost } from '../../abi/device-host.ts';
import type { CompletionQueue } from './completion-queue.ts';

/** Aggregation Time is in units of 100 µs (5.21.1.8). */
const TIME_UNIT_MS = 0.1;

export class Interrupts {
  /** INTMS/INTMC: vectors that are masked; MSI-X does not look at it. */
  mask = 0;
  /** Interrupt Coalescing (5.21.1.8): THR, zero-based, and TIME. */
  threshold = 0;
  time = 0;
  /** Interrupt Vector Configuration (5.21.1.9), CD: 1 where coalescing is disabled. */
  readonly uncoalesced: Uint8Array;
  readonly #host: DeviceHost;
  readonly #queues: readonly (CompletionQueue | null)[];
  /** Completions not reported yet, by vector, and the timer that will. */
  readonly #held: Uint32Array;
  readonly #timers: (Disposable | null)[];
  /** When each of the timers fires; while all stands still: in how long. */
  readonly #due: Float64Array;
  /** Vectors to be sent when it goes on: 1 each. */
  readonly #unsent: Uint8Array;
  #paused = false;
  #level = false;

  /** @param vectors  that MSI-X has   @param queues  by id */
  constructor(host: DeviceHost, vectors: number, queues: readonly (CompletionQueue | null)[]) {
    this.#host = host;
    this.#queues = queues;
    this.uncoalesced = new Uint8Array(vectors);
    this.#held = new Uint32Array(vectors);
    this.#timers = new Array(vectors).fill(null);
    this.#due = new Float64Array(vectors);
    this.#unsent = new Uint8Array(vectors);
  }

  /** Whether completion queue heads matter at once: the pin falls when all is consumed. */
  get level(): boolean {
    return this.#host.irq.mode !== 'msix';
  }

  /** Whether a queue may use `vector` now (5.3, Invalid Interrupt Vector). */
  takes(vector: number): boolean {
    const { mode, vectors } = this.#host.irq;
    return vector < (mode === 'msi' ? vectors : this.uncoalesced.length);
  }

  /** Completions were posted to `cq`, `cq.fresh` of them. */
  posted(cq: CompletionQueue): void {
    const count = cq.fresh;
    cq.fresh = 0;
    if (!cq.interrupts) return;
    const { irq } = this.#host;
    const { mode } = irq;
    if (mode === 'intx') {
      this.updateLevel();
      return;
    }
    const vector = mode === 'msi' && cq.vector >= irq.vectors ? 0 : cq.vector;
    // The controller never coalesces interrupts of the admin queue.
    if (cq.id !== 0 && this.time !== 0 && this.threshold !== 0 && this.uncoalesced[vector] === 0) this.#coalesce(vector, count);
    else this.#send(vector);
  }

  /** The host consumed entries. */
  consumed(): void {
    if (this.#level) this.updateLevel();
  }

  /** INTMS: set bits (3.1.3). */
  setMask(bits: number): void {
    this.mask = (this.mask | bits) >>> 0;
    if (this.#host.irq.mode === 'intx') this.updateLevel();
  }

  /** INTMC: clear bits (3.1.4). Completions that were held back are reported now. */
  clearMask(bits: number): void {
    const cleared = (this.mask & bits) >>> 0;
    this.mask = (this.mask & ~bits) >>> 0;
    const { mode, vectors } = this.#host.irq;
    if (mode === 'intx') this.updateLevel();
    else if (mode === 'msi') {
      for (let vector = 0; vector < vectors; vector++)
        if (((cleared >>> vector) & 1) !== 0 && this.#unacknowledged(vector)) this.#send(vector);
    }
  }

  /** Work out the pin's level: also when the mode may have changed. */
  updateLevel(): void {
    const level = this.#host.irq.mode === 'intx' && (this.mask & 1) === 0 && this.#unacknowledged(-1);
    // While the controller is stopped, the pin may fall; it rises at the restart.
    if (level === this.#level || (level && this.#paused)) return;
    this.#level = level;
    if (level) this.#host.irq.raise();
    else this.#host.irq.lower();
  }

  /** A queue is gone, or coalescing changed: nothing is held back any more. */
  flush(): void {
    for (let vector = 0; vector < this.#held.length; vector++) if (this.#held[vector]! > 0) this.#fire(vector);
  }

  /** No completion is reported from here on: held back and new ones wait until it continues. */
  pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    const now = this.#host.clock.nowNs();
    for (let vector = 0; vector < this.#held.length; vector++) {
      this.#timers[vector]?.[Symbol.dispose]();
      this.#timers[vector] = null;
      this.#due[vector] = Math.max(0, this.#due[vector]! - now);
    }
  }

  goOn(): void {
    this.#paused = false;
    for (let vector = 0; vector < this.#held.length; vector++) {
      if (this.#held[vector]! > 0) this.#arm(vector, this.#due[vector]!);
      if (this.#unsent[vector] === 0) continue;
      this.#unsent[vector] = 0;
      this.#send(vector);
    }
    // Set the pin again: the controller may have moved here from another server.
    this.#level = this.#host.irq.mode === 'intx' && (this.mask & 1) === 0 && this.#unacknowledged(-1);
    if (this.#level) this.#host.irq.raise();
    else this.#host.irq.lower();
  }

  /**
   * State of a stopped controller for each vector: coalesced completions, nanoseconds until their
   * interrupt, and 1 where an interrupt is due.
   */
  get standing(): { readonly held: Uint32Array; readonly leftNs: Float64Array; readonly unsent: Uint8Array } {
    return { held: this.#held, leftNs: this.#due, unsent: this.#unsent };
  }

  /** Everything as after power on. */
  reset(): void {
    this.mask = 0;
    this.threshold = 0;
    this.time = 0;
    this.uncoalesced.fill(0);
    this.silence();
  }

  /** Nothing leaves: the pin is quiet, timers are gone. */
  silence(): void {
    for (let vector = 0; vector < this.#held.length; vector++) {
      this.#held[vector] = 0;
      this.#timers[vector]?.[Symbol.dispose]();
      this.#timers[vector] = null;
      this.#unsent[vector] = 0;
    }
    this.#level = false;
    this.#host.irq.lower();
  }

  /** THR completions or TIME, whichever comes first. */
  #coalesce(vector: number, count: number): void {
    this.#held[vector]! += count;
    if (this.#held[vector]! > this.threshold) this.#fire(vector);
    else if (this.#timers[vector] === null) this.#arm(vector, this.time * TIME_UNIT_MS * 1e6);
  }

  #arm(vector: number, leftNs: number): void {
    const { clock } = this.#host;
    this.#due[vector] = clock.nowNs() + leftNs;
    this.#timers[vector] = clock.after(leftNs / 1e6, () => this.#fire(vector));
  }

  #fire(vector: number): void {
    this.#timers[vector]?.[Symbol.dispose]();
    this.#timers[vector] = null;
    this.#held[vector] = 0;
    this.#send(vector);
  }

  #send(vector: number): void {
    if (this.#paused) {
      this.#unsent[vector] = 1;
      return;
    }
    const { irq } = this.#host;
    if (irq.mode === 'msi' && vector < 32 && ((this.mask >>> vector) & 1) !== 0) return;
    irq.trigger(vector);
  }

  /** Does a queue of `vector` (-1: any) have entries that the host has not consumed? */
  #unacknowledged(vector: number): boolean {
    for (const cq of this.#queues) {
      if (cq?.interrupts && cq.head !== cq.tail && (vector < 0 || cq.vector === vector)) return true;
    }
    return false;
  }
}
