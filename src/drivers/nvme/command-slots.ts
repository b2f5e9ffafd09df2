/**
 * The commands of a queue that are in flight: the owner of each, its start, and its identifier. A
 * slot's number stands in the lower bits of the identifier, a count above them: so the driver
 * notices a completion that comes twice or late. Typed arrays: nothing is allocated for a command.
 */
import type { Submission } from './submission.ts';

const SLOT_BITS = 12;
const SLOT_MASK = 2 ** SLOT_BITS - 1;

/** Slots are one fewer than entries, and FFFFh names no command (5.14.1.1). */
export const QUEUE_ENTRIES_MAX = SLOT_MASK;

const SlotState = { FREE: 0, IN_FLIGHT: 1, ABORT_SENT: 2 } as const;

export class CommandSlots {
  readonly count: number;
  /** Number of free slots. */
  room = 0;
  /** Tags of the commands that were put with one. */
  readonly tags: Int32Array;
  /** The submission that waits for the command's end; null: the command has a tag. */
  readonly submissions: (Submission | null)[];
  /** Ticks that the command may take; 0: no limit. */
  readonly limits: Uint32Array;
  readonly #free: Uint16Array;
  readonly #state: Uint8Array;
  readonly #generation: Uint8Array;
  readonly #since: Float64Array;

  constructor(count: number) {
    this.count = count;
    this.tags = new Int32Array(count);
    this.submissions = new Array<Submission | null>(count).fill(null);
    this.limits = new Uint32Array(count);
    this.#free = new Uint16Array(count);
    this.#state = new Uint8Array(count);
    this.#generation = new Uint8Array(count);
    this.#since = new Float64Array(count);
  }

  /** All are free. */
  open(): void {
    this.room = this.count;
    // The lowest slots come first, because their lists are in the cache.
    for (let i = 0; i < this.count; i++) this.#free[i] = this.count - 1 - i;
  }

  /** No slot can be taken until `open`. Slots in use stay in use. */
  pause(): void {
    this.room = 0;
  }

  /** Take a free slot. One must exist. */
  take(tick: number): number {
    const slot = this.#free[--this.room]!;
    this.#generation[slot] = (this.#generation[slot]! + 1) & 0xf;
    this.#state[slot] = SlotState.IN_FLIGHT;
    this.#since[slot] = tick;
    return slot;
  }

  /** The slot's command has ended. @returns its submission, or null */
  give(slot: number): Submission | null {
    this.#free[this.room++] = slot;
    return this.drop(slot);
  }

  /** Like `give` while paused: the slot cannot be taken. */
  drop(slot: number): Submission | null {
    const submission = this.submissions[slot]!;
    this.submissions[slot] = null;
    this.#state[slot] = SlotState.FREE;
    return submission;
  }

  inUse(slot: number): boolean {
    return this.#state[slot] !== SlotState.FREE;
  }

  /** The command identifier of what is in `slot`. */
  commandId(slot: number): number {
    return (this.#generation[slot]! << SLOT_BITS) | slot;
  }

  /** The slot of a command in flight; -1 when it is not in flight. */
  find(commandId: number): number {
    const slot = commandId & SLOT_MASK;
    if (slot >= this.count || this.#state[slot] === SlotState.FREE || commandId >>> SLOT_BITS !== this.#generation[slot]) return -1;
    return slot;
  }

  /**
   * The slot of a command that has taken longer than it may, since its start or its abort; -1 when
   * there is none.
   * @param from the first slot to look at
   */
  overdue(tick: number, from: number): number {
    for (let slot = from; slot < this.count; slot++) {
      const limit = this.limits[slot]!;
      if (this.#state[slot] !== SlotState.FREE && limit !== 0 && tick - this.#since[slot]! > limit) return slot;
    }
    return -1;
  }

  /**
   * Note that an abort is sent for the command in `slot`, which has the same time again.
   * @returns false when an abort was sent before
   */
  remind(slot: number, tick: number): boolean {
    if (this.#state[slot] !== SlotState.IN_FLIGHT) return false;
    this.#state[slot] = SlotState.ABORT_SENT;
    this.#since[slot] = tick;
    return true;
  }
}
