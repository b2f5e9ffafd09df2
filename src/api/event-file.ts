/**
 * Events in a file, as they come: a recording, a timeline, a trace. The stream's memory and a queue
 * hold what the file does not take yet. Events that these lose meanwhile are counted in a `dropped`
 * event of the file.
 *
 * A device waits for a file in one case: a turn of the event loop brings more events than memory
 * and queue hold, and the disk has always answered so far. Even then it waits for a bounded time.
 */
import { closeSync } from 'node:fs';
import type { EventOptions, MessageEvent } from '../abi/event.ts';
import { Cleanup } from '../base/cleanup.ts';
import { SystemClock } from '../base/clock.ts';
import { withoutCompression } from '../base/compressed-name.ts';
import { callable, keys, text } from '../base/declared.ts';
import type { Logger } from '../base/log.ts';
import { Patience } from '../base/patience.ts';
import type { FormatName } from '../events/printers/format-files.ts';
import { formatNamed, formatOfFile } from '../events/printers/formats.ts';
import type { EventFormat, EventPrinter, StreamAbout } from '../events/printers/printer.ts';
import { type EventReader, eventChecks } from '../events/reader.ts';
import { checkStream, type EventStream } from '../events/stream.ts';
import { ByteOutput, type OutputEntry, type OutputOwner } from '../sys/byte-output.ts';
import { type Compressor, compressionOf } from '../sys/compression.ts';
import { packageVersion } from '../sys/package-files.ts';
import { openPrivate } from '../sys/private-file.ts';
import { stderrLogger } from './stderr-logger.ts';

/** Bytes that wait for the file. Events beyond them stay in the stream's memory. */
const QUEUE_BYTES = 2 ** 20;
/** In the middle of a turn, where the stream's memory is half full: a ring of lines fits. */
const PRESSED_BYTES = 16 * 2 ** 20;
/** Events that are printed at once: each may have megabytes of data. */
const BATCH = 512;
const BATCH_WITH_DATA = 16;
/**
 * How long long turns of the event loop wait for a slow disk: at once, and as a share of all time.
 * Patience comes back with time, so a disk that needs a moment each now and then loses nothing.
 */
const WAIT_MS = 1000;
const WAIT_SHARE = 0.1;
/** A compressed piece takes a while, however small. */
const PIECE_MS = 10;
/** Between two tries of a disk that is full. */
const RETRY_MS = 250;
/** At the end, for a reader or a disk that is slow: without progress, and in all. */
const PATIENCE_MS = 500;
const END_MS = 5000;

/** How events are written. */
export interface EventFileOptions extends EventOptions {
  /**
   * `text`, `jsonl`, `pcapng`, `perfetto` or `vcd`. Default: the one that the ending of the path
   * says, and `text` for standard output.
   */
  readonly format?: FormatName;
  /** Gets a line when the file cannot be written. Default: it is printed on stderr. */
  readonly log?: Logger;
  /** A vfio-user message in words, for `text`. Default: its command and size. */
  readonly describe?: (message: MessageEvent) => string;
}

/** The options, as JavaScript may give them. */
const checkOptions = keys({
  ...eventChecks,
  format: text,
  log: (log, what) => callable((log as Logger | null)?.log, `log() of ${what}`),
  describe: callable,
});

/** The format of a file: that which its name says, without the ending of a compression. */
export function eventFormatOf(path: string, format?: string): EventFormat {
  if (format !== undefined) return formatNamed(format);
  return path === '-' ? formatNamed('text') : formatOfFile(withoutCompression(path));
}

/** Of a file that stays empty because its format cannot show what happened. */
export function nothingShown(file: string, { name, help }: EventFormat): string {
  return `${file} has no events: ${name} holds ${help}`;
}

/** Facts about a stream that begins in this process. */
function aboutThisProgram(): StreamAbout {
  const epochNs = BigInt(Math.round((Date.now() * 1e6 - new SystemClock().nowNs()) / 1e3)) * 1000n;
  return { program: `vfio-ts ${packageVersion()}`, epochNs };
}

interface Entry extends OutputEntry {
  readonly events: number;
}

