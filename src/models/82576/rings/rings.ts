/** The room of the rings: transmit and receive queues, the packet buffer, and flow control. */

import {
  type CardPart,
  type CardPort,
  type InterruptPort,
  QUEUES,
  type ReceivedFrame,
  type ReceivePort,
  type ResetKind,
  type StatisticsPort,
  type TransmitPort,
} from '../parts.ts';
import type { RegisterSpace } from '../register-space.ts';
import { FlowControl } from './flow-control.ts';
import { QueueEvents } from './queue-events.ts';
import { ReceiveRings } from './receive-rings.ts';
import { bufferRows, ringRows, transmitRows } from './registers.ts';
import { fieldsOf } from './saved-state.ts';
import { TransmitRings } from './transmit-rings.ts';

/** Queues of a function, a bit each; without one: all queues. */
function queuesOf(vf: number | undefined): number {
  return vf === undefined ? (1 << QUEUES) - 1 : 0x101 << vf;
}

/** TCTL.SWXOFF. */
const SWXOFF = 0x40_0000;

export interface RingsParts {
  readonly card: CardPort;
  readonly registers: RegisterSpace;
  readonly port: TransmitPort;
  readonly interrupts: InterruptPort;
  readonly statistics: StatisticsPort;
  /** A MAC control frame goes to the wire, past queues and switch. */
  readonly sendControl: (bytes: Uint8Array, offset: number, length: number) => void;
  /** A frame leaves whose time is asked for (7.9). */
  readonly stamp?: (queue: number) => void;
}

export class Rings implements CardPart, ReceivePort {
  readonly #transmit: TransmitRings;
  readonly #receive: ReceiveRings;
  readonly #flow: FlowControl;

  #allHalted = false;
  /** Queues of functions that are halted by themselves. */
  #haltedAlone = 0;

  /** Declares the registers of the room. */
  constructor(parts: RingsParts) {
    const { card, registers, statistics, interrupts, port } = parts;
    const events = new QueueEvents(card);
    this.#flow = new FlowControl({
      card,
      registers,
      statistics,
      sendControl: parts.sendControl,
      resumed: () => this.#transmit.wake(),
    });
    this.#transmit = new TransmitRings({
      card,
      registers,
      port,
      interrupts,
      statistics,
      events,
      flow: this.#flow,
      stamp: parts.stamp ?? (() => undefined),
    });
    this.#receive = new ReceiveRings({ card, registers, interrupts, statistics, events, filled: (bytes) => this.#flow.filled(bytes) });
    const rows = ringRows({
      receiveRing: (queue) => this.#receive.ringChanged(queue),
      receiveTail: (queue, tail) => this.#receive.tailChanged(queue, tail),
      receiveControl: (queue, value) => this.#receive.controlChanged(queue, value),
      transmitRing: (queue) => this.#transmit.ringChanged(queue),
      transmitTail: (queue) => this.#transmit.tailChanged(queue),
      transmitControl: (queue, value) => this.#transmit.controlChanged(queue, value),
    });
    registers.declare([
      ...rows,
      ...transmitRows((_, written) => {
        if ((written & SWXOFF) !== 0) this.#flow.sendOnce();
        this.#transmit.wake();
      }),
      ...bufferRows(),
      ...this.#flow.rows(),
    ]);
    this.#receive.functionsChanged();
    this.#transmit.functionsChanged();
  }

  receive(frame: ReceivedFrame, queues: number): number {
    return this.#receive.receive(frame, queues);
  }

  /**
   * A frame has come from the wire, before any filter. @returns whether the card keeps it to itself
   */
  takesControl(bytes: Uint8Array, offset: number, length: number): boolean {
    return this.#flow.takes(bytes, offset, length);
  }

  /** The port takes frames again (`WirePort.readyAgain`), or RCTL, VFRE or VFTE have changed. */
  wake(): void {
    this.#receive.wake();
    this.#transmit.wake();
  }

  /** Virtual functions have come or gone, so queues reach other memory. */
  functionsChanged(): void {
    this.#receive.functionsChanged();
    this.#transmit.functionsChanged();
  }

  /**
   * No DMA begins until `goOn`: for D3hot, CTRL.GIO_MASTER_DISABLE, and migration.
   *
   * @param vf of a virtual function's queues alone. Default: of all queues
   */
  halt(vf?: number): void {
    const queues = queuesOf(vf);
    if (vf === undefined) this.#allHalted = true;
    else this.#haltedAlone |= queues;
    this.#transmit.halt(queues);
    this.#receive.halt(queues);
  }

  /** A virtual function that was halted alone stays so when the others go on, and the reverse. */
  goOn(vf?: number): void {
    if (vf === undefined) this.#allHalted = false;
    else this.#haltedAlone &= ~queuesOf(vf);
    if (this.#allHalted) return;
    const queues = queuesOf(vf) & ~this.#haltedAlone;
    this.#receive.goOn(queues);
    this.#transmit.goOn(queues);
  }

  reset(reset: ResetKind): void {
    this.#transmit.reset(reset);
    this.#receive.reset(reset);
    this.#flow.reset(reset);
  }

  save(of: number): unknown {
    return { transmit: this.#transmit.save(of), receive: this.#receive.save(of), flow: this.#flow.save(of) };
  }

  load(of: number, state: unknown): void {
    const { transmit, receive, flow } = fieldsOf(state, 'rings');
    this.#transmit.load(of, transmit);
    this.#receive.load(of, receive);
    this.#flow.load(of, flow);
  }
}
