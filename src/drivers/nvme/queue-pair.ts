/**
 * A submission queue and its completion queue (NVMe 1.4, 4.1). Two ways in: `run` gives a promise
 * and waits for room; `put` is the ring itself, for thousands of commands in flight, and allocates
 * nothing. One doorbell write announces all commands put since the last one.
 */
import { CQE_SIZE, SQE_SIZE } from '../../abi/nvme.ts';
import { Status } from '../../abi/nvme-status.ts';
import type { WaitEvents } from '../kit/wait-events.ts';
import { CommandSlots } from './command-slots.ts';
import { CommandWaits } from './command-waits.ts';
import type { DmaRange } from './dma-range.ts';
import type { Doorbells } from './doorbells.ts';
import { NvmeError } from './errors.ts';
import type { PrpLists } from './prp.ts';
import { type Submission, SubmissionList } from './submission.ts';

/** The surroundings of a queue: the time that it needs, and the callbacks for its events. */
export interface QueueOwner {
  readonly deviceName: string;
  /** Where the driver's waits for commands are reported. */
  readonly waits: WaitEvents;
  /** The time in ticks of the watchdog. */
  readonly tick: number;
  /** A command is in flight, or waits for room, and keeps the process alive. */
  busy(): void;
  idle(): void;
  /** A command was put and rung. Without interrupts, the driver has to poll for its completion. */
  rung(queue: QueuePair): void;
  /** The controller has broken the specification. Called once, from `poll`. */
  fault(queue: QueuePair, what: string): void;
  /** A register could not be reached. */
  lost(error: unknown): void;
}

export class QueuePair {
  readonly id: number;
  readonly entries: number;
  readonly #owner: QueueOwner;
  readonly #doorbells: Doorbells;
  readonly #prps: PrpLists;
  readonly #sq: Uint32Array;
  readonly #cq: Uint32Array;
  readonly #fence: Int32Array;
  #tail = 0;
  /** The announced tail. */
  #rung = 0;
  /** The tail in the register; with shadow doorbells it may be older. */
  #written = 0;
  #head = 0;
  #phase = 1;

  /**
   * A slot for each entry but one: so the tail never reaches an entry that the controller has not
   * fetched.
   */
  readonly #slots: CommandSlots;
  /** Reports the waits for its commands as events. */
  readonly waits: CommandWaits;
  /** Submissions that wait for room. */
  readonly #waiting = new SubmissionList();
  /** Number of commands in flight or waiting, without background ones. */
  #foreground = 0;
  #open = false;
  /** Changes at every `close`, so that code after a callback notices a close. */
  #life = 0;
  #polling = false;
  #ringScheduled = false;
  readonly #ringLater: () => void;
  /** Commands completed since the beginning. */
  completed = 0;
  /** Ticks that a command of the ring may take; 0: no limit. */
  ringLimit = 0;
  /**
   * Called at the end of each command that was put with a tag, with its status (0, or as in
   * `Status`, with More and Do Not Retry) and dword 0. The callback may put more commands. The
   * status is `Status.ABORTED_BY_HOST` when the controller was reset, or went, before the command
   * ended.
   */
  onComplete: (tag: number, status: number, result: number) => void = () => {};

