/**
 * The receive queues together: a frame goes to those that the filter chose, waits in the packet
 * buffer for descriptors, is dropped, or is missed (7.1.8, 7.1.9). Lost frames are counted.
 */
import { Icr, Rctl, Reg, Xdctl } from '../../../abi/82576.ts';
import { Stat } from '../../../abi/82576-statistics.ts';
import {
  type CardPart,
  type CardPort,
  type InterruptPort,
  PF,
  POOLS,
  QUEUES,
  type ReceivedFrame,
  type ReceivePort,
  type ResetKind,
  type StatisticsPort,
} from '../parts.ts';
import type { RegisterSpace } from '../register-space.ts';
import { emptyFrame, PacketBuffer } from './packet-buffer.ts';
import type { QueueEvents } from './queue-events.ts';
import { Delivery, ReceiveQueue } from './receive-queue.ts';
import { fieldsOf, framesOf, listOf, wholeOf } from './saved-state.ts';

/** Frames of one queue that go to remote memory at once. */
const REMOTE_FRAMES = 32;
/** The longest frame of a wire. */
const FRAME_BYTES = 16_384;

export interface ReceiveParts {
  readonly card: CardPort;
  readonly registers: RegisterSpace;
  readonly interrupts: InterruptPort;
  readonly statistics: StatisticsPort;
  readonly events: QueueEvents;
  /** The packet buffer holds more bytes than before, or less (8.5). */
  readonly filled: (bytes: number) => void;
}

/** Frames that wait for a queue, for migration. */
export interface ReceiveQueueState {
  /** Of the function's queues: a function may have another index where it arrives. */
  readonly queue: number;
  readonly frames: ReceivedFrame[];
}

export class ReceiveRings implements CardPart, ReceivePort {
  readonly #parts: ReceiveParts;
  readonly #words: Uint32Array;
  readonly #queues: ReceiveQueue[];
  readonly #buffer = new PacketBuffer();
  /** A frame out of the packet buffer. */
  readonly #waiting = emptyFrame(new Uint8Array(FRAME_BYTES));
  /** Queues that do no DMA, a bit each. */
  #halted = 0;

  constructor(parts: ReceiveParts) {
    this.#parts = parts;
    this.#words = parts.registers.words;
    this.#queues = Array.from({ length: QUEUES }, (_, index) => new ReceiveQueue(index, this.#words));
  }

  receive(frame: ReceivedFrame, queues: number): number {
    let taken = 0;
    let interrupted = 0;
    for (let left = queues & 0xffff; left !== 0; left &= left - 1) {
      const bit = left & -left;
      const outcome = this.#receive(this.#queues[31 - Math.clz32(bit)]!, frame);
      if (outcome !== LOST) taken |= bit;
      if (outcome === STORED) interrupted |= bit;
    }
    // Drivers that answer at once send frames of their own, for which `frame` is used again.
    this.#interrupt(interrupted);
    return taken;
  }