/**
 * Write the events of a stream into a file from now on, until the result is disposed. The file is
 * made, or emptied, with mode 0600. Names that end in `.gz` or `.zst` are compressed. A process
 * that is killed leaves a file that ends with its last whole event.
 *
 * @param path a file, a named pipe, or `-` for standard output
 * @throws VfioError EINVAL for options, formats or kinds that do not exist; EACCES, ENOENT, EISDIR,
 *   EROFS when the file cannot be made; ENXIO for a pipe without a reader; EOPNOTSUPP for `.zst`
 *   before Node 22.15
 */
export function writeEvents(stream: EventStream, path: string, options: EventFileOptions = {}): Disposable {
  checkStream(stream, 'the first argument of writeEvents');
  text(path, 'the path of writeEvents');
  checkOptions(options, 'writeEvents()');
  const format = eventFormatOf(path, options.format);
  const { kinds, devices, data = false, describe } = options;
  const shown = format.kinds === undefined ? kinds : (kinds ?? format.kinds).filter((kind) => format.kinds!.includes(kind));
  let file: EventFile | null = null;
  using undo = new Cleanup();
  const reader = undo.use(
    stream.read({ data, ...(shown === undefined ? {} : { kinds: shown }), ...(devices === undefined ? {} : { devices }) }, () =>
      file?.press(),
    ),
  );
  const parts = {
    reader,
    data,
    name: path === '-' ? 'standard output' : path,
    format,
    printer: format.make({ about: aboutThisProgram(), ...(describe === undefined ? {} : { describe }) }),
    compressor: compressionOf(path)?.compressor() ?? null,
    log: options.log ?? stderrLogger,
  };
  const fd = path === '-' ? 1 : openPrivate(path);
  if (path !== '-') undo.defer(() => closeSync(fd));
  file = new EventFile(fd, parts);
  undo.move();
  if (path !== '-') closeSync(fd);
  return file;
}

interface EventFileParts {
  readonly name: string;
  readonly format: EventFormat;
  readonly printer: EventPrinter;
  readonly compressor: Compressor | null;
  readonly log: Logger;
  readonly reader: EventReader;
  readonly data: boolean;
}

/** Files that are open when the process ends. */
const open = new Set<EventFile>();
let watching = false;

class EventFile implements Disposable, OutputOwner<Entry> {
  readonly #parts: EventFileParts;
  readonly #output: ByteOutput<Entry>;
  readonly #reader: EventReader;
  readonly #batch: number;
  readonly #patience = new Patience(WAIT_MS, WAIT_SHARE);
  /** Pieces are being made. */
  #printing = false;
  #failing = false;
  /** The next turn that writes is under way: there are events, or room. */
  #armed = false;
  #retry: NodeJS.Timeout | null = null;
  #missing = 0;
  /** The format has shown an event. */
  #shown = false;
  #closed = false;

  /** @param fd stays the caller's   @throws VfioError EMFILE */
  constructor(fd: number, parts: EventFileParts) {
    this.#parts = parts;
    this.#output = new ByteOutput(fd, this);
    this.#reader = parts.reader;
    this.#batch = parts.data ? BATCH_WITH_DATA : BATCH;
    open.add(this);
    endWithProcess();
    this.#add([parts.printer.begin()], 0);
    this.#output.push(0);
    this.#await();
  }

  /** Wait for events. */
  #await(): void {
    if (this.#armed || this.#closed) return;
    this.#armed = true;
    void this.#reader.next().then(() => this.#turn());
  }

