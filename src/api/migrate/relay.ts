/**
 * Carries the bytes of a move between source and destination. The relay reads the heads of the
 * frames to report the progress.
 */
import { VfioError } from '../../base/errno.ts';
import type { Pipe } from './endpoints.ts';
import { type Figures, figuresOf, type Progress, progressOf } from './figures.ts';
import { decodeJson, type Frame, frameSize, HEAD_BYTES, Kind } from './frames.ts';
import { refusal } from './link.ts';

export interface RelayOptions {
  /** Called at each report of the source, at most every 100 ms. */
  readonly onProgress?: (progress: Progress) => void;
  /** Called when the device stands still. */
  readonly onStopped?: () => void;
  /** Gives the move up. Without effect after the hand-over. */
  readonly signal?: AbortSignal;
  /** The time in milliseconds after which an end that takes nothing is gone. Default: 20 000. */
  readonly stallMs?: number;
}

/** Frames that are read; the others are only counted. */
const READ: ReadonlySet<number> = new Set([Kind.PROGRESS, Kind.STOPPED, Kind.GO, Kind.RUNNING, Kind.FIGURES, Kind.ABORT]);
/** Bytes that may wait here for the other end: with fewer, the two ends would take turns. */
const AHEAD_BYTES = 2 ** 20;
/** The time that both ends have to hear of a refusal. */
const GRACE_MS = 2000;
/** The time after RUNNING in which the source closes its device and sends its figures. */
const FIGURES_MS = 60_000;
/** Shorter than the wait of a source, which waits for the relay meanwhile. */
const STALL_MS = 20_000;

/**
 * Carry a move to its end.
 *
 * @internal
 * @returns its figures; null when the source did not send them
 * @throws VfioError (rejects) the refusal of either end; ECONNRESET when an end was lost; ETIMEDOUT
 *   when an end accepts no more data; EIO when an end was lost during the hand-over; EINTR when
 *   `signal` gave the move up
 */
export async function relay(source: Pipe, destination: Pipe, options: RelayOptions = {}): Promise<Figures | null> {
  return await new Relay(source, destination, options).run();
}

class Relay {
  readonly #source: Pipe;
  readonly #destination: Pipe;
  readonly #options: RelayOptions;
  #given = false;
  #running = false;
  #figures: Figures | null = null;
  #refused: VfioError | null = null;

  constructor(source: Pipe, destination: Pipe, options: RelayOptions) {
    this.#source = source;
    this.#destination = destination;
    this.#options = options;
  }

