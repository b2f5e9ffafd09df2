/**
 * Packets as events, for readers of them: one command for each packet that a queue has sent or
 * received, with the queue's doorbell as its cause.
 */
import type { EventPort, EventShape } from '../../../abi/event.ts';
import { type CardPort, PF, QUEUES } from '../parts.ts';

const OK = 'ok';

function shape(name: string, queue: string): EventShape {
  return { kind: 'command', name, queue, status: OK, fields: ['bytes'] };
}

export class QueueEvents {
  readonly #card: CardPort;
  /** Of the physical function: readers come to all of a card's functions, or to none. */
  #port: EventPort | null = null;
  readonly #sent = Array.from({ length: QUEUES }, (_, q) => shape('Transmit', `tx ${q}`));
  readonly #segmented = Array.from({ length: QUEUES }, (_, q) => shape('Transmit segmented', `tx ${q}`));
  readonly #received = Array.from({ length: QUEUES }, (_, q) => shape('Receive', `rx ${q}`));
  /** The last write of TDT, by queue: its time, and its event. */
  readonly #rungNs = new Float64Array(QUEUES).fill(-1);
  readonly #causes = new Float64Array(QUEUES);

  constructor(card: CardPort) {
    this.#card = card;
  }

  /** Whether there is a reader: only then the other methods are called. */
  get on(): boolean {
    this.#port ??= this.#card.functionAt(PF)?.host.events ?? null;
    return this.#port?.on === true;
  }

  rung(queue: number): void {
    const side = this.#card.ownerOf(queue);
    if (side === null) return;
    this.#rungNs[queue] = side.host.clock.nowNs();
    this.#causes[queue] = side.host.events.cause;
  }

  transmitted(queue: number, bytes: number, segmented: boolean): void {
    const host = this.#card.ownerOf(queue)?.host;
    if (host === undefined) return;
    const since = this.#rungNs[queue]!;
    const { events } = host;
    const before = events.cause;
    if (since >= 0) events.cause = this.#causes[queue]!;
    const latencyNs = since < 0 ? 0 : host.clock.nowNs() - since;
    events.emitShaped((segmented ? this.#segmented : this.#sent)[queue]!, latencyNs, bytes);
    events.cause = before;
  }

  received(queue: number, bytes: number): void {
    this.#card.ownerOf(queue)?.host.events.emitShaped(this.#received[queue]!, 0, bytes);
  }
}
