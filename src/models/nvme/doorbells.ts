/**
 * The host's reports about its queues: by the doorbell registers (NVMe 1.4, 3.1.24, 3.1.25), or by
 * values in memory that it has set up for that (7.13).
 */
import { EventError } from '../../abi/nvme.ts';
import type { CommandEvents } from './command-events.ts';
import type { CompletionQueue } from './completion-queue.ts';
import { type MappedDoorbells, NONE } from './mapped-doorbells.ts';
import type { ShadowDoorbells } from './shadow-doorbells.ts';
import type { SubmissionQueue } from './submission-queue.ts';

/** The queues of the controller, as far as the host's news concern them; `Queues` is these. */
export interface RungQueues {
  /** By queue identifier; null: not created. */
  readonly sq: readonly (SubmissionQueue | null)[];
  readonly cq: readonly (CompletionQueue | null)[];
  readonly running: boolean;
  readonly halted: boolean;
  /** The host has added commands to `sq`. */
  makeReady(sq: SubmissionQueue): void;
  /** The host has consumed entries of `cq`. */
  consumed(cq: CompletionQueue): void;
  /** Fetch and start commands, then report those that have ended. */
  kick(): void;
}

export interface DoorbellHooks {
  /** A doorbell that cannot be (5.2.1): `error` is one of `EventError`. */
  invalidDoorbell(error: number): void;
  /** Queues cannot be reached: the controller stops (3.1.6, CFS). */
  fatal(reason: string): void;
}

export class Doorbells {
  readonly #queues: RungQueues;
  readonly #shadow: ShadowDoorbells;
  readonly #events: CommandEvents;
  readonly #hooks: DoorbellHooks;
  /** Null: doorbells are registers alone. */
  mapped: MappedDoorbells | null = null;

  constructor(queues: RungQueues, shadow: ShadowDoorbells, events: CommandEvents, hooks: DoorbellHooks) {
    this.#queues = queues;
    this.#shadow = shadow;
    this.#events = events;
    this.#hooks = hooks;
  }

  /**
   * The host writes values to memory and rings only at the event index, so callers poll with
   * `pollTail` and `pollHead`.
   */
  get shadowed(): boolean {
    return this.#shadow.enabled;
  }

