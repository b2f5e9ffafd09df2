/** The table of formats: each output of a stream is written by one of its rows. */
import type { EventKind, NoteEvent, VfioEvent } from '../../abi/event.ts';
import { checkFileName, checkFormatName } from './format-files.ts';
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
  const known = checkFormatName(name);
  return formats.find((each) => each.name === known)!;
}

/**
 * The format that the ending of a file's name says. Only the last ending counts.
 *
 * @throws VfioError EINVAL with the nearest ending
 */
export function formatOfFile(path: string): EventFormat {
  return formatNamed(checkFileName(path));
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
