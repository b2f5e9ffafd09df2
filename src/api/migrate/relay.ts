/**
 * Between a source and a destination: bytes go through as they come, and who carries them looks at
 * the heads of the frames, to tell how far they are.
 */
import { VfioError } from '../../base/errno.ts';
import type { Pipe } from './endpoints.ts';
import { type Figures, figuresOf, type Progress, progressOf } from './figures.ts';
import { decodeJson, type Frame, frameSize, HEAD_BYTES, Kind } from './frames.ts';
import { refusal } from './link.ts';

export interface RelayOptions {
  readonly onProgress?: (progress: Progress) => void;
  /** The device stands still. */
  readonly onStopped?: () => void;
  /** Give it up; without effect once the device was given away. */
  readonly signal?: AbortSignal;
  /** An end that takes nothing for so long is gone: milliseconds, 20 000 unless told. */
  readonly stallMs?: number;
}

/** Frames that are looked into; the others are only counted. */
const READ: ReadonlySet<number> = new Set([Kind.PROGRESS, Kind.STOPPED, Kind.GO, Kind.RUNNING, Kind.FIGURES, Kind.ABORT]);
/** What may wait here for the other end: less would have the two take turns. */
const AHEAD_BYTES = 2 ** 20;
/** After a refusal both ends are given so long to hear of it. */
const GRACE_MS = 2000;
/**
 * After the destination has said that it runs there: for the source's figures, which come once it
 * has put its device away.
 */
const FIGURES_MS = 60_000;
/** Less than a source waits, which waits for us meanwhile. */
const STALL_MS = 20_000;

/**
 * Carry a move to its end.
 *
 * @internal
 * @returns its figures; null when the source did not tell them
 * @throws VfioError (rejects) what either end refused with; ECONNRESET when one was lost, ETIMEDOUT
 *   when one takes nothing any more, EIO when that was in the moment of the hand-over; EINTR when
 *   told to give up
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
      this.#refused ??= new VfioError('EINTR', 'told to give up: the device goes on where it was');
      this.#close();
    };
    if (signal?.aborted === true) giveUp();
    signal?.addEventListener('abort', giveUp);
    try {
      const pumps = [this.#pump(this.#source, this.#destination), this.#pump(this.#destination, this.#source)];
      // The one that ends first ends the other, by the end of its stream.
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
    // An end that lost the other says so; between which two it was is known here.
    const lost = refused === null || refused.code === 'ECONNRESET' || refused.code === 'EPIPE';
    if (!lost) throw refused;
    if (!this.#given) {
      const ends = `${this.#source.name} and ${this.#destination.name}`;
      throw new VfioError('ECONNRESET', `the connection between ${ends} was lost: the device goes on where it was`, { cause: refused });
    }
    throw new VfioError('EIO', 'the connection was lost in the moment in which the device was handed over', {
      fix: 'Ask the destination with --status. Where the device is there, --let-go of the source; else --resume it.',
    });
  }

  #close(): void {
    this.#source.close();
    this.#destination.close();
  }

  async #pump(from: Pipe, to: Pipe): Promise<void> {
    const tap = new FrameTap((frame) => this.#saw(frame));
    // What cannot be written is known when the other pump ends.
    to.output.on('error', () => {});
    try {
      for await (const chunk of from.input as AsyncIterable<Buffer>) {
        tap.push(chunk);
        if (to.output.destroyed || to.output.writableEnded) break;
        if (!to.output.write(chunk) && to.output.writableLength > AHEAD_BYTES) await this.#drained(to);
        // Whoever gave up waits until it was heard.
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
    if (late) throw new VfioError('ETIMEDOUT', `${name} takes nothing any more: the device goes on where it was`);
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

/** Finds frames in what goes by. */
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

  /** @throws VfioError EPROTO for what is no frame */
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
