/** One direction of an impaired wire. */
import { Loss, MAX_FRAME } from '../../abi/wire.ts';
import type { Clock } from '../../base/clock.ts';
import { FrameQueue } from '../../base/frame-queue.ts';

/** Things that a wire does to frames besides carrying them. */
export interface Impairments {
  /** Probability that a frame is lost, 0 to 1. Default: 0. */
  readonly loss?: number;
  /** Probability that a frame arrives twice. Default: 0. */
  readonly duplicate?: number;
  /** Probability that a frame changes places with the next one. Default: 0. */
  readonly reorder?: number;
  /** Time that each frame is under way. Default: 0. */
  readonly delayMs?: number;
  /** Up to so much more, by chance. Frames keep their order. Default: 0. */
  readonly jitterMs?: number;
  /**
   * Bits per second. Each frame counts 24 bytes more, as on a cable: preamble, check sequence and
   * gap. Default: no limit.
   */
  readonly rate?: number;
  /** Seed of all chances. Default: 1. */
  readonly seed?: number;
}

/** Longest time that a frame waits for the next one to change places with. */
const SWAP_MS = 10;
/** Preamble, frame check sequence and gap between packets (IEEE 802.3, 3.1.1, 4.4.2). */
const FRAMING_BYTES = 24;

/** A lane's view of the wire around it. */
export interface LanePort {
  /** Whether the place where frames leave the lane takes more. */
  readonly open: boolean;
  leave(bytes: Uint8Array, offset: number, length: number): void;
  lost(reason: string): void;
  copied(): void;
  /** The lane holds `frames` more, or fewer. */
  holds(frames: number): void;
  /** Room is free again after the lane was full. */
  roomAgain(): void;
}

/** Frames of one direction, between chance and clock. */
export class Lane {
  readonly #what: Required<Impairments>;
  readonly #random: () => number;
  readonly #clock: Clock;
  readonly #port: LanePort;
  readonly #limit: number;
  /** Frames that are under way, in the order in which they leave, each with its time. */
  readonly #queue: FrameQueue;
  /** At most one frame that waits for the next, to change places with it. */
  readonly #swapped: FrameQueue;
  /** A copy of the frame that leaves: frames that enter meanwhile may move the queue's bytes. */
  readonly #frame: Uint8Array;
  #swapTimer: Disposable | null = null;
  #timer: Disposable | null = null;
  /** When the line has sent all that it was given; when the last frame leaves. */
  #lineFreeNs = 0;
  #lastNs = 0;
  #full = false;
  #leaving = false;

  /** @param limit bytes that wait before the lane is not ready @param room bytes beyond that */
  constructor(what: Impairments, random: () => number, clock: Clock, port: LanePort, limit: number, room: number) {
    this.#what = { loss: 0, duplicate: 0, reorder: 0, delayMs: 0, jitterMs: 0, rate: 0, seed: 1, ...what };
    this.#random = random;
    this.#clock = clock;
    this.#port = port;
    this.#limit = limit;
    this.#queue = new FrameQueue(limit + room);
    this.#swapped = new FrameQueue(2 ** 16);
    this.#frame = new Uint8Array(MAX_FRAME);
  }

  get ready(): boolean {
    return !this.#full;
  }

  enter(bytes: Uint8Array, offset: number, length: number): void {
    const { loss, duplicate, reorder } = this.#what;
    if (length > MAX_FRAME) {
      this.#port.lost(Loss.TOO_LONG);
      return;
    }
    if (loss > 0 && this.#random() < loss) {
      this.#port.lost(Loss.CHANCE);
      return;
    }
    if (reorder > 0 && this.#swapped.count === 0 && this.#random() < reorder) {
      if (this.#swapped.push(bytes, offset, length)) {
        this.#port.holds(1);
        this.#swapTimer = this.#clock.after(SWAP_MS, () => this.#swapBack());
        return;
      }
    }
    this.#travel(bytes, offset, length);
    if (duplicate > 0 && this.#random() < duplicate) {
      this.#port.copied();
      this.#travel(bytes, offset, length);
    }
    if (this.#swapped.count > 0) this.#swapBack();
  }

  /** The frame that waited for the next one goes its way. */
  #swapBack(): void {
    this.#swapTimer?.[Symbol.dispose]();
    this.#swapTimer = null;
    if (this.#swapped.count === 0) return;
    const { bytes, frontOffset, frontLength } = this.#swapped;
    this.#swapped.shift();
    this.#port.holds(-1);
    this.#travel(bytes, frontOffset, frontLength);
  }

  #travel(bytes: Uint8Array, offset: number, length: number): void {
    const due = this.#dueOf(length);
    if (due === 0 && this.#queue.count === 0 && !this.#leaving && this.#port.open) {
      this.#leaving = true;
      this.#port.leave(bytes, offset, length);
      this.#leaving = false;
      if (this.#queue.count > 0) this.#schedule();
      return;
    }
    if (!this.#queue.push(bytes, offset, length, 0, due)) {
      this.#port.lost(Loss.OVERFLOW);
      return;
    }
    this.#port.holds(1);
    if (this.#queue.held >= this.#limit) this.#full = true;
    this.#schedule();
  }

  /** When the frame leaves; 0: now. */
  #dueOf(length: number): number {
    const { rate, delayMs, jitterMs } = this.#what;
    if (rate === 0 && delayMs === 0 && jitterMs === 0) return 0;
    let due = this.#clock.nowNs();
    if (rate > 0) {
      this.#lineFreeNs = Math.max(due, this.#lineFreeNs) + ((length + FRAMING_BYTES) * 8e9) / rate;
      due = this.#lineFreeNs;
    }
    due += delayMs * 1e6;
    if (jitterMs > 0) due += this.#random() * jitterMs * 1e6;
    this.#lastNs = Math.max(this.#lastNs, due);
    return this.#lastNs;
  }

  #schedule(): void {
    if (this.#timer !== null || this.#queue.count === 0 || this.#leaving || !this.#port.open) return;
    const left = Math.max(0, this.#queue.frontTime - this.#clock.nowNs()) / 1e6;
    this.#timer = this.#clock.after(left, () => {
      this.#timer = null;
      this.flow();
    });
  }

  /** Frames that are due leave, as far as the place beyond takes them. */
  flow(): void {
    const queue = this.#queue;
    const now = this.#clock.nowNs();
    this.#leaving = true;
    // Frames that enter meanwhile leave later: the number is that of the beginning.
    for (let left = queue.count; left > 0 && queue.count > 0 && this.#port.open; left--) {
      // A clock in milliseconds may wake a little early.
      if (queue.frontTime > now + 1000) break;
      const { frontOffset, frontLength, bytes } = queue;
      this.#frame.set(bytes.subarray(frontOffset, frontOffset + frontLength));
      queue.shift();
      this.#port.holds(-1);
      this.#port.leave(this.#frame, 0, frontLength);
    }
    this.#leaving = false;
    if (this.#full && queue.held < this.#limit / 2) {
      this.#full = false;
      this.#port.roomAgain();
    }
    this.#schedule();
  }

  /** All frames that wait are lost. */
  end(): void {
    this.#timer?.[Symbol.dispose]();
    this.#swapTimer?.[Symbol.dispose]();
    this.#timer = null;
    this.#swapTimer = null;
    for (const frames of [this.#queue.clear(), this.#swapped.clear()]) {
      this.#port.holds(-frames);
      for (let i = 0; i < frames; i++) this.#port.lost(Loss.NO_CARRIER);
    }
  }
}
