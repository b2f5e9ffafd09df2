/** Options by which commands write files of events, and kinds of values of `vfio events`. */
import type { EventKind } from '../abi/event.ts';
import { withoutCompression } from '../base/compressed-name.ts';
import { VfioError } from '../base/errno.ts';
import { kindNames, kindNumber } from '../events/kinds.ts';
import { checkFileName, type FormatName, formatNames } from '../events/printers/format-files.ts';
import type { OptionSpec } from './command.ts';
import { file, type ValueKind } from './values.ts';

/** A file of events on the command line. */
export interface EventTarget {
  readonly path: string;
  /** Default: that which the name says. */
  readonly format?: FormatName;
}

/** The options, as commands get them. */
export interface EventsOptions {
  readonly events?: readonly EventTarget[];
  readonly eventsKinds?: readonly EventKind[];
  readonly data?: boolean;
}

/** `FILE`, or `FORMAT:FILE`. */
export const eventTarget: ValueKind = {
  parse: (text): EventTarget => {
    const [, format, path] = /^([a-z]+):(.+)$/s.exec(text) ?? [];
    if (format !== undefined && (formatNames as readonly string[]).includes(format)) return { format: format as FormatName, path: path! };
    checkEventFile(text);
    return { path: text };
  },
  suggest: async (word, typed) => {
    const [, prefix = '', rest = word] = /^([a-z]+:)(.*)$/s.exec(word) ?? [];
    const files = await file().suggest!(rest, typed);
    const formats = prefix === '' && word !== '' ? formatNames.map((name) => ({ value: `${name}:`, help: 'a file in this format' })) : [];
    return [...files.map((each) => ({ ...each, value: prefix + each.value })), ...formats];
  },
};

/** Kinds of events with commas between them: `access,dma`. */
export const eventKinds: ValueKind = {
  parse: (text): EventKind[] => {
    const given = text.split(',').map((kind) => kind.trim());
    for (const kind of given) checkKind(kind);
    return given as EventKind[];
  },
  suggest: async (word) => {
    const before = word.slice(0, word.lastIndexOf(',') + 1);
    const used = before.split(',');
    return kindNames.filter((kind) => !used.includes(kind)).map((kind) => ({ value: before + kind }));
  },
};

const checkKind = (kind: string): void => checked(() => kindNumber(kind));

/** The name of a file says its format. */
function checkEventFile(path: string): void {
  if (path === '-') return;
  checked(() => checkFileName(withoutCompression(path)), ' FORMAT:FILE names it.');
}

/** @throws VfioError whose `fix` says both what is wrong and what is right */
function checked(check: () => unknown, more = ''): void {
  try {
    check();
  } catch (error) {
    const { message, fix } = error as VfioError;
    throw new VfioError('EINVAL', message, { fix: `${message[0]!.toUpperCase()}${message.slice(1)}. ${fix}${more}` });
  }
}

export const dataOption: OptionSpec = {
  flags: '--data',
  help: 'events with the bytes that DMA, messages and plain memory carry, which may be secrets of a guest',
};

/** Files of events, for every command that uses or serves a device. */
export const eventOptions: readonly OptionSpec[] = [
  {
    flags: '--events <file>',
    help: 'write what happens into the file, in the format that its name says: .txt, .jsonl, .pcapng, .pftrace, .vcd, each also .gz; FORMAT:FILE names the format, - is standard output',
    kind: eventTarget,
    repeats: true,
  },
  { flags: '--events-kinds <kinds>', help: 'events of these kinds alone, such as access,dma', kind: eventKinds },
  dataOption,
];

/** A file of accesses alone. */
export const recordOption: OptionSpec = {
  flags: '--record <file>',
  help: 'write accesses to registers, and mappings of memory, into the file, a line of JSON each (docs/events.md)',
  kind: file(),
};

/** A paragraph for the help of these commands. */
export const eventNote =
  'Events have no VF tokens, and without --data no bytes of memory. vfio events converts and filters files in .jsonl; docs/events.md has the formats and the programs that open them.';