  /** @param sq `entries` of 64 bytes, @param cq of 16, both page-aligned */
  constructor(id: number, entries: number, sq: DmaRange, cq: DmaRange, prps: PrpLists, doorbells: Doorbells, owner: QueueOwner) {
    this.id = id;
    this.entries = entries;
    this.#owner = owner;
    this.#doorbells = doorbells;
    this.#prps = prps;
    this.#sq = sq.words(0, (entries * SQE_SIZE) / 4);
    this.#cq = cq.words(0, (entries * CQE_SIZE) / 4);
    this.#fence = new Int32Array(this.#cq.buffer, this.#cq.byteOffset, 1);
    this.#slots = new CommandSlots(entries - 1);
    this.waits = new CommandWaits(id, entries - 1, owner.waits);
    this.#ringLater = () => {
      this.#ringScheduled = false;
      this.ring();
    };
  }

  /** The most bytes of data that a command has. */
  get maxTransfer(): number {
    return this.#prps.maxBytes;
  }

  /** Number of commands that can be in flight at a time. */
  get depth(): number {
    return this.entries - 1;
  }

  /** Number of commands in flight, rung or not. */
  get inFlight(): number {
    return this.#open ? this.depth - this.#slots.room : 0;
  }

  /**
   * Whether a command is in flight, or waits for room, that ends by itself. Requests for events do
   * not.
   */
  get awaited(): boolean {
    return this.#open && this.#foreground > 0;
  }

  /** Number of commands that can be put now. */
  get room(): number {
    return this.#slots.room;
  }

  /** Whether the queue takes commands, because the controller has it. */
  get isOpen(): boolean {
    return this.#open;
  }

  /** Make the queue empty, as the controller has it after it created it. */
  open(): void {
    this.#sq.fill(0);
    this.#cq.fill(0);
    this.#tail = this.#rung = this.#written = this.#head = 0;
    this.#phase = 1;
    this.#slots.open();
    this.#open = true;
    this.#refill();
  }

  /** Put and take nothing any more. Commands in flight stay so until `close`. */
  pause(): void {
    this.#open = false;
    this.#life++;
    this.#slots.pause();
  }

  /**
   * The controller does not use the queue any more. Commands in flight end with `error`, and with
   * `waitingToo` also those that wait for room. The caller makes sure that the controller cannot
   * reach the data any more, because the data's owners may use it again.
   */
  close(error: Error, waitingToo: boolean): void {
    this.pause();
    const slots = this.#slots;
    for (let slot = 0; slot < this.depth; slot++) {
      if (!slots.inUse(slot)) continue;
      const submission = slots.drop(slot);
      this.waits.failed(slot, error);
      if (submission === null || !submission.background) this.#less();
      if (submission !== null) submission.reject(error);
      else this.#tell(slots.tags[slot]!, Status.ABORTED_BY_HOST, 0);
    }
    if (!waitingToo) return;
    for (let submission = this.#waiting.take(); submission !== null; submission = this.#waiting.take()) {
      if (!submission.background) this.#less();
      submission.reject(error);
    }
  }

  /**
   * Put the command, now or when there is room, and ring soon. Commands that are run in one turn
   * share one doorbell write.
   */
  run(submission: Submission): Promise<number> {
    if (!submission.background) this.#more();
    if (!this.#waiting.empty || this.#slots.room === 0) this.#waiting.add(submission);
    else this.#start(submission);
    return submission.done;
  }

  /**
   * Put a command into the submission queue; `ring` announces it to the controller.
   *
   * @param iova and `size` of the data, as `PrpLists.write` takes them; size 0: none
   * @returns its slot; -1 when the queue is full or closed
   */
  put(
    opcode: number,
    nsid: number,
    iova: number,
    size: number,
    cdw10: number,
    cdw11: number,
    cdw12: number,
    cdw13: number,
    cdw14: number,
    cdw15: number,
    tag: number,
  ): number {
    const slots = this.#slots;
    if (slots.room === 0) return -1;
    this.#more();
    const slot = this.#place(opcode, nsid, iova, size, cdw10, cdw11, cdw12, cdw13, cdw14, cdw15);
    slots.tags[slot] = tag;
    slots.limits[slot] = this.ringLimit;
    return slot;
  }

  /** Announce to the controller all commands put since the last call. */
  ring(): void {
    if (this.#tail === this.#rung || !this.#open) return;
    const old = this.#rung;
    this.#rung = this.#tail;
    try {
      if (this.#doorbells.ring(2 * this.id, old, this.#rung)) this.#written = this.#rung;
    } catch (error) {
      this.#owner.lost(error);
      return;
    }
    this.#owner.rung(this);
  }

  /**
   * With shadow doorbells, write the register too if its value is older: the controller seems not
   * to have looked at the shadow.
   */
  ringAgain(): void {
    if (!this.#open || this.#written === this.#rung) return;
    this.#written = this.#rung;
    this.#doorbells.write(2 * this.id, this.#rung);
  }

  /**
   * Take completions.
   *
   * @param max the most completions to take
   * @returns the number taken
   */
  poll(max = this.entries): number {
    if (this.#polling || !this.#open) return 0;
    const cq = this.#cq;
    const { entries } = this;
    let head = this.#head;
    let phase = this.#phase;
    let ready = 0;
    const most = max < entries ? max : entries;
    while (ready < most && ((cq[4 * head + 3]! >>> 16) & 1) === phase) {
      ready++;
      if (++head === entries) {
        head = 0;
        phase ^= 1;
      }
    }
    if (ready === 0) return 0;
    // The driver has seen the phase. It reads the rest of the entries, and the data, after that.
    Atomics.load(this.#fence, 0);
    const life = this.#life;
    const from = this.#head;
    this.#polling = true;
    let taken = 0;
    while (taken < ready && this.#life === life) {
      const at = 4 * this.#head;
      if (++this.#head === entries) {
        this.#head = 0;
        this.#phase ^= 1;
      }
      taken++;
      if (!this.#complete(cq[at]!, cq[at + 2]!, cq[at + 3]!)) break;
    }
    this.#polling = false;
    if (this.#life !== life) return taken;
    try {
      this.#doorbells.ring(2 * this.id + 1, from, this.#head);
    } catch (error) {
      this.#owner.lost(error);
      return taken;
    }
    if (!this.#waiting.empty) this.#refill();
    return taken;
  }

  /** Whether a completion waits that the driver has not taken. */
  get ready(): boolean {
    return this.#open && ((this.#cq[4 * this.#head + 3]! >>> 16) & 1) === this.#phase;
  }

  /** @see CommandSlots.overdue */
  overdue(tick: number, from = 0): number {
    return this.#open ? this.#slots.overdue(tick, from) : -1;
  }

  /** @see CommandSlots.remind */
  remind(slot: number, tick: number): boolean {
    return this.#slots.remind(slot, tick);
  }

  /** The command identifier of what is in `slot`. */
  commandId(slot: number): number {
    return this.#slots.commandId(slot);
  }

  #start(s: Submission): void {
    const slot = this.#place(s.opcode, s.nsid, s.iova, s.size, s.cdw10, s.cdw11, s.cdw12, s.cdw13, s.cdw14, s.cdw15);
    this.#slots.submissions[slot] = s;
    this.#slots.limits[slot] = s.limit;
    if (s.background) this.waits.forget(slot);
    if (this.#ringScheduled) return;
    this.#ringScheduled = true;
    queueMicrotask(this.#ringLater);
  }

  #place(
    opcode: number,
    nsid: number,
    iova: number,
    size: number,
    cdw10: number,
    cdw11: number,
    cdw12: number,
    cdw13: number,
    cdw14: number,
    cdw15: number,
  ): number {
    const slots = this.#slots;
    const slot = slots.take(this.#owner.tick);
    this.waits.begin(slot, opcode);
    const sq = this.#sq;
    const at = 16 * this.#tail;
    sq[at] = opcode | (slots.commandId(slot) << 16);
    sq[at + 1] = nsid;
    sq[at + 2] = 0;
    sq[at + 3] = 0;
    sq[at + 4] = 0;
    sq[at + 5] = 0;
    this.#prps.write(slot, sq, at, iova, size);
    sq[at + 10] = cdw10;
    sq[at + 11] = cdw11;
    sq[at + 12] = cdw12;
    sq[at + 13] = cdw13;
    sq[at + 14] = cdw14;
    sq[at + 15] = cdw15;
    this.#tail = this.#tail + 1 === this.entries ? 0 : this.#tail + 1;
    return slot;
  }

  /** @returns false for an entry that makes no sense; entries behind it are not believed */
  #complete(result: number, dw2: number, dw3: number): boolean {
    const slots = this.#slots;
    const cid = dw3 & 0xffff;
    const slot = slots.find(cid);
    if (slot < 0) {
      return this.#fault(`it completed command 0x${cid.toString(16)} of queue ${this.id}, which is not in flight`);
    }
    if (dw2 >>> 16 !== this.id) return this.#fault(`a completion in queue ${this.id} names submission queue ${dw2 >>> 16}`);
    if ((dw2 & 0xffff) >= this.entries)
      return this.#fault(`the head of submission queue ${this.id} is ${dw2 & 0xffff} of ${this.entries} entries`);
    const status = dw3 >>> 17;
    const submission = slots.give(slot);
    this.completed++;
    this.waits.ended(slot, status);
    if (submission === null || !submission.background) this.#less();
    if (submission === null) this.#tell(slots.tags[slot]!, status, result);
    else if (status === Status.SUCCESS) submission.resolve(result);
    else submission.reject(new NvmeError(submission, status, this.#owner.deviceName));
    return true;
  }

  #tell(tag: number, status: number, result: number): void {
    try {
      this.onComplete(tag, status, result);
    } catch (error) {
      // The callback's error surfaces as an uncaught one, as a timer callback's does, so that the
      // other completions are not lost.
      queueMicrotask(() => {
        throw error;
      });
    }
  }

  #fault(what: string): false {
    this.#owner.fault(this, what);
    return false;
  }

  #refill(): void {
    while (!this.#waiting.empty && this.#slots.room > 0) this.#start(this.#waiting.take()!);
  }

  #more(): void {
    if (this.#foreground++ === 0) this.#owner.busy();
  }

  #less(): void {
    if (--this.#foreground === 0) this.#owner.idle();
  }
}