  /**
   * A write to doorbell `index`: even ones are tails of submission queues, odd ones heads of
   * completion queues.
   */
  ring(index: number, value: number): void {
    if (!this.#queues.running) return;
    this.take(index, value);
    this.mapped?.set(index, this.valueOf(index));
    this.#queues.kick();
  }

  /** As `ring`, and the caller starts the work. */
  take(index: number, value: number): void {
    if (!this.#queues.running) return;
    if ((index & 1) === 0) this.#ringTail(index >>> 1, value);
    else this.#ringHead(index >>> 1, value);
  }

  /** The value of doorbell `index` that the controller goes by; `NONE` without a queue. */
  valueOf(index: number): number {
    const id = index >>> 1;
    return ((index & 1) === 0 ? this.#queues.sq[id]?.tail : this.#queues.cq[id]?.head) ?? NONE;
  }

  /** Shadow doorbells are in use from now on: they start from where the queues are. */
  shadowsConfigured(): void {
    const { sq: sqs, cq: cqs } = this.#queues;
    for (const sq of sqs) if (sq !== null) this.#setShadow(2 * sq.id, sq.tail);
    for (const cq of cqs) if (cq !== null) this.#setShadow(2 * cq.id + 1, cq.head);
  }

  /** The tail of a new submission queue is 0, and the host rings for what it adds. */
  clearTail(id: number): void {
    this.mapped?.set(2 * id, this.#queues.sq[id]!.tail);
    if (this.#shadow.enabled) this.#setShadow(2 * id, 0);
  }

  clearHead(id: number): void {
    this.mapped?.set(2 * id + 1, this.#queues.cq[id]!.head);
    if (this.#shadow.enabled) this.#setShadow(2 * id + 1, 0);
  }

  /** Submission queue `id` is gone: its doorbell stands for nothing. */
  dropTail(id: number): void {
    this.mapped?.set(2 * id, NONE);
  }

  /** As `dropTail`, of a completion queue. */
  dropHead(id: number): void {
    this.mapped?.set(2 * id + 1, NONE);
  }

  /**
   * The tail that doorbells reported while the controller was stopped. The admin queue's doorbells
   * are registers.
   */
  catchUpTail(sq: SubmissionQueue): void {
    if (!this.#shadow.enabled) return;
    if (sq.id === 0) this.#setShadow(0, sq.tail);
    else this.pollTail(sq);
  }

  catchUpHead(cq: CompletionQueue): void {
    if (!this.#shadow.enabled) return;
    if (cq.id === 0) this.#setShadow(1, cq.head);
    else this.pollHead(cq);
  }

  /**
   * Read the tail from the shadow doorbell, after setting the event index from which the host must
   * ring. True: the tail has moved.
   */
  pollTail(sq: SubmissionQueue): boolean {
    const tail = this.#look(sq.id, 2 * sq.id, sq.tail);
    if (tail === sq.tail) return false;
    if (!sq.takesTail(tail)) return this.#invalidValue();
    this.#moveTail(sq, tail);
    return true;
  }

  /** As `pollTail`, of a completion queue's head. */
  pollHead(cq: CompletionQueue): boolean {
    const head = this.#look(cq.id, 2 * cq.id + 1, cq.head);
    if (head === cq.head) return false;
    if (!cq.takesHead(head)) return this.#invalidValue();
    cq.head = head;
    this.#queues.consumed(cq);
    return true;
  }

  #ringTail(queueId: number, value: number): void {
    const queues = this.#queues;
    const sq = queues.sq[queueId];
    if (sq === undefined || sq === null || sq.deleting !== null) {
      this.#hooks.invalidDoorbell(EventError.INVALID_DOORBELL_REGISTER);
    } else if (this.#shadow.enabled && queueId !== 0) {
      // A write to the register only says that the tail moved: its value may be older than the one
      // in the shadow doorbell.
      if (value >= sq.size) this.#invalidValue();
      else if (!queues.halted && (sq.waiting > 0 || this.pollTail(sq))) queues.makeReady(sq);
    } else if (sq.takesTail(value)) {
      this.#moveTail(sq, value);
      // Many hosts use registers for the admin queue. For hosts that use shadow doorbells there,
      // the shadow gets the register's value.
      if (this.#shadow.enabled && !queues.halted) this.#setShadow(0, value);
      queues.makeReady(sq);
    } else this.#invalidValue();
  }

  #moveTail(sq: SubmissionQueue, tail: number): void {
    if (this.#events.port.on) this.#events.rung(sq, tail);
    else sq.rung = null;
    sq.tail = tail;
  }

  #ringHead(queueId: number, value: number): void {
    const queues = this.#queues;
    const cq = queues.cq[queueId];
    if (cq === undefined || cq === null) this.#hooks.invalidDoorbell(EventError.INVALID_DOORBELL_REGISTER);
    else if (this.#shadow.enabled && queueId !== 0) {
      if (value >= cq.size) this.#invalidValue();
      else if (!queues.halted) this.pollHead(cq);
    } else if (cq.takesHead(value)) {
      cq.head = value;
      if (this.#shadow.enabled && !queues.halted) this.#setShadow(1, value);
      queues.consumed(cq);
    } else this.#invalidValue();
  }

  /**
   * The value of shadow doorbell `index`, after the host knows that it has to ring from `known` on.
   * `known` for an admin queue, whose doorbells are registers, and where the shadow cannot be read.
   */
  #look(queueId: number, index: number, known: number): number {
    this.#shadow.writeEvent(index, known);
    if (queueId === 0) return known;
    const value = this.#shadow.read(index);
    if (!this.#shadow.failed) return value;
    this.#lost();
    return known;
  }

  #invalidValue(): false {
    this.#hooks.invalidDoorbell(EventError.INVALID_DOORBELL_VALUE);
    return false;
  }

  #lost(): void {
    this.#hooks.fatal('the shadow doorbells cannot be reached');
  }

  #setShadow(index: number, value: number): void {
    this.#shadow.write(index, value);
    this.#shadow.writeEvent(index, value);
    if (this.#shadow.failed) this.#lost();
  }
}