  #interrupt(queues: number): void {
    for (let left = queues; left !== 0; left &= left - 1) this.#parts.interrupts.received(31 - Math.clz32(left & -left));
  }

  #receive(queue: ReceiveQueue, frame: ReceivedFrame): number {
    if (!this.#enabled(queue)) {
      queue.countDrop();
      return LOST;
    }
    const { index } = queue;
    if ((this.#halted & (1 << index)) !== 0 || queue.busy || this.#buffer.has(index)) {
      if (queue.free === 0) this.#parts.statistics.count(Stat.RNBC);
      return this.#keep(queue, frame);
    }
    const delivery = this.#deliver(queue, frame);
    switch (delivery) {
      case Delivery.TAKEN:
        return STORED;
      case Delivery.REMOTE: {
        const kept = this.#keep(queue, frame);
        void this.#drainRemote(queue);
        return kept;
      }
      case Delivery.NO_DESCRIPTORS:
        if (!queue.drops && (this.#words[Reg.QDE >>> 2]! & (1 << index)) === 0) {
          this.#parts.statistics.count(Stat.RNBC);
          return this.#keep(queue, frame);
        }
    }
    queue.countDrop();
    return LOST;
  }

  #deliver(queue: ReceiveQueue, frame: ReceivedFrame): Delivery {
    const delivery = queue.deliver(frame);
    if (delivery === Delivery.TAKEN) this.#delivered(queue, queue.hadFree, frame.length);
    return delivery;
  }

  #delivered(queue: ReceiveQueue, free: number, bytes: number): void {
    const { threshold } = queue;
    if (threshold > 0 && free > threshold && queue.free <= threshold) {
      this.#parts.statistics.count(Stat.RXDMTC);
      this.#parts.interrupts.cause(Icr.RXDMT0);
    }
    if (this.#parts.events.on) this.#parts.events.received(queue.index, bytes);
  }

  /** The frame waits in the packet buffer, or there is no room for it. */
  #keep(queue: ReceiveQueue, frame: ReceivedFrame): number {
    const capacity = this.#words[Reg.RXPBS >>> 2]! * 1024;
    if (!this.#buffer.put(queue.index, frame, capacity, this.#parts.card.virtualized)) {
      this.#parts.statistics.count(Stat.MPC);
      this.#parts.interrupts.cause(Icr.RXO);
      return LOST;
    }
    this.#parts.filled(this.#buffer.used);
    return KEPT;
  }

  #enabled(queue: ReceiveQueue): boolean {
    if (!queue.enabled) return false;
    return !this.#parts.card.virtualized || (this.#words[Reg.VFRE >>> 2]! & (1 << (queue.index % POOLS))) !== 0;
  }

  /** Frames that wait go to descriptors, as far as there are any. */
  #drain(queue: ReceiveQueue): void {
    const { index } = queue;
    if ((this.#halted & (1 << index)) !== 0 || queue.busy || !this.#buffer.has(index) || !this.#enabled(queue)) return;
    if ((this.#words[Reg.RCTL >>> 2]! & Rctl.RXEN) === 0) return;
    let stored = false;
    let delivery: Delivery = Delivery.TAKEN as Delivery;
    while (this.#buffer.has(index)) {
      this.#buffer.peek(index, this.#waiting);
      delivery = this.#deliver(queue, this.#waiting);
      if (delivery === Delivery.NEVER) queue.countDrop();
      else if (delivery === Delivery.TAKEN) stored = true;
      else break;
      this.#buffer.pop(index);
    }
    this.#parts.filled(this.#buffer.used);
    if (stored) this.#parts.interrupts.received(index);
    if (delivery === Delivery.REMOTE) void this.#drainRemote(queue);
  }

  async #drainRemote(queue: ReceiveQueue): Promise<void> {
    const { index, life } = queue;
    if (queue.busy) return;
    queue.busy = true;
    const { free } = queue;
    const frames = this.#buffer.list(index, REMOTE_FRAMES);
    const delivered = free === 0 ? 0 : await queue.deliverRemote(frames);
    if (queue.life !== life) return;
    queue.busy = false;
    for (let i = 0; i < delivered; i++) this.#buffer.pop(index);
    if (delivered === 0) {
      // A frame that needs more descriptors than the ring can have never leaves.
      if (free === 0 || free + 1 < queue.ring.size) return;
      this.#buffer.pop(index);
      queue.countDrop();
      this.#drain(queue);
      return;
    }
    for (let i = 0; i < delivered; i++) this.#delivered(queue, i === 0 ? free : 0, frames[i]!.length);
    this.#parts.filled(this.#buffer.used);
    this.#parts.interrupts.received(index);
    this.#drain(queue);
  }

  ringChanged(queue: number): void {
    this.#queues[queue]!.configure(this.#parts.card.ownerOf(queue)?.host ?? null);
  }

  /** Writes to RDT of a queue that is not enabled are ignored (8.10.9). */
  tailChanged(queue: number, tail: number): void {
    const one = this.#queues[queue]!;
    if (!one.enabled) return;
    this.#words[(Reg.RDT + queue * 0x40) >>> 2] = tail;
    this.#drain(one);
  }

  /** @param value of RXDCTL */
  controlChanged(queue: number, value: number): void {
    const one = this.#queues[queue]!;
    if ((value & Xdctl.ENABLE) === 0) {
      one.restart();
      this.#lose(one);
      return;
    }
    this.ringChanged(queue);
    this.#drain(one);
  }

  /** Which functions are there has changed, and so whose memory a queue reaches. */
  functionsChanged(): void {
    for (let queue = 0; queue < QUEUES; queue++) this.ringChanged(queue);
    this.wake();
  }

  /** RCTL or VFRE have changed: queues look for frames that wait. */
  wake(): void {
    for (const queue of this.#queues) this.#drain(queue);
  }

  /** No DMA of these queues begins any more; frames that come wait. */
  halt(queues: number): void {
    this.#halted |= queues;
    for (const queue of this.#queues) if ((queues & (1 << queue.index)) !== 0) queue.abandon();
  }

  goOn(queues: number): void {
    this.#halted &= ~queues;
    this.wake();
  }

  reset(reset: ResetKind): void {
    for (const queue of this.#queues) {
      if (reset.kind === 'vf' && queue.index % POOLS !== reset.vf) continue;
      queue.restart();
      this.ringChanged(queue.index);
      this.#buffer.clear(queue.index);
    }
    this.#parts.filled(this.#buffer.used);
  }

  save(of: number): ReceiveQueueState[] {
    return this.#queuesOf(of).map((queue, own) => ({ queue: own, frames: this.#buffer.list(queue.index).map(unsigned) }));
  }

  load(of: number, state: unknown): void {
    const saved = new Map<number, ReceivedFrame[]>();
    for (const one of listOf(state, 'receive queues')) {
      const { queue, frames } = fieldsOf(one, 'receive queue');
      saved.set(wholeOf(queue, 'queue', QUEUES - 1), framesOf(frames));
    }
    for (const [own, queue] of this.#queuesOf(of).entries()) {
      queue.restart();
      this.ringChanged(queue.index);
      this.#buffer.clear(queue.index);
      for (const frame of saved.get(own) ?? []) this.#buffer.put(queue.index, frame, FRAME_BYTES * 4, false);
    }
  }

  /** Frames that waited for a queue which is gone are dropped. */
  #lose(queue: ReceiveQueue): void {
    while (this.#buffer.has(queue.index)) {
      this.#buffer.pop(queue.index);
      queue.countDrop();
    }
    this.#parts.filled(this.#buffer.used);
  }

  #queuesOf(of: number): ReceiveQueue[] {
    return of === PF ? this.#queues : this.#queues.filter((queue) => queue.index % POOLS === of);
  }
}

/** The filter's words may have a sign, which a saved state has not. */
function unsigned(frame: ReceivedFrame): ReceivedFrame {
  return { ...frame, rssHash: frame.rssHash >>> 0, status: frame.status >>> 0, errors: frame.errors >>> 0 };
}

/** How a queue took a frame. */
const LOST = 0;
const KEPT = 1;
const STORED = 2;
