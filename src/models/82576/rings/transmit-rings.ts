/**
 * The transmit queues together: which has its turn, and when the port takes none (7.2.1). Queues
 * share the port by turns of a few packets, and one doorbell holds the thread for a bounded time:
 * the rest has its turn later.
 */
import { Dtxctl, Icr, ofQueue, Reg, Tctl, Xdctl } from '../../../abi/82576.ts';
import type { Clock } from '../../../base/clock.ts';
import {
  type CardPart,
  type CardPort,
  type InterruptPort,
  PF,
  POOLS,
  QUEUES,
  type ResetKind,
  type StatisticsPort,
  type TransmitPort,
} from '../parts.ts';
import type { RegisterSpace } from '../register-space.ts';
import type { QueueEvents } from './queue-events.ts';
import { fieldsOf, listOf, transmitStateOf, wholeOf } from './saved-state.ts';
import { Stop, TransmitQueue, type TransmitQueuePort, type TransmitQueueState } from './transmit-queue.ts';

/** Descriptors and frames of one queue in a row. */
const BURST = 32;
/** Others have their turn after so many, or so long. */
const TURN = 2048;
const TURN_NS = 2e6;

export interface TransmitParts {
  readonly card: CardPort;
  readonly registers: RegisterSpace;
  readonly port: TransmitPort;
  readonly interrupts: InterruptPort;
  readonly statistics: StatisticsPort;
  readonly events: QueueEvents;
  /** A PAUSE frame holds the port (8.5). */
  readonly flow: { readonly paused: boolean };
  /** The time of a frame that leaves is asked for (7.9). */
  readonly stamp: (queue: number) => void;
}

export class TransmitRings implements CardPart, TransmitQueuePort {
  readonly #parts: TransmitParts;
  readonly #words: Uint32Array;
  readonly #queues: TransmitQueue[];
  /** Queues that may have work, a bit each. */
  #ready = 0;
  /** The queue whose turn is next. */
  #next = 0;
  #busy = false;
  /** Queues that do no DMA, a bit each. */
  #halted = 0;
  #timer: Disposable | null = null;

  constructor(parts: TransmitParts) {
    this.#parts = parts;
    this.#words = parts.registers.words;
    this.#queues = Array.from({ length: QUEUES }, (_, index) => new TransmitQueue(index, this.#words, parts.events, this));
  }

  get open(): boolean {
    return this.#parts.port.ready && !this.#parts.flow.paused;
  }

  transmit(queue: number, bytes: Uint8Array, offset: number, length: number, vlan: number): void {
    this.#parts.port.transmit(queue, bytes, offset, length, vlan);
  }

  count(register: number): void {
    this.#parts.statistics.count(register);
  }

