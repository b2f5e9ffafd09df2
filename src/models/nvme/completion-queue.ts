/** A completion queue: where the host hears how commands ended (NVMe 1.4, 4.1, 4.6). */
import { Dma, type DmaPort, type Iova } from '../../abi/device-host.ts';
import { Access } from '../../abi/memory.ts';
import { CQE_SIZE } from '../../abi/nvme.ts';
import type { Command } from './command.ts';
import { entriesFrom, nextIndex, Ring } from './ring.ts';

const WORDS = CQE_SIZE / 4;
/** Completions that one message carries. */
const POST_MAX = 64;

export class CompletionQueue {
  readonly id: number;
  readonly size: number;
  /** Interrupt vector, and whether interrupts are enabled (IV, IEN). */
  readonly vector: number;
  readonly interrupts: boolean;
  readonly ring: Ring;
  /** Next entry that the host consumes, by its doorbell; next to post. */
  head = 0;
  tail = 0;
  /** Phase tag of the current pass. */
  phase = 1;
  /** Submission queues that complete here. */
  users = 0;
  /** Ended commands whose completion has no room yet, oldest first. */
  first: Command | null = null;
  last: Command | null = null;
  /** A message that posts completions is under way. */
  posting = false;
  /** Commands whose completions it carries. */
  sent: readonly Command[] = [];
  /** Submission queues have work and wait for room here. */
  blocked = false;
  /** Posted since the host was interrupted. */
  fresh = 0;
  /** The event of the newest of them; 0: there is none. */
  cause = 0;
  /** It stands in the list of those to tell the host about. */
  touched = false;
  readonly #dma: DmaPort;
  readonly #entry = new Uint32Array(WORDS);
  readonly #entryBytes = new Uint8Array(this.#entry.buffer);

  constructor(dma: DmaPort, id: number, iova: Iova, size: number, vector: number, interrupts: boolean) {
    this.id = id;
    this.size = size;
    this.vector = vector;
    this.interrupts = interrupts;
    this.ring = new Ring(dma, iova, size, CQE_SIZE, Access.WRITE);
    this.#dma = dma;
  }

  /** Entries posted that the host has not consumed. */
  get held(): number {
    return entriesFrom(this.head, this.tail, this.size);
  }

  get full(): boolean {
    return nextIndex(this.tail, this.size) === this.head;
  }

  /**
   * Whether the host may move the head to `head`: within the queue, by one entry or more, not past
   * the tail (5.2.1).
   */
  takesHead(head: number): boolean {
    if (head >= this.size || head === this.head) return false;
    return entriesFrom(this.head, head, this.size) <= this.held;
  }

  /** `command` waits for room. */
  wait(command: Command): void {
    command.next = null;
    if (this.last === null) this.first = command;
    else this.last.next = command;
    this.last = command;
  }

  /** The oldest that waits, taken from the list. */
  takeWaiting(): Command | null {
    const { first } = this;
    if (first === null) return null;
    this.first = first.next;
    if (this.first === null) this.last = null;
    first.next = null;
    return first;
  }

  /** Post the completion of `command`; there must be room. @param sqHead of its submission queue */
  post(command: Command, sqHead: number): Dma {
    const words = this.ring.words();
    const dw3 = ((command.status << 17) | (this.phase << 16) | command.id) >>> 0;
    const dw2 = ((command.queueId << 16) | sqHead) >>> 0;
    if (words !== null) {
      const at = this.tail * WORDS;
      words[at] = command.result;
      words[at + 1] = 0;
      words[at + 2] = dw2;
      // The host polls the phase tag, so the store of the tag comes last, for other processors too.
      Atomics.store(words, at + 3, dw3);
    } else {
      const entry = this.#entry;
      entry[0] = command.result;
      entry[1] = 0;
      entry[2] = dw2;
      entry[3] = dw3;
      const done = this.#dma.tryWrite(this.ring.at(this.tail), this.#entryBytes);
      if (done !== Dma.DONE) return done;
    }
    this.#advance();
    this.fresh++;
    return Dma.DONE;
  }

  /**
   * Post `count` completions of commands that succeeded, in `words`, the ring; there must be room.
   *
   * @param ids of the commands, @param sqHead of their submission queue `queueId`
   */
  postMany(words: Uint32Array, ids: Uint16Array, count: number, queueId: number, sqHead: number): void {
    const dw2 = ((queueId << 16) | sqHead) >>> 0;
    const first = this.tail * WORDS + 3;
    const tag = (this.phase << 16) | ids[0]!;
    for (let i = 0; i < count; i++) {
      const at = this.tail * WORDS;
      words[at] = 0;
      words[at + 1] = 0;
      words[at + 2] = dw2;
      if (i > 0) words[at + 3] = (this.phase << 16) | ids[i]!;
      this.#advance();
    }
    // The host looks at the entries in their order, so the first phase tag announces them all and
    // is stored last. An atomic store is a release: stores before it are seen before it. On ARM,
    // plain stores after it may be seen before it.
    Atomics.store(words, first, tag);
    this.fresh += count;
  }

  /**
   * Post the oldest waiting completions, as many as one message carries, to remote memory; the
   * queue must have room. They leave the list at once and count as posted, because the host may
   * consume them before the answer to the message arrives. `sent` has them until the caller has
   * ended them and calls `landed`, so that a halt in between does not take them for commands that
   * are to begin again.
   *
   * @param sqHead of the submission queue that a command came from
   * @throws DmaFault
   */
  async postRemote(sqHead: (command: Command) => number): Promise<readonly Command[]> {
    const room = this.size - 1 - this.held;
    const count = Math.min(room, this.size - this.tail, POST_MAX);
    const commands: Command[] = [];
    const entries = new Uint32Array(count * WORDS);
    while (commands.length < count) {
      const command = this.takeWaiting();
      if (command === null) break;
      const at = commands.length * WORDS;
      entries[at] = command.result;
      entries[at + 2] = ((command.queueId << 16) | sqHead(command)) >>> 0;
      entries[at + 3] = ((command.status << 17) | (this.phase << 16) | command.id) >>> 0;
      commands.push(command);
    }
    const at = this.ring.at(this.tail);
    for (let i = 0; i < commands.length; i++) this.#advance();
    this.posting = true;
    this.sent = commands;
    await this.#dma.write(at, new Uint8Array(entries.buffer, 0, commands.length * CQE_SIZE));
    this.fresh += commands.length;
    return commands;
  }

  /** The commands of `sent` have ended. */
  landed(): void {
    this.posting = false;
    this.sent = [];
  }

  /** Drop those that wait and come from submission queue `queueId`, telling each. */
  dropWaiting(queueId: number, dropped: (command: Command) => void): void {
    let command = this.first;
    this.first = null;
    this.last = null;
    while (command !== null) {
      const { next } = command;
      if (command.queueId === queueId) dropped(command);
      else this.wait(command);
      command = next;
    }
  }

  #advance(): void {
    this.tail++;
    if (this.tail === this.size) {
      this.tail = 0;
      this.phase ^= 1;
    }
  }
}
