/**
 * The driver's waits for the commands of one queue, as events: `Read on I/O 1`. The controller may
 * be hardware, or behind a socket: so they are the commands as the driver sees them. Typed arrays:
 * nothing is allocated for a command.
 */
import type { EventShape } from '../../abi/event.ts';
import { opcodeName, queueName } from '../../abi/nvme.ts';
import { Status } from '../../abi/nvme-status.ts';
import type { WaitEvents } from '../kit/wait-events.ts';

export class CommandWaits {
  /** The event of the interrupt in whose answer completions are taken; 0: none is known. */
  cause = 0;
  readonly #queueId: number;
  readonly #events: WaitEvents;
  /** By slot, -1 for a command that makes no event. */
  readonly #beganNs: Float64Array;
  readonly #opcodes: Uint8Array;
  /** The waits that succeed, by opcode. */
  readonly #done: EventShape[] = [];

  constructor(queueId: number, slots: number, events: WaitEvents) {
    this.#queueId = queueId;
    this.#events = events;
    this.#beganNs = new Float64Array(slots).fill(-1);
    this.#opcodes = new Uint8Array(slots);
  }

  begin(slot: number, opcode: number): void {
    const began = this.#events.begin();
    this.#beganNs[slot] = began;
    if (began >= 0) this.#opcodes[slot] = opcode;
  }

  /** The driver does not wait for the command in `slot`. */
  forget(slot: number): void {
    this.#beganNs[slot] = -1;
  }

  ended(slot: number, status: number): void {
    const since = this.#beganNs[slot]!;
    if (since < 0) return;
    const opcode = this.#opcodes[slot]!;
    if (status === Status.SUCCESS) this.#events.endedAs(this.#done[opcode] ?? this.#shape(opcode), since, this.cause);
    else this.#events.ended(this.#wordsOf(opcode), 'failed', since, this.cause);
  }

  failed(slot: number, error: Error): void {
    this.#events.failed(this.#wordsOf(this.#opcodes[slot]!), error, this.#beganNs[slot]!);
  }

  #shape(opcode: number): EventShape {
    const shape: EventShape = { kind: 'wait', what: this.#wordsOf(opcode), outcome: 'done' };
    this.#done[opcode] = shape;
    return shape;
  }

  #wordsOf(opcode: number): string {
    return `${opcodeName(opcode, this.#queueId === 0)} on ${queueName(this.#queueId)}`;
  }
}