  async run(): Promise<Figures | null> {
    const { signal } = this.#options;
    const giveUp = (): void => {
      if (this.#given) return;
      this.#refused ??= new VfioError('EINTR', 'the move was given up: the device goes on where it was');
      this.#close();
    };
    if (signal?.aborted === true) giveUp();
    signal?.addEventListener('abort', giveUp);
    try {
      const pumps = [this.#pump(this.#source, this.#destination), this.#pump(this.#destination, this.#source)];
      // The pump that ends first ends the other, by the end of its stream.
      await Promise.race(pumps);
      const timer = setTimeout(() => this.#close(), this.#running ? FIGURES_MS : GRACE_MS);
      await Promise.all(pumps);
      clearTimeout(timer);
    } finally {
      signal?.removeEventListener('abort', giveUp);
      this.#close();
    }
    if (this.#running) return this.#figures;
    const refused = this.#refused;
    // An end that lost the other says so. Only the relay knows which two ends these are.
    const lost = refused === null || refused.code === 'ECONNRESET' || refused.code === 'EPIPE';
    if (!lost) throw refused;
    if (!this.#given) {
      const ends = `${this.#source.name} and ${this.#destination.name}`;
      throw new VfioError('ECONNRESET', `the connection between ${ends} was lost: the device goes on where it was`, { cause: refused });
    }
    throw new VfioError('EIO', 'the connection was lost in the moment in which the device was handed over', {
      fix: 'Ask the destination with --status. Where the device is there, run --let-go on the source; else --resume.',
    });
  }

  #close(): void {
    this.#source.close();
    this.#destination.close();
  }

  async #pump(from: Pipe, to: Pipe): Promise<void> {
    const tap = new FrameTap((frame) => this.#saw(frame));
    // The other pump reports the error when it ends.
    to.output.on('error', () => {});
    try {
      for await (const chunk of from.input as AsyncIterable<Buffer>) {
        tap.push(chunk);
        if (to.output.destroyed || to.output.writableEnded) break;
        if (!to.output.write(chunk) && to.output.writableLength > AHEAD_BYTES) await this.#drained(to);
        // After a refusal the end that gave up stays until both have heard of it.
        if (this.#refused !== null) break;
      }
    } catch (error) {
      if (error instanceof VfioError) this.#refused ??= error;
      else if ((error as NodeJS.ErrnoException).code === undefined) throw error;
    }
    to.output.end();
    if (this.#refused !== null) from.output.end();
  }

  async #drained({ output, name }: Pipe): Promise<void> {
    const late = await new Promise<boolean>((resolve) => {
      const timer = setTimeout(() => done(true), this.#options.stallMs ?? STALL_MS);
      const done = (isLate = false): void => {
        clearTimeout(timer);
        for (const event of ['drain', 'close', 'error']) output.off(event, ready);
        resolve(isLate);
      };
      const ready = (): void => done();
      for (const event of ['drain', 'close', 'error']) output.on(event, ready);
    });
    if (late) throw new VfioError('ETIMEDOUT', `${name} accepts no more data: the device continues at the source`);
  }

  #saw(frame: Frame): void {
    const { onProgress, onStopped } = this.#options;
    switch (frame.kind) {
      case Kind.PROGRESS:
        onProgress?.(progressOf(decodeJson(frame)));
        break;
      case Kind.STOPPED:
        onStopped?.();
        break;
      case Kind.GO:
        this.#given = true;
        break;
      case Kind.RUNNING:
        this.#running = true;
        break;
      case Kind.FIGURES:
        this.#figures = figuresOf(decodeJson(frame));
        break;
      case Kind.ABORT:
        this.#refused ??= refusal(frame);
        break;
    }
  }
}

/** Finds frames in the bytes that pass. */
class FrameTap {
  readonly #onFrame: (frame: Frame) => void;
  readonly #head = new Uint8Array(HEAD_BYTES);
  #headBytes = 0;
  #kind = 0;
  #left = 0;
  #kept: Uint8Array[] | null = null;

  constructor(onFrame: (frame: Frame) => void) {
    this.#onFrame = onFrame;
  }

  /** @throws VfioError EPROTO for bytes that are not a frame */
  push(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length; ) {
      if (this.#left === 0) {
        const part = Math.min(HEAD_BYTES - this.#headBytes, chunk.length - at);
        this.#head.set(chunk.subarray(at, at + part), this.#headBytes);
        this.#headBytes += part;
        at += part;
        if (this.#headBytes < HEAD_BYTES) return;
        this.#begin();
      } else {
        const part = Math.min(this.#left, chunk.length - at);
        this.#kept?.push(chunk.slice(at, at + part));
        this.#left -= part;
        at += part;
      }
      if (this.#left === 0) this.#end();
    }
  }

  #begin(): void {
    this.#left = frameSize(this.#head, 0, HEAD_BYTES) - HEAD_BYTES;
    this.#kind = new DataView(this.#head.buffer).getUint32(4, true);
    this.#kept = READ.has(this.#kind) ? [] : null;
  }

  #end(): void {
    this.#headBytes = 0;
    if (this.#kept !== null) this.#onFrame({ kind: this.#kind, payload: Buffer.concat(this.#kept) });
    this.#kept = null;
  }
}
