/**
 * Load on a wire: so many frames in flight from one ring to another, a new one for each that
 * arrives, and how long each took. No frame allocates memory, so the figures are those of drivers
 * and cards.
 */
import { VfioError } from '../../base/errno.ts';
import { LatencyHistogram } from '../nvme/latency-histogram.ts';
import { generatedFrame, numberFrame, numberOf } from './generated.ts';
import { type LoopTools, processTools, type ReceiveRing, type SendRing } from './rings.ts';

export interface LoadOptions {
  /** Bytes of a frame, without frame check sequence. */
  readonly size: number;
  readonly from: Uint8Array;
  readonly to: Uint8Array;
  /** Frames in flight. */
  readonly depth: number;
  readonly seconds: number;
  /** Before the figures begin, so that the compiler has done its work. Default: 0.3. */
  readonly warmupSeconds?: number;
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds after which frames that have not arrived are lost. Default: 100. */
  readonly lostMs?: number;
  readonly tools?: LoopTools;
}

export interface LoadResult {
  readonly seconds: number;
  readonly frames: number;
  readonly lost: number;
  /** Frames of others that arrived meanwhile. */
  readonly others: number;
  readonly framesPerSecond: number;
  /** Nanoseconds, from the announcement of a frame to the moment when it is found. */
  readonly latency: LatencyHistogram;
}

/** How long nothing else in this process gets a turn. */
const TURN_NS = 500_000;
/** Numbers of frames whose times are kept: more than can be in flight. */
const STAMPS = 1024;
/** Losses of everything in flight, in a row, after which the ports have no way to each other. */
const LOSSES_MAX = 20;

/** @throws VfioError ETIMEDOUT when no frame arrives */
export async function runLoad(send: SendRing, receive: ReceiveRing, options: LoadOptions): Promise<LoadResult> {
  return await new Load(send, receive, options).run();
}

class Load {
  readonly #send: SendRing;
  readonly #receive: ReceiveRing;
  readonly #options: LoadOptions;
  readonly #tools: LoopTools;
  readonly #frame: Uint8Array;
  readonly #latency = new LatencyHistogram();
  readonly #stamps = new Float64Array(STAMPS);
  /** 1: the frame with that number is on its way. */
  readonly #flying = new Uint8Array(STAMPS);
  #next = 0;
  #inFlight = 0;
  #frames = 0;
  #lost = 0;
  #others = 0;

  constructor(send: SendRing, receive: ReceiveRing, options: LoadOptions) {
    this.#send = send;
    this.#receive = receive;
    this.#options = options;
    this.#tools = options.tools ?? processTools;
    this.#frame = generatedFrame(options.size, options.from, options.to);
  }

  async run(): Promise<LoadResult> {
    const { warmupSeconds = 0.3, seconds, signal } = this.#options;
    await this.#runFor(warmupSeconds);
    const { now } = this.#tools;
    this.#latency.clear();
    this.#frames = this.#lost = this.#others = 0;
    const begun = now();
    if (signal?.aborted !== true) await this.#runFor(seconds);
    const took = (now() - begun) / 1e9;
    const frames = this.#frames;
    await this.#settle();
    return {
      seconds: took,
      frames,
      lost: this.#lost,
      others: this.#others,
      framesPerSecond: frames / took,
      latency: this.#latency,
    };
  }

  async #runFor(seconds: number): Promise<void> {
    const { signal, lostMs = 100 } = this.#options;
    const { now, turn } = this.#tools;
    const begun = now();
    let turned = begun;
    let found = begun;
    let losses = 0;
    for (let time = begun; time - begun < seconds * 1e9 && signal?.aborted !== true; time = now()) {
      this.#fill();
      const arrived = this.#take();
      if (arrived > 0) {
        found = time;
        losses = 0;
      } else if (time - found > lostMs * 1e6) {
        this.#giveUp();
        found = time;
        if (++losses === LOSSES_MAX) {
          throw new VfioError('ETIMEDOUT', `no frame arrives: ${this.#lost} were lost one after another`, {
            fix: 'Name two cards that are on one wire.',
          });
        }
      }
      if (arrived === 0 || time - turned > TURN_NS) {
        await turn();
        turned = now();
      }
    }
  }

  #fill(): void {
    const { depth } = this.#options;
    const send = this.#send;
    const frame = this.#frame;
    const first = this.#next;
    while (this.#inFlight < depth) {
      const at = send.reserve(frame.length);
      if (at < 0) break;
      send.bytes.set(frame, at);
      numberFrame(send.bytes, at, this.#next);
      send.commit(frame.length);
      this.#flying[this.#next % STAMPS] = 1;
      this.#next = (this.#next + 1) >>> 0;
      this.#inFlight++;
    }
    if (first === this.#next) return;
    const time = this.#tools.now();
    for (let number = first; number !== this.#next; number = (number + 1) >>> 0) this.#stamps[number % STAMPS] = time;
    send.ring();
  }

  #take(): number {
    const receive = this.#receive;
    const arrived = receive.poll();
    if (arrived === 0) return 0;
    const time = this.#tools.now();
    let ours = 0;
    for (let i = 0; i < arrived; i++) {
      const number = numberOf(receive.bytes, receive.offsetOf(i), receive.lengthOf(i));
      const stamp = number % STAMPS;
      // A frame of another sender's, one that was given up, or a second copy.
      if (number < 0 || this.#flying[stamp] !== 1) {
        this.#others++;
        continue;
      }
      this.#flying[stamp] = 0;
      this.#latency.record(time - this.#stamps[stamp]!);
      ours++;
    }
    receive.release(arrived);
    this.#inFlight -= ours;
    this.#frames += ours;
    return ours;
  }

  #giveUp(): void {
    this.#lost += this.#inFlight;
    this.#inFlight = 0;
    this.#flying.fill(0);
  }

  /** Frames that are still on their way arrive, or are lost. */
  async #settle(): Promise<void> {
    const { now, turn } = this.#tools;
    const end = now() + (this.#options.lostMs ?? 100) * 1e6;
    while (this.#inFlight > 0 && now() < end) {
      this.#take();
      this.#send.reclaim();
      await turn();
    }
    this.#giveUp();
  }
}
