/**
 * A printer turns events into a text or a file format. Everything that is shown or kept of a stream
 * goes through one: traces, recordings, timelines.
 */
import type { EventKind, MessageEvent, VfioEvent } from '../../abi/event.ts';
import type { FormatName } from './format-files.ts';

/** Facts about a stream that a file says at its beginning. */
export interface StreamAbout {
  /** `vfio-ts 0.1.0` */
  readonly program: string;
  /** Nanoseconds since 1970 at the moment from which `hostNs` counts. */
  readonly epochNs: bigint;
}

/** Needs of a printer from rooms above. */
export interface PrinterOptions {
  readonly about: StreamAbout;
  /** The time that lines count from. Default: that of the first event. */
  readonly beganNs?: number;
  /** A vfio-user message in words. Default: its command and size. */
  readonly describe?: (message: MessageEvent) => string;
}

/**
 * One output in one format. `event` gives whole pieces only: output that is cut off between two of
 * them is a file that readers of the format accept. A piece may refer to earlier ones, so none may
 * be left out: events are left out before they are printed.
 */
export interface EventPrinter {
  /** Comes first. */
  begin(): string | Uint8Array;
  event(event: VfioEvent): string | Uint8Array;
  /** Comes last, where it can. */
  end(): string | Uint8Array;
}

/** A row of the table of formats. */
export interface EventFormat {
  /** `jsonl` */
  readonly name: FormatName;
  /** Endings of file names, without the dot. */
  readonly extensions: readonly string[];
  /** The things that it holds, and its readers. */
  readonly help: string;
  /** The kinds that the format can show. Default: every kind. */
  readonly kinds?: readonly EventKind[];
  make(options: PrinterOptions): EventPrinter;
}