  outOfSync(): void {
    if ((this.#words[Reg.DTXCTL >>> 2]! & Dtxctl.OUT_OF_SYNC_EN) !== 0) this.#parts.interrupts.cause(Icr.DOUTSYNC);
  }

  transmitted(queue: number): void {
    this.#parts.interrupts.transmitted(queue);
  }

  stamp(queue: number): void {
    this.#parts.stamp(queue);
  }

  resume(queue: number): void {
    this.#push(queue);
    this.kick();
  }

  /** Base or length of a ring has changed. */
  ringChanged(queue: number): void {
    const one = this.#queues[queue]!;
    one.configure(this.#parts.card.ownerOf(queue)?.host ?? null);
    if ((this.#halted & (1 << queue)) === 0) one.goOn();
  }

  tailChanged(queue: number): void {
    if (this.#parts.events.on) this.#parts.events.rung(queue);
    this.#push(queue);
    this.kick();
  }

  /** @param value of TXDCTL */
  controlChanged(queue: number, value: number): void {
    const enabled = (value & Xdctl.ENABLE) !== 0;
    if (!enabled) this.#queues[queue]!.restart();
    else {
      this.ringChanged(queue);
      this.#push(queue);
      this.kick();
    }
  }

  /** Which functions are there has changed, and so whose memory a queue reaches. */
  functionsChanged(): void {
    for (let queue = 0; queue < QUEUES; queue++) this.ringChanged(queue);
    this.wake();
  }

  /** Port, pause, TCTL or VFTE have changed: all queues look for work. */
  wake(): void {
    this.#ready = (1 << QUEUES) - 1;
    this.kick();
  }

  /** No DMA of these queues begins any more, and none that is under way comes to anything. */
  halt(queues: number): void {
    this.#halted |= queues;
    for (const queue of this.#queues) if ((queues & (1 << queue.index)) !== 0) queue.abandon();
  }

  /** Work that `halt` has abandoned begins again. */
  goOn(queues: number): void {
    for (const queue of this.#queues) if ((this.#halted & queues & (1 << queue.index)) !== 0) queue.goOn();
    this.#halted &= ~queues;
    this.#ready |= queues;
    this.kick();
  }

  kick(): void {
    if (this.#busy || this.#ready === 0) return;
    this.#busy = true;
    try {
      this.#work();
    } finally {
      this.#busy = false;
    }
  }

  reset(reset: ResetKind): void {
    for (const queue of this.#queues) {
      if (reset.kind === 'vf' && queue.index % POOLS !== reset.vf) continue;
      queue.restart();
      this.ringChanged(queue.index);
      this.#ready &= ~(1 << queue.index);
    }
    if (reset.kind === 'vf') return;
    this.#timer?.[Symbol.dispose]();
    this.#timer = null;
  }

  /** `queue` is of the function's: it may have another index where it arrives. */
  save(of: number): { readonly queue: number; readonly state: TransmitQueueState }[] {
    return this.#queuesOf(of).map((queue, own) => ({ queue: own, state: queue.save() }));
  }

  load(of: number, state: unknown): void {
    const saved = new Map<number, TransmitQueueState>();
    for (const one of listOf(state, 'transmit queues')) {
      const { queue, state: of } = fieldsOf(one, 'transmit queue');
      saved.set(wholeOf(queue, 'queue', QUEUES - 1), transmitStateOf(of));
    }
    for (const [own, queue] of this.#queuesOf(of).entries()) {
      queue.restart();
      this.ringChanged(queue.index);
      const found = saved.get(own);
      if (found === undefined) continue;
      queue.load(found);
      if ((this.#halted & (1 << queue.index)) === 0) queue.goOn();
    }
  }

  #queuesOf(of: number): TransmitQueue[] {
    return of === PF ? this.#queues : this.#queues.filter((queue) => queue.index % POOLS === of);
  }

  #push(queue: number): void {
    this.#ready |= 1 << queue;
  }

  #enabled(queue: number): boolean {
    const words = this.#words;
    if ((this.#halted & (1 << queue)) !== 0) return false;
    if ((words[Reg.TCTL >>> 2]! & Tctl.EN) === 0 || (words[ofQueue(Reg.TXDCTL, queue) >>> 2]! & Xdctl.ENABLE) === 0) return false;
    return !this.#parts.card.virtualized || (words[Reg.VFTE >>> 2]! & (1 << (queue % POOLS))) !== 0;
  }

  #work(): void {
    let left = TURN;
    let untilNs = 0;
    let queue = this.#next;
    while (this.#ready !== 0 && left > 0) {
      if (!this.open) {
        this.#next = queue;
        return;
      }
      while ((this.#ready & (1 << queue)) === 0) queue = queue + 1 === QUEUES ? 0 : queue + 1;
      // A doorbell that rings meanwhile makes the queue ready again.
      this.#ready &= ~(1 << queue);
      if (!this.#enabled(queue)) continue;
      const one = this.#queues[queue]!;
      const stop = one.serve(BURST);
      if (stop === Stop.TURN || stop === Stop.PORT) this.#push(queue);
      queue = queue + 1 === QUEUES ? 0 : queue + 1;
      left -= one.used;
      if (stop !== Stop.TURN) continue;
      const now = this.#clock.nowNs();
      if (untilNs === 0) untilNs = now + TURN_NS;
      else if (now >= untilNs) break;
    }
    this.#next = queue;
    if (this.#ready === 0 || this.#timer !== null) return;
    this.#timer = this.#clock.after(0, () => {
      this.#timer = null;
      this.kick();
    });
  }

  get #clock(): Clock {
    return this.#parts.card.functionAt(PF)!.host.clock;
  }
}
