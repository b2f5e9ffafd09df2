/** Sends frames as fast as the card takes them, or at a rate. */
import { VfioError } from '../../base/errno.ts';
import type { FileFrame } from '../../base/frame-file.ts';
import { generatedFrame, numberFrame } from './generated.ts';
import { type LoopTools, processTools, type SendRing } from './rings.ts';

/** Frames in an order that may have no end. */
export interface FrameSequence {
  lengthOf(index: number): number;
  /** Writes frame `index` to `bytes` at `at`. */
  write(index: number, bytes: Uint8Array, at: number): void;
}

/** Frames that begin anew at their end. */
export class ListedFrames implements FrameSequence {
  readonly #frames: readonly Uint8Array[];

  constructor(frames: readonly Uint8Array[]) {
    this.#frames = frames;
  }

  static of(frames: readonly FileFrame[]): ListedFrames {
    return new ListedFrames(frames.map(({ bytes }) => bytes));
  }

  lengthOf(index: number): number {
    return this.#frames[index % this.#frames.length]!.length;
  }

  write(index: number, bytes: Uint8Array, at: number): void {
    bytes.set(this.#frames[index % this.#frames.length]!, at);
  }
}

/** Frames of one size, each with its number. */
export class NumberedFrames implements FrameSequence {
  readonly #frame: Uint8Array;

  /** @param size without frame check sequence */
  constructor(size: number, from: Uint8Array, to: Uint8Array) {
    this.#frame = generatedFrame(size, from, to);
  }

  lengthOf(): number {
    return this.#frame.length;
  }

  write(index: number, bytes: Uint8Array, at: number): void {
    bytes.set(this.#frame, at);
    numberFrame(bytes, at, index >>> 0);
  }
}

export interface SendLoopOptions {
  /** Default: no limit. */
  readonly count?: number;
  readonly seconds?: number;
  /** Frames a second. Default: no limit. */
  readonly rate?: number;
  readonly signal?: AbortSignal;
  /** Seconds after which a card that takes nothing is ETIMEDOUT. Default: 5. */
  readonly patienceSeconds?: number;
  readonly tools?: LoopTools;
}

export interface SendResult {
  /** That the card has taken. */
  readonly frames: number;
  readonly bytes: number;
  readonly seconds: number;
}

/** Between two looks at the clock. */
const BATCH = 64;
/** A pause that is worth a timer. */
const SLEEP_NS = 2e6;

/** @throws VfioError ETIMEDOUT when the card takes no more frames */
export async function sendFrames(ring: SendRing, frames: FrameSequence, options: SendLoopOptions): Promise<SendResult> {
  const {
    count = Number.POSITIVE_INFINITY,
    seconds = Number.POSITIVE_INFINITY,
    rate,
    signal,
    patienceSeconds = 5,
    tools = processTools,
  } = options;
  const begun = tools.now();
  const first = ring.completed;
  let sent = 0;
  let bytes = 0;
  let elapsed = 0;
  let progress = begun;
  let taken = first;
  const wanted = () => sent < count && elapsed < seconds * 1e9 && signal?.aborted !== true;
  while (wanted() || ring.completed < ring.committed) {
    // The first frame goes at once, and each later one when its time has come.
    const due = rate === undefined ? Number.POSITIVE_INFINITY : Math.floor((elapsed / 1e9) * rate) + 1;
    if (wanted()) {
      for (let i = 0; i < BATCH && sent < Math.min(count, due); i++) {
        const length = frames.lengthOf(sent);
        const at = ring.reserve(length);
        if (at < 0) break;
        frames.write(sent, ring.bytes, at);
        ring.commit(length);
        sent++;
        bytes += length;
      }
      ring.ring();
    }
    ring.reclaim();
    const now = tools.now();
    elapsed = now - begun;
    if (ring.completed > taken || ring.completed === ring.committed) progress = now;
    taken = ring.completed;
    if (now - progress > patienceSeconds * 1e9) {
      throw new VfioError(
        'ETIMEDOUT',
        `the card has taken no frame for ${patienceSeconds} s; ${taken - first} of ${sent} were taken before`,
      );
    }
    const pause = rate === undefined || !wanted() ? 0 : (sent / rate) * 1e9 - elapsed;
    if (pause > SLEEP_NS) await tools.sleep(Math.min(pause / 1e6, 100));
    else await tools.turn();
  }
  return { frames: ring.completed - first, bytes, seconds: elapsed / 1e9 };
}
