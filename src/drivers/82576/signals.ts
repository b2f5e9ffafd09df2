/**
 * How a driver notices work: MSI-X, MSI, INTx, or polling. A vector is masked by the card when it
 * fires, and the driver unmasks it when work is awaited: so frames that come fast cost one
 * interrupt, and frames that are not awaited cost none.
 */
import { VfioError } from '../../base/errno.ts';
import type { DriverDevice } from '../kit/driver-device.ts';
import type { Interrupts } from '../kit/interrupts.ts';

/** A way to notice work. */
export type SignalKind = 'msix' | 'msi' | 'intx' | 'poll';

/**
 * Rounds in a row before the event loop gets its turn: a card in this process answers at once, so
 * without the limit two ports would keep timers and sockets waiting for ever.
 */
const ROUNDS_MAX = 64;

/** The port's side of interrupts. */
export interface SignalPort {
  /** Vectors that the port's queue pairs want: the last one is for all else. */
  readonly vectorsWanted: number;
  /** Unmasks a vector. */
  arm(kind: SignalKind, vector: number): void;
  /** Without MSI-X: reads the causes, which clears and masks them. */
  acknowledge(): void;
  /** Does the work that is there. @param vector -1: of all of them */
  serve(vector: number): void;
  /** Whether more work of `vector` is awaited. @param vector as `serve` */
  awaited(vector: number): boolean;
}

export class Signals implements Disposable {
  readonly kind: SignalKind;
  /** Vectors in use. */
  readonly vectors: number;
  readonly #dev: DriverDevice;
  readonly #port: SignalPort;
  readonly #irq: Interrupts | null;
  readonly #scheduled: boolean[];
  readonly #runs: (() => void)[];
  #rounds = 0;
  #disposed = false;

  private constructor(dev: DriverDevice, port: SignalPort, kind: SignalKind, irq: Interrupts | null) {
    this.#dev = dev;
    this.#port = port;
    this.kind = kind;
    this.#irq = irq;
    this.vectors = irq?.count ?? 1;
    this.#scheduled = Array.from({ length: this.vectors }, () => false);
    this.#runs = this.#scheduled.map((_, vector) => () => this.#run(vector));
    for (let vector = 0; vector < this.vectors; vector++) irq?.listen(vector, () => this.schedule(vector));
  }

  /**
   * @param wanted the kind. Default: the best that the device has.
   * @throws VfioError ENOSPC when the device does not have the kind that is wanted
   */
  static enable(dev: DriverDevice, wanted: SignalKind | undefined, port: SignalPort): Signals {
    if (wanted === 'poll') return new Signals(dev, port, 'poll', null);
    const kinds = wanted === undefined ? (['msix', 'msi', 'intx'] as const) : ([wanted] as const);
    for (const kind of kinds) {
      const has = dev[kind].count;
      if (has === 0 && wanted === undefined) continue;
      const irq = enableMost(dev, kind, kind === 'msix' ? Math.max(1, Math.min(has, port.vectorsWanted)) : 1, wanted !== undefined);
      if (irq !== null) return new Signals(dev, port, kind, irq);
    }
    return new Signals(dev, port, 'poll', null);
  }

  /** The vector of a queue pair: the last vector has all else, and queues share the others. */
  vectorOf(queue: number): number {
    return this.vectors === 1 ? 0 : queue % (this.vectors - 1);
  }

  /** The vector of link, mailbox and the like. */
  get other(): number {
    return this.vectors - 1;
  }

  /** Work of `vector` is awaited: it is looked for soon, and then at each interrupt. */
  schedule(vector: number): void {
    if (this.#scheduled[vector] || this.#disposed) return;
    this.#scheduled[vector] = true;
    if (++this.#rounds < ROUNDS_MAX) queueMicrotask(this.#runs[vector]!);
    else this.#nextTurn(vector);
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#irq?.[Symbol.dispose]();
  }

  #nextTurn(vector: number): void {
    this.#rounds = 0;
    setImmediate(this.#runs[vector]!);
  }

  #run(vector: number): void {
    this.#scheduled[vector] = false;
    if (this.#disposed) return;
    if (this.#dev.asleep) {
      // No register answers now.
      void this.#dev.awake().then(() => this.schedule(vector));
      return;
    }
    try {
      this.#look(vector);
    } catch (error) {
      // The device is gone or closed. Waiting callers get the error from elsewhere.
      if (!(error instanceof VfioError)) throw error;
    }
  }

  #look(vector: number): void {
    const port = this.#port;
    switch (this.kind) {
      case 'msix':
        port.serve(vector);
        if (!port.awaited(vector)) return;
        port.arm('msix', vector);
        // Work that came before the vector was armed.
        port.serve(vector);
        return;
      case 'poll':
        port.serve(-1);
        if (!port.awaited(-1) || this.#scheduled[0] === true) return;
        this.#scheduled[0] = true;
        this.#nextTurn(0);
        return;
      default:
        port.acknowledge();
        port.serve(-1);
        port.arm(this.kind, 0);
        port.serve(-1);
        if (this.kind === 'intx') this.#irq!.unmask();
    }
  }
}

/** Enable as many vectors as the host gives. @throws VfioError when `must` and there are none */
function enableMost(dev: DriverDevice, kind: 'msix' | 'msi' | 'intx', most: number, must: boolean): Interrupts | null {
  for (let count = most; ; count = Math.floor(count / 2)) {
    try {
      return dev[kind].enable(count);
    } catch (error) {
      if (!(error instanceof VfioError) || error.code === 'ENODEV') throw error;
      if (count > 1) continue;
      if (must) throw error;
      return null;
    }
  }
}
