/** A submission queue: where commands are fetched from (NVMe 1.4, 4.1). */
import { Dma, type DmaPort, type Iova } from '../../abi/device-host.ts';
import { Access } from '../../abi/memory.ts';
import { SQE_SIZE } from '../../abi/nvme.ts';
import type { Command } from './command.ts';
import type { CompletionQueue } from './completion-queue.ts';
import { entriesFrom, nextIndex, Ring } from './ring.ts';
import type { RungEntries } from './rung-entries.ts';

/** Entries of remote memory that one message brings. */
const AHEAD_MAX = 64;
const WORDS = SQE_SIZE / 4;

export class SubmissionQueue {
  readonly id: number;
  readonly size: number;
  readonly cq: CompletionQueue;
  readonly ring: Ring;
  /** Next entry to fetch, and the tail of the host's doorbell. */
  head = 0;
  tail = 0;
  /** Commands fetched whose completion has not been posted. */
  outstanding = 0;
  /** It stands in the list of those to be served. */
  ready = false;
  /** A message that fetches entries is under way. */
  fetching = false;
  /** The Delete I/O Submission Queue command that waits for `outstanding` to become 0. */
  deleting: Command | null = null;
  /** Null while there is no reader of events. */
  rung: RungEntries | null = null;
  /**
   * Identifiers of commands in flight, one bit each; null until the first command that does not end
   * at once.
   */
  #ids: Uint8Array | null = null;
  /** Entries [head, aheadEnd) that were fetched by a message; dropped once used. */
  #ahead: Uint32Array | null = null;
  #aheadFrom = 0;
  #aheadCount = 0;
  readonly #dma: DmaPort;
  readonly #entry = new Uint8Array(SQE_SIZE);
  readonly #entryWords = new Uint32Array(this.#entry.buffer);

  constructor(dma: DmaPort, id: number, iova: Iova, size: number, cq: CompletionQueue) {
    this.id = id;
    this.size = size;
    this.cq = cq;
    this.ring = new Ring(dma, iova, size, SQE_SIZE, Access.READ);
    this.#dma = dma;
  }

  /** Entries that wait to be fetched. */
  get waiting(): number {
    return entriesFrom(this.head, this.tail, this.size);
  }

  /**
   * Whether the host may move the tail to `tail`: within the queue, by one entry or more, not past
   * the head (5.2.1, Invalid Doorbell Write Value).
   */
  takesTail(tail: number): boolean {
    if (tail >= this.size || tail === this.tail) return false;
    return this.waiting + entriesFrom(this.tail, tail, this.size) < this.size;
  }

  /**
   * Copy the entry at the head into `command`, and move on. Any result but DONE: nothing has
   * changed.
   */
  fetch(command: Command): Dma {
    const words = this.ring.words();
    if (words !== null) {
      this.#take(words, this.head * WORDS, command.dw);
      // Drop entries that an earlier message brought: later fetches must not take these.
      this.#aheadCount = 0;
    } else if (this.#aheadCount > 0) {
      this.#take(this.#ahead!, this.#aheadFrom * WORDS, command.dw);
      this.#aheadFrom++;
      this.#aheadCount--;
    } else {
      const done = this.#dma.tryRead(this.ring.at(this.head), this.#entry);
      if (done !== Dma.DONE) return done;
      this.#take(this.#entryWords, 0, command.dw);
    }
    this.head = nextIndex(this.head, this.size);
    return Dma.DONE;
  }

  /** `count` entries were taken from the ring itself. */
  skip(count: number): void {
    this.#aheadCount = 0;
    const head = this.head + count;
    this.head = head < this.size ? head : head - this.size;
  }

  /** Bring the next entries from remote memory. @throws DmaFault */
  async fetchAhead(): Promise<void> {
    const count = Math.min(this.waiting, this.size - this.head, AHEAD_MAX);
    const bytes = new Uint8Array(count * SQE_SIZE);
    this.fetching = true;
    try {
      await this.#dma.read(this.ring.at(this.head), bytes);
    } finally {
      this.fetching = false;
    }
    this.#ahead = new Uint32Array(bytes.buffer);
    this.#aheadFrom = 0;
    this.#aheadCount = count;
  }

  /** A command did not end at once: its identifier is in use. */
  holdId(id: number): void {
    if (this.#ids === null) this.#ids = new Uint8Array(0x1_0000 / 8);
    this.#ids[id >>> 3]! |= 1 << (id & 7);
  }

  holdsId(id: number): boolean {
    return this.#ids !== null && (this.#ids[id >>> 3]! & (1 << (id & 7))) !== 0;
  }

  releaseId(id: number): void {
    if (this.#ids !== null) this.#ids[id >>> 3]! &= ~(1 << (id & 7));
  }

  #take(from: Uint32Array, at: number, into: Uint32Array): void {
    for (let i = 0; i < WORDS; i++) into[i] = from[at + i]!;
  }
}
