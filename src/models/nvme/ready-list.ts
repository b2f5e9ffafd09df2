/**
 * Submission queues that have commands, in the order of their turns, each at most once (NVMe 1.4,
 * 4.13.1, round robin).
 */
import type { SubmissionQueue } from './submission-queue.ts';

export class ReadyList {
  readonly #ring: (SubmissionQueue | null)[];
  #head = 0;
  #count = 0;

  /** @param queues  that there are */
  constructor(queues: number) {
    this.#ring = new Array(queues).fill(null);
  }

  get count(): number {
    return this.#count;
  }

  /** `sq` has its turn after all others, unless it stands here already. */
  push(sq: SubmissionQueue): void {
    if (sq.ready) return;
    sq.ready = true;
    const { length } = this.#ring;
    this.#ring[(this.#head + this.#count) % length] = sq;
    this.#count++;
  }

  /** The next; the list must not be empty. */
  take(): SubmissionQueue {
    const sq = this.#ring[this.#head]!;
    this.#head = this.#head + 1 === this.#ring.length ? 0 : this.#head + 1;
    this.#count--;
    sq.ready = false;
    return sq;
  }

  clear(): void {
    while (this.#count > 0) this.take();
    this.#ring.fill(null);
  }
}
