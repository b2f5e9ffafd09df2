/** The output of a conversion: a file, a pipe or standard output, as fast as it takes the bytes. */
import { closeSync } from 'node:fs';
import { VfioError } from '../../base/errno.ts';
import { keepAlive } from '../../base/keep-alive.ts';
import { ByteOutput, type OutputEntry, type OutputOwner } from '../../sys/byte-output.ts';
import { type Compressor, compressionOf } from '../../sys/compression.ts';
import { openPrivate } from '../../sys/private-file.ts';

/** Bytes that are written at once. */
const PIECE = 65_536;
/** The most that waits for a slow reader. */
const QUEUE_BYTES = 2 ** 20;

export class Output implements AsyncDisposable, OutputOwner<OutputEntry> {
  readonly #name: string;
  readonly #output: ByteOutput<OutputEntry>;
  readonly #compressor: Compressor | null;
  #pieces: Uint8Array[] = [];
  #size = 0;
  #failure: VfioError | null = null;
  #wake: (() => void) | null = null;

  /**
   * @param path `-` is standard output
   * @throws VfioError as `openPrivate`; EOPNOTSUPP for a compression that this Node does not have
   */
  constructor(path: string) {
    this.#name = path === '-' ? 'standard output' : path;
    this.#compressor = compressionOf(path)?.compressor() ?? null;
    const fd = path === '-' ? 1 : openPrivate(path);
    try {
      this.#output = new ByteOutput(fd, this);
    } finally {
      if (path !== '-') closeSync(fd);
    }
  }

  /** The program at the other end has closed the pipe: it has seen enough. */
  get enough(): boolean {
    return this.#failure?.code === 'EPIPE';
  }

  /** @returns whether to await `room` before the next one */
  write(piece: string | Uint8Array): boolean {
    const bytes = typeof piece === 'string' ? Buffer.from(piece) : piece;
    this.#pieces.push(bytes);
    this.#size += bytes.length;
    if (this.#size >= PIECE) this.#push();
    return this.#output.queued >= QUEUE_BYTES || this.#failure !== null;
  }

  #push(): void {
    const whole = Buffer.concat(this.#pieces);
    this.#pieces = [];
    this.#size = 0;
    if (whole.length > 0) this.#output.add({ bytes: this.#compressor?.piece(whole) ?? whole });
    this.#output.push(0);
  }

  /** Everything so far goes out now. */
  flush(): void {
    this.#push();
  }

  /** Settles when there is room. @throws VfioError ENOSPC, EPIPE … */
  async room(limit: number = QUEUE_BYTES): Promise<void> {
    // A slow reader of a socket is asked again by a timer, which keeps no process alive.
    using _alive = keepAlive();
    while (this.#output.queued >= limit && this.#failure === null) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    if (this.#failure !== null) throw this.#failure;
  }

  /** The end of the file. @throws VfioError ENOSPC, EPIPE … */
  async end(): Promise<void> {
    this.#push();
    if (this.#compressor !== null) this.#output.add({ bytes: this.#compressor.end() });
    this.#output.push(0);
    await this.room(1);
  }

  /** For the output below. */
  written(): void {
    this.#wake?.();
    this.#wake = null;
  }

  failed(reason: string): void {
    const code = reason === 'EPIPE' || reason === 'ENOSPC' ? reason : 'EIO';
    this.#failure ??= new VfioError(code, `${this.#name} cannot be written: ${reason}`);
    this.written();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#output[Symbol.dispose]();
  }
}
