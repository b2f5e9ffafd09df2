/** `vfio events`: recorded events in another format, filtered, counted. */
import type { VfioEvent } from '../../abi/event.ts';
import { eventFormatOf, nothingShown } from '../../api/event-file.ts';
import { type RecordedEvents, readEvents } from '../../api/recorded-events.ts';
import { VfioError } from '../../base/errno.ts';
import { EventDigest } from '../../events/digest.ts';
import type { FormatName } from '../../events/printers/format-files.ts';
import type { EventFormat, EventPrinter } from '../../events/printers/printer.ts';
import type { CommandContext } from '../command.ts';
import { Exit } from '../exit-codes.ts';
import { interruptible } from '../interruptible.ts';
import { grouped } from '../quantities.ts';
import type { Terminal } from '../terminal.ts';
import { lineOf } from '../trace/describe-message.ts';
import { checkStdout, identityOf } from './event-files.ts';
import { EventFilter, type FilterOptions } from './filter.ts';
import { Output } from './output.ts';
import { EventStats } from './stats.ts';

interface Options extends FilterOptions {
  readonly as?: FormatName | 'digest';
  readonly output: string;
  readonly stats?: boolean;
  readonly follow?: boolean;
}

export async function convertEvents({ terminal }: CommandContext, options: Options, file: string): Promise<number> {
  const { as, output, stats = false, follow = false } = options;
  checkTimes(options);
  if (file !== '-' && output !== '-' && identityOf(file) === identityOf(output)) {
    throw new VfioError('EINVAL', `${output} is the file that is read`, { fix: 'Give the output another name.' });
  }
  const stop = new AbortController();
  const events = readEvents(file, follow ? { follow: stop.signal } : {});
  const run = async (signal: AbortSignal): Promise<number> => {
    signal.addEventListener('abort', () => stop.abort());
    const filter = new EventFilter(options);
    const chosen = untilAborted(events, filter, signal);
    if (stats) await print(terminal, chosen, new EventStats());
    else if (as === 'digest') await print(terminal, chosen, new DigestLines());
    else await convert(events, chosen, filter, eventFormatOf(output, as), options, terminal);
    report(file, events, filter, terminal);
    return Exit.OK;
  };
  const status = await interruptible(run);
  // Ctrl-C is the way to end it.
  return follow && status === Exit.INTERRUPTED ? Exit.OK : status;
}

function checkTimes({ from = 0, to = Number.POSITIVE_INFINITY }: Options): void {
  if (from > to) throw new VfioError('EINVAL', '--from is later than --to', { fix: 'Exchange the two.' });
}

async function* untilAborted(events: RecordedEvents, filter: EventFilter, signal: AbortSignal): AsyncGenerator<VfioEvent, void, void> {
  for await (const event of events) {
    if (signal.aborted) return;
    if (filter.takes(event)) yield event;
  }
}

/** A result that is known at the end. */
interface Summary {
  add(event: VfioEvent): void;
  lines(): string[];
}

async function print(terminal: Terminal, events: AsyncIterable<VfioEvent>, summary: Summary): Promise<void> {
  for await (const event of events) summary.add(event);
  for (const line of summary.lines()) terminal.out(line);
}

class DigestLines implements Summary {
  readonly #digest = new EventDigest();

  add(event: VfioEvent): void {
    this.#digest.add(event);
  }

  lines(): string[] {
    const { events, sha256, devices } = this.#digest.digests();
    const line = (hash: string, number: number, what: string) =>
      `${hash}  ${what}, ${grouped(number)} ${number === 1 ? 'event' : 'events'}`;
    return [line(sha256, events, 'all'), ...[...devices].map(([name, each]) => line(each.sha256, each.events, name))];
  }
}

async function convert(
  events: RecordedEvents,
  chosen: AsyncIterable<VfioEvent>,
  filter: EventFilter,
  format: EventFormat,
  { output: path, follow = false }: Options,
  terminal: Terminal,
): Promise<void> {
  checkStdout({ path, format: format.name }, undefined);
  let output: Output | null = null;
  let printer: EventPrinter | null = null;
  let shown = false;
  /** The file is made anew only when the input has proved to be events. */
  const begin = (): readonly [Output, EventPrinter] => {
    output ??= new Output(path);
    if (printer === null) {
      printer = format.make({ about: events.about!, beganNs: filter.beganNs, describe: lineOf });
      output.write(printer.begin());
    }
    return [output, printer];
  };
  try {
    for await (const event of chosen) {
      const [to, by] = begin();
      shown ||= format.kinds?.includes(event.kind) ?? true;
      if (to.write(by.event(event))) await to.room();
      if (follow) to.flush();
    }
    const [to, by] = begin();
    to.write(by.end());
    await to.end();
    if (!shown && !filter.choseNone) terminal.err(nothingShown(path === '-' ? 'the output' : path, format));
  } catch (error) {
    if ((output as Output | null)?.enough !== true) throw error;
  } finally {
    await (output as Output | null)?.[Symbol.asyncDispose]();
  }
}

function report(file: string, events: RecordedEvents, filter: EventFilter, terminal: Terminal): void {
  const name = file === '-' ? 'standard input' : file;
  if (filter.choseNone) terminal.err(`${name} has no such events: its devices are ${filter.devices.join(', ')}`);
  if (events.cut) terminal.err(`${name} breaks off in its last event, which is left out`);
  const { events: kinds, fields } = events.skipped;
  if (kinds > 0) terminal.err(`${name}: ${grouped(kinds)} events of kinds that this version does not know are left out`);
  if (fields > 0) terminal.err(`${name}: ${grouped(fields)} fields that this version does not know are left out`);
}
