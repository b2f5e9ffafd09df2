/** The table of formats: each output of a stream is written by one of its rows. */
import type { EventKind, NoteEvent, VfioEvent } from '../../abi/event.ts';
import { VfioError } from '../../base/errno.ts';
import { nearest } from '../../base/nearest.ts';
import { jsonLines } from './json-lines.ts';
import { pcapng } from './pcapng.ts';
import { perfetto } from './perfetto.ts';
import type { EventFormat, EventPrinter } from './printer.ts';
import { text } from './text.ts';
import { vcd } from './vcd.ts';

/** In the order in which `--help` lists them. */
export const formats: readonly EventFormat[] = [text, jsonLines, pcapng, perfetto, vcd].map(guarded);

/** @throws VfioError EINVAL with the nearest name */
export function formatNamed(name: string): EventFormat {
  const format = formats.find((each) => each.name === name);
  if (format !== undefined) return format;
  throw unknownFormat(`there is no format '${name.slice(0, 40)}'`, name);
}

/** Whether the ending of a file's name says a format. */
export function isFormatOfFile(path: string): boolean {
  return formats.some(({ extensions }) => extensions.includes(endingOf(path)));
}

/** After the last dot of the name; empty where there is none. */
function endingOf(path: string): string {
  const name = path.slice(path.lastIndexOf('/') + 1);
  const dot = name.lastIndexOf('.');
  return dot < 0 ? '' : name.slice(dot + 1).toLowerCase();
}

/**
 * The format that the ending of a file's name says. Only the last ending counts.
 *
 * @throws VfioError EINVAL with the nearest ending
 */
export function formatOfFile(path: string): EventFormat {
  const name = path.slice(path.lastIndexOf('/') + 1);
  const ending = endingOf(path);
  const format = formats.find(({ extensions }) => extensions.includes(ending));
  if (format !== undefined) return format;
  const problem = ending === '' ? 'has no ending that says its format' : 'ends as no format of events does';
  throw unknownFormat(`'${name.slice(0, 80)}' ${problem}`, ending);
}

function unknownFormat(problem: string, given: string): VfioError {
  const endings = formats.flatMap(({ name, extensions }) => [name, ...extensions]);
  const close = nearest(given, endings);
  const listed = formats.map(({ name, extensions }) => `${name} (.${extensions[0]})`).join(', ');
  return new VfioError('EINVAL', problem, { fix: close === null ? `Formats: ${listed}.` : `Did you mean '${close}'?` });
}

/**
 * A printer that leaves out kinds which the format cannot show, and never throws. Fields come from
 * models, which are not bound to their types: an event that cannot be written becomes a note.
 */
function guarded(format: EventFormat): EventFormat {
  const kinds = format.kinds === undefined ? null : new Set<EventKind>(format.kinds);
  return {
    ...format,
    make(options): EventPrinter {
      const printer = format.make(options);
      return {
        begin: () => printer.begin(),
        end: () => printer.end(),
        event(event) {
          if (kinds !== null && !kinds.has(event.kind)) return '';
          try {
            return printer.event(event);
          } catch (problem) {
            return kinds?.has('note') === false ? '' : printer.event(noteOf(event, problem));
          }
        },
      };
    },
  };
}

function noteOf({ kind, seq, timeNs, hostNs, device, cause }: VfioEvent, problem: unknown): NoteEvent {
  const why = problem instanceof Error ? problem.message : 'its fields throw';
  return {
    ...{ kind: 'note', seq, timeNs, hostNs, device, cause, level: 'warn', about: kind },
    text: `an event of kind '${kind}' cannot be written: ${why}`,
  };
}
