/** A wire that plays a capture file to its port: pcap or pcapng. */
import { readFileSync, statSync } from 'node:fs';
import { Loss, MAX_FRAME, type Wire, type WireEnd, type WirePort } from '../../abi/wire.ts';
import { WireTally } from '../../abi/wire-tally.ts';
import { type Clock, SystemClock } from '../../base/clock.ts';
import { VfioError } from '../../base/errno.ts';
import { callForeign, surface } from '../../base/foreign.ts';
import { type FileFrame, framesOf } from '../../base/frame-file.ts';
import { fromNode } from '../system-error.ts';
import { FRAMES_PER_TURN } from './frame-channel.ts';

/** A larger file is refused: it is read as a whole. */
const MAX_BYTES = 2 ** 30;

/** Times of frames: those of the file, or one after the other without a pause. */
export type Pace = 'recorded' | 'fast';

/** Options of a wire that plays a file. */
export interface RecordedOptions {
  readonly pace?: Pace;
  /** Default: the system's. */
  readonly clock?: Clock;
  /** Gets a line when the file has ended. Default: nothing does. */
  readonly report?: (line: string) => void;
}

/**
 * Plays the frames of the file once, from the moment when the port's link is on. Frames that the
 * port sends have no receiver: they are lost and counted.
 *
 * @throws VfioError ENOENT, EACCES; EINVAL for a file that is no capture of Ethernet frames; EFBIG
 *   for one of more than 1 GiB
 */
export function recordedWire(path: string, options: RecordedOptions = {}): Wire {
  let bytes: Uint8Array;
  try {
    if (statSync(path).size > MAX_BYTES) throw new VfioError('EFBIG', `${path} has more than 1 GiB`, { fix: 'Cut it: editcap -c.' });
    bytes = readFileSync(path);
  } catch (error) {
    throw error instanceof VfioError ? error : fromNode(error, `the capture ${path} cannot be read`);
  }
  return new RecordedWire(path, framesOf(bytes, path), options);
}

class RecordedWire implements Wire {
  readonly name: string;
  readonly counters = new WireTally();
  readonly #frames: readonly FileFrame[];
  readonly #pace: Pace;
  readonly #clock: Clock;
  readonly #report: (line: string) => void;
  #port: WirePort | null = null;
  #link = false;
  #next = 0;
  /** On the clock: when the first frame of the file was played. */
  #startNs: number | null = null;
  #timer: Disposable | null = null;

  constructor(path: string, frames: readonly FileFrame[], options: RecordedOptions) {
    const { pace = 'recorded', clock = new SystemClock(), report = () => {} } = options;
    this.name = `pcap ${path}`;
    this.#frames = frames;
    this.#pace = pace;
    this.#clock = clock;
    this.#report = report;
    this.counters.waiting = frames.length;
  }

  plug(port: WirePort): WireEnd {
    if (this.#port !== null) {
      throw new VfioError('EBUSY', `a port is plugged into ${this.name} already`, { fix: 'Give each device a wire of its own.' });
    }
    this.#port = port;
    return {
      up: true,
      ready: true,
      send: (bytes, offset, length) => this.send(bytes, offset, length),
      setLink: (on) => this.setLink(on),
      [Symbol.dispose]: () => {
        if (this.#port === port) this.#unplug();
      },
    };
  }

  send(_bytes: Uint8Array, _offset: number, length: number): void {
    this.counters.countSent(length);
    this.counters.lose(Loss.NO_RECEIVER);
  }

  setLink(on: boolean): void {
    this.#link = on;
    if (on && this.#timer === null) this.#schedule();
  }

  #schedule(): void {
    const frame = this.#frames[this.#next];
    if (frame === undefined || !this.#link) return;
    const now = this.#clock.nowNs();
    this.#startNs ??= now;
    const due = this.#pace === 'fast' ? 0 : Math.max(0, this.#startNs + Number(frame.timeNs - this.#frames[0]!.timeNs) - now);
    this.#timer = this.#clock.after(due / 1e6, () => this.#play());
  }

  #play(): void {
    this.#timer = null;
    const now = this.#clock.nowNs();
    for (let i = 0; i < FRAMES_PER_TURN && this.#link && this.#port !== null; i++) {
      const frame = this.#frames[this.#next];
      if (frame === undefined) break;
      const due = this.#startNs! + Number(frame.timeNs - this.#frames[0]!.timeNs);
      // A clock in milliseconds may wake a little early.
      if (this.#pace === 'recorded' && due > now + 1000) break;
      this.#next++;
      this.counters.waiting--;
      this.#deliver(frame.bytes, this.#port);
      if (this.#next === this.#frames.length) this.#report(`${this.name}: all ${this.#next} frames are played`);
    }
    this.#schedule();
  }

  #deliver(bytes: Uint8Array, port: WirePort): void {
    if (bytes.length > MAX_FRAME) {
      this.counters.miss(Loss.TOO_LONG);
      return;
    }
    this.counters.countReceived(bytes.length);
    callForeign(
      this.name,
      () => port.receive(bytes, 0, bytes.length),
      (_what, error) => surface(error),
    );
  }

  #unplug(): void {
    this.#timer?.[Symbol.dispose]();
    this.#timer = null;
    this.#port = null;
    this.#link = false;
  }

  [Symbol.dispose](): void {
    this.#unplug();
    this.counters.miss(Loss.NO_CARRIER, this.counters.waiting);
    this.counters.waiting = 0;
    this.#next = this.#frames.length;
  }
}
