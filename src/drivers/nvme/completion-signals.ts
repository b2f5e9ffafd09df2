/**
 * How the driver notices completions: MSI-X, MSI, INTx, or polling. With each kind the driver polls
 * queues soon after a signal, never within it.
 */
import { VfioError } from '../../base/errno.ts';
import type { DriverDevice } from '../kit/driver-device.ts';
import type { Interrupts } from '../kit/interrupts.ts';
import type { QueuePair } from './queue-pair.ts';

export type SignalKind = 'msix' | 'msi' | 'intx' | 'poll';

/**
 * Polls in a row before the event loop gets its turn. A controller in this process answers at once,
 * so without the limit the driver's next command would keep timers and sockets waiting for ever.
 */
const ROUNDS_MAX = 64;

/** While no command is in flight, the driver still polls for asynchronous events. */
const IDLE_LOOK_MS = 1000;

/** Bit 0 of INTMS and INTMC: the one vector that INTx is (NVMe 1.4, 3.1.3). */
export interface InterruptMask {
  mask(): void;
  unmask(): void;
}

export class CompletionSignals implements Disposable {
  readonly kind: SignalKind;
  /** Vectors in use. Queues share them when there are more queues. */
  readonly vectors: number;
  readonly #dev: DriverDevice;
  readonly #irq: Interrupts | null;
  readonly #pin: InterruptMask;
  readonly #queues: QueuePair[][];
  readonly #all: QueuePair[] = [];
  readonly #scheduled: boolean[];
  readonly #runs: (() => void)[];
  /** By vector: the event of the newest interrupt; 0: none is known. */
  readonly #causes: Float64Array;
  #rounds = 0;
  #idleLook: Disposable | null = null;
  #disposed = false;

  private constructor(dev: DriverDevice, kind: SignalKind, irq: Interrupts | null, pin: InterruptMask) {
    this.#dev = dev;
    this.kind = kind;
    this.#irq = irq;
    this.#pin = pin;
    this.vectors = irq?.count ?? 1;
    this.#queues = Array.from({ length: this.vectors }, () => []);
    this.#scheduled = this.#queues.map(() => false);
    this.#causes = new Float64Array(this.vectors);
    this.#runs = this.#queues.map((_, vector) => () => this.#run(vector));
    for (let vector = 0; vector < this.vectors; vector++) irq?.listen(vector, () => this.#signalled(vector));
    if (kind === 'poll') this.#lookWhileIdle();
  }

  /**
   * @param wanted the kind. Default: the best that the device has.
   * @param queues I/O queues, each with a vector of its own if there are as many
   * @throws VfioError ENOSPC when the device does not have the kind that is wanted
   */
  static enable(dev: DriverDevice, wanted: SignalKind | undefined, queues: number, pin: InterruptMask): CompletionSignals {
    if (wanted === 'poll') return new CompletionSignals(dev, 'poll', null, pin);
    const kinds = wanted === undefined ? (['msix', 'msi', 'intx'] as const) : ([wanted] as const);
    for (const kind of kinds) {
      const has = dev[kind].count;
      if (has === 0 && wanted === undefined) continue;
      const irq = enableMost(dev, kind, kind === 'intx' ? 1 : Math.max(1, Math.min(has, queues + 1)), wanted !== undefined);
      if (irq !== null) return new CompletionSignals(dev, kind, irq, pin);
    }
    return new CompletionSignals(dev, 'poll', null, pin);
  }

  /**
   * The vector of queue `id`: the admin queue has the first one, and shares it only when there is
   * no other.
   */
  vectorOf(id: number): number {
    return id === 0 || this.vectors === 1 ? 0 : 1 + ((id - 1) % (this.vectors - 1));
  }

  attach(queue: QueuePair): void {
    this.#queues[this.vectorOf(queue.id)]!.push(queue);
    this.#all.push(queue);
  }

  detach(queue: QueuePair): void {
    const queues = this.#queues[this.vectorOf(queue.id)]!;
    for (const list of [queues, this.#all]) if (list.includes(queue)) list.splice(list.indexOf(queue), 1);
  }

  /** A doorbell was rung. Without interrupts, polling starts here. */
  rung(): void {
    if (this.kind === 'poll') this.#schedule(0);
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#idleLook?.[Symbol.dispose]();
    this.#irq?.[Symbol.dispose]();
  }

  #signalled(vector: number): void {
    const { waits } = this.#dev;
    if (waits.on) this.#causes[vector] = waits.cause;
    this.#schedule(vector);
  }

  #schedule(vector: number): void {
    if (this.#scheduled[vector]) return;
    this.#scheduled[vector] = true;
    if (++this.#rounds < ROUNDS_MAX) queueMicrotask(this.#runs[vector]!);
    else this.#nextTurn(vector);
  }

  #nextTurn(vector: number): void {
    this.#rounds = 0;
    setImmediate(this.#runs[vector]!);
  }

  #run(vector: number): void {
    this.#scheduled[vector] = false;
    if (this.#disposed) return;
    switch (this.kind) {
      case 'intx':
        this.#runPin();
        break;
      case 'poll':
        this.#look();
        break;
      default:
        for (const queue of this.#queues[vector]!) this.#poll(queue, vector);
    }
  }

  #poll(queue: QueuePair, vector: number): void {
    queue.waits.cause = this.#causes[vector]!;
    queue.poll();
    queue.waits.cause = 0;
  }

  /**
   * INTx is level-triggered. The driver masks the controller, takes all completions and unmasks it,
   * so that it asserts the line again if more have come. Only then the driver unmasks the line.
   */
  #runPin(): void {
    if (this.#dev.asleep) {
      // No register answers now. Without this code the line would stay masked.
      void this.#dev.awake().then(() => this.#schedule(0));
      return;
    }
    try {
      this.#pin.mask();
      for (const queue of this.#all) this.#poll(queue, 0);
      this.#pin.unmask();
      this.#irq!.unmask();
    } catch (error) {
      // The device is gone or closed. Waiting callers get the error from elsewhere.
      if (!(error instanceof VfioError)) throw error;
    }
  }

  #look(): void {
    let waiting = false;
    for (const queue of this.#all) {
      queue.poll();
      waiting ||= queue.awaited;
    }
    if (!waiting || this.#scheduled[0]) return;
    this.#scheduled[0] = true;
    this.#nextTurn(0);
  }

  #lookWhileIdle(): void {
    this.#idleLook = this.#dev.clock.after(IDLE_LOOK_MS, () => {
      this.#look();
      if (!this.#disposed) this.#lookWhileIdle();
    });
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
