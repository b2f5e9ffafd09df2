/** The files of events that a command line asks for. */
import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { isatty } from 'node:tty';
import type { EventKind } from '../../abi/event.ts';
import { eventFormatOf, writeEvents } from '../../api/event-file.ts';
import { stderrLogger } from '../../api/stderr-logger.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import type { Logger } from '../../base/log.ts';
import { EventStream } from '../../events/stream.ts';
import type { EventsOptions, EventTarget } from '../event-options.ts';
import type { Terminal } from '../terminal.ts';
import { lineOf } from '../trace/describe-message.ts';

/** Formats that a terminal can show. */
const LINES = ['text', 'jsonl', 'vcd'];

export interface EventFilesOptions {
  /** The thing that standard output carries, where it carries data. Default: lines for people. */
  readonly stdoutHas?: string | undefined;
  /** A file with register accesses as JSON lines, besides. */
  readonly record?: string | undefined;
  /** Gets the lines of the stream's log. Default: warnings and errors go to stderr. */
  readonly log?: Logger;
}

/**
 * Write the events of `stream` as the command line says, until disposed. Dispose it after the
 * devices, and before the stream.
 *
 * @throws VfioError EINVAL for options that do not fit together; the errors of `writeEvents`
 */
export function writeEventFiles(
  stream: EventStream,
  { events = [], eventsKinds, data = false }: EventsOptions,
  terminal: Terminal,
  { stdoutHas, record }: EventFilesOptions = {},
): Disposable {
  const targets = record === undefined ? events : [...events, { path: record, format: 'jsonl' as const }];
  if (events.length === 0 && eventsKinds !== undefined) throw needsEvents('--events-kinds');
  if (targets.length === 0 && data) throw needsEvents('--data');
  checkDifferent(targets);
  for (const target of events) checkStdout(target, stdoutHas);
  using undo = new Cleanup();
  const log: Logger = { log: (_level, text) => terminal.err(`warning: ${text}`) };
  const write = ({ path, format }: EventTarget, kinds?: readonly EventKind[]) =>
    undo.use(
      writeEvents(stream, path, {
        log,
        data,
        describe: lineOf,
        ...(format === undefined ? {} : { format }),
        ...(kinds === undefined ? {} : { kinds }),
      }),
    );
  for (const target of events) write(target, eventsKinds);
  if (record !== undefined) write({ path: record, format: 'jsonl' }, ['access', 'mapping']);
  return undo.move();
}

/** A stream, and its files. */
export interface WatchedStream extends Disposable {
  readonly stream: EventStream;
}

/**
 * The stream of a command that uses a device, with its files; null where the command line asks for
 * none.
 *
 * @throws VfioError as `writeEventFiles`
 */
export function watchedStream(options: EventsOptions, terminal: Terminal, more?: EventFilesOptions): WatchedStream | null {
  using undo = new Cleanup();
  const stream = undo.use(new EventStream({ log: more?.log ?? stderrLogger }));
  undo.use(writeEventFiles(stream, options, terminal, more));
  if (options.events === undefined && more?.record === undefined) return null;
  const steps = undo.move();
  return { stream, [Symbol.dispose]: () => steps[Symbol.dispose]() };
}

function needsEvents(option: string): VfioError {
  return new VfioError('EINVAL', `${option} is about files of events, and there is none`, { fix: 'Add --events FILE.' });
}

function checkDifferent(targets: readonly EventTarget[]): void {
  const seen = new Set<string>();
  for (const { path } of targets) {
    const name = path === '-' ? '-' : identityOf(path);
    if (seen.has(name)) throw new VfioError('EINVAL', `${path} is named for two files of events`, { fix: 'Give each a name of its own.' });
    seen.add(name);
  }
}

/** Two names of one file have the same. */
export function identityOf(path: string): string {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat === undefined ? resolve(path) : `${stat.dev}:${stat.ino}`;
}

/** @throws VfioError EINVAL where events on standard output would do harm */
export function checkStdout({ path, format }: EventTarget, stdoutHas: string | undefined): void {
  if (path !== '-') return;
  if (stdoutHas !== undefined) {
    throw new VfioError('EINVAL', `standard output has ${stdoutHas}, and cannot have events, too`, { fix: 'Give --events FILE.' });
  }
  const { name } = eventFormatOf(path, format);
  if (isatty(1) && !LINES.includes(name)) {
    throw new VfioError('EINVAL', `standard output is a terminal, which ${name} would upset`, { fix: 'Name a file, or redirect it.' });
  }
}
