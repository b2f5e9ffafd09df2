/**
 * The names of formats, and the endings of their files: a command line is checked by them before a
 * printer is loaded.
 */
import { VfioError } from '../../base/errno.ts';
import { nearest } from '../../base/nearest.ts';

/** By name, in the order in which `--help` lists them: endings without the dot. */
export const formatFiles = {
  text: ['txt', 'log'],
  jsonl: ['jsonl', 'ndjson'],
  pcapng: ['pcapng'],
  perfetto: ['pftrace', 'perfetto-trace'],
  vcd: ['vcd'],
} as const satisfies Readonly<Record<string, readonly string[]>>;

export type FormatName = keyof typeof formatFiles;

export const formatNames = Object.keys(formatFiles) as FormatName[];

/** The format of this name. @throws VfioError EINVAL with the nearest name */
export function checkFormatName(name: string): FormatName {
  if (Object.hasOwn(formatFiles, name)) return name as FormatName;
  throw unknownFormat(`there is no format '${name.slice(0, 40)}'`, name);
}

/** The format that the ending of a file's name says; null where it says none. */
export function formatOfName(path: string): FormatName | null {
  const ending = endingOf(path);
  return formatNames.find((name) => (formatFiles[name] as readonly string[]).includes(ending)) ?? null;
}

/** The same. @throws VfioError EINVAL with the nearest ending, where it says none */
export function checkFileName(path: string): FormatName {
  const format = formatOfName(path);
  if (format !== null) return format;
  const ending = endingOf(path);
  const problem = ending === '' ? 'has no ending that says its format' : 'ends as no format of events does';
  throw unknownFormat(`'${nameIn(path).slice(0, 80)}' ${problem}`, ending);
}

const nameIn = (path: string): string => path.slice(path.lastIndexOf('/') + 1);

/** After the last dot of the name; empty where there is none. */
function endingOf(path: string): string {
  const name = nameIn(path);
  const dot = name.lastIndexOf('.');
  return dot < 0 ? '' : name.slice(dot + 1).toLowerCase();
}

function unknownFormat(problem: string, given: string): VfioError {
  const close = nearest(given, [...formatNames, ...Object.values(formatFiles).flat()]);
  const listed = formatNames.map((name) => `${name} (.${formatFiles[name][0]})`).join(', ');
  return new VfioError('EINVAL', problem, { fix: close === null ? `Formats: ${listed}.` : `Did you mean '${close}'?` });
}