  /** In a turn of its own. */
  #turn(): void {
    this.#armed = false;
    if (this.#closed) return;
    this.#write(QUEUE_BYTES);
    if (!this.#failing) this.#output.push(0);
    if (this.#output.queued >= QUEUE_BYTES) return;
    if (this.#parts.compressor === null) this.#await();
    else this.#rest();
  }

  #rest(): void {
    this.#armed = true;
    setTimeout(() => {
      this.#armed = false;
      this.#await();
    }, PIECE_MS).unref();
  }

  /** In the middle of a turn: the stream's memory is half full. */
  press(): void {
    if (this.#closed || this.#printing) return;
    do {
      this.#write(PRESSED_BYTES);
      this.#output.push(0);
      if (this.#reader.ready && !this.#failing) this.#patience.during((ms) => this.#output.push(ms));
    } while (this.#output.queued < PRESSED_BYTES && this.#reader.ready);
  }

  /** Print events until `most` bytes wait. */
  #write(most: number): void {
    if (this.#printing) return;
    this.#printing = true;
    try {
      while (this.#output.queued < most) {
        const events = this.#reader.take(this.#batch);
        if (events.length === 0) return;
        for (const event of events) if (event.kind === 'dropped') this.#note(event.count);
        this.#shown = true;
        this.#add(
          events.map((event) => this.#parts.printer.event(event)),
          events.filter(({ kind }) => kind !== 'dropped').length,
        );
      }
    } finally {
      this.#printing = false;
    }
  }

  #add(pieces: readonly (string | Uint8Array)[], events: number): void {
    const whole = joined(pieces);
    const { compressor } = this.#parts;
    if (whole.length > 0) this.#output.add({ bytes: compressor === null ? whole : compressor.piece(whole), events });
  }

  #note(count: number): void {
    if (this.#missing === 0) this.#say(`${this.#parts.name} takes events too slowly: some are missing in it`);
    this.#missing += count;
  }

  #say(text: string): void {
    this.#parts.log.log('warn', text);
  }

  /** For the output. */
  written(): void {
    if (this.#failing) {
      this.#failing = false;
      this.#say(`${this.#parts.name} can be written again${this.#missing === 0 ? '' : `: ${this.#missing} events are missing in it`}`);
    }
    if (!this.#closed && !this.#printing && this.#output.queued < QUEUE_BYTES) this.#await();
  }

  /** For the output: the disk is full, or the reader of a pipe is gone. */
  failed(reason: string): void {
    if (!this.#failing) this.#say(`${this.#parts.name} cannot be written: ${reason}: events may be missing in it`);
    this.#failing = true;
    if (this.#closed || this.#retry !== null) return;
    this.#retry = setTimeout(() => {
      this.#retry = null;
      this.#output.push(0);
    }, RETRY_MS).unref();
  }

  /** Writes what there is. A slow disk gets half a second for each part. Idempotent. */
  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    open.delete(this);
    if (this.#retry !== null) clearTimeout(this.#retry);
    const end = performance.now() + END_MS;
    do this.#write(QUEUE_BYTES);
    while (this.#finish(end) && this.#reader.ready);
    const lost = this.#reader.take().reduce((sum, event) => sum + (event.kind === 'dropped' ? event.count : 1), 0);
    this.#reader[Symbol.dispose]();
    if (lost === 0) {
      this.#add([this.#parts.printer.end()], 0);
      if (this.#parts.compressor !== null) this.#output.add({ bytes: this.#parts.compressor.end(), events: 0 });
      this.#finish(end);
    }
    const left = this.#output.clear().reduce((sum, { events }) => sum + events, lost);
    this.#missing += left;
    if (this.#missing > 0) this.#say(`${this.#parts.name}: ${this.#missing} events are missing in it`);
    else if (!this.#shown && this.#parts.format.kinds !== undefined) this.#say(nothingShown(this.#parts.name, this.#parts.format));
    this.#output[Symbol.dispose]();
  }

  /** @returns whether all is written, which it is not when there is no progress */
  #finish(end: number): boolean {
    for (let before = Number.POSITIVE_INFINITY; this.#output.queued < before && performance.now() < end; ) {
      before = this.#output.queued;
      if (this.#output.finish(PATIENCE_MS)) return true;
    }
    return false;
  }
}

function joined(pieces: readonly (string | Uint8Array)[]): Uint8Array {
  if (pieces.every((piece) => typeof piece === 'string')) return Buffer.from(pieces.join(''));
  return Buffer.concat(pieces.map((piece) => (typeof piece === 'string' ? Buffer.from(piece) : piece)));
}

/** A program that calls process.exit() has its events in the file. */
function endWithProcess(): void {
  if (watching) return;
  watching = true;
  process.once('exit', () => {
    for (const file of [...open]) file[Symbol.dispose]();
  });
}
