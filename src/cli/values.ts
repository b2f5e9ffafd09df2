/**
 * Kinds of values on the command line: how each is checked while the line is read, and where its
 * suggestions for completion come from.
 */

import { isDriverName } from '../abi/driver-name.ts';
import { looksLikeFile, parseAddress } from '../api/address.ts';
import { VfioError } from '../base/errno.ts';
import { parseSize } from '../base/size.ts';
import { isBdf, parseBdf } from '../pci/bdf.ts';
import type { Suggestion, Typed } from './completion/suggestion.ts';

export interface ValueKind {
  /** The value of the text. @throws VfioError EINVAL, whose `fix` is the message for the user */
  readonly parse?: (text: string) => unknown;
  /** All values there are. */
  readonly choices?: readonly string[];
  /** Candidates for `word`, a part of one. Those that do not begin with it are dropped. */
  readonly suggest?: (word: string, typed: Typed) => Promise<readonly Suggestion[]>;
}

const wrong = (fix: string): never => {
  throw new VfioError('EINVAL', fix, { fix });
};

/** Loads the code that suggests values when a suggestion is wanted. */
const sources = () => import('./completion/sources.ts');

/** One of `choices`. */
export const oneOf = (choices: readonly string[]): ValueKind => ({ choices });

/** A whole number in [min, max]. */
export function integer(min: number, max: number): ValueKind {
  return {
    parse: (text) => {
      const value = /^(0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : Number.NaN;
      return value >= min && value <= max ? value : wrong(`Give a number from ${min} to ${max}.`);
    },
  };
}

/**
 * Decimal, or hexadecimal with 0x. The value stays text, since its number of digits may mean
 * something.
 */
export const numeral: ValueKind = {
  parse: (text) =>
    /^(0x[0-9a-f]+|\d+)$/i.test(text) && Number.isSafeInteger(Number(text)) ? text : wrong('Give a number such as 12 or 0x0c.'),
};

/** Seconds, also with a fraction. */
export const seconds: ValueKind = {
  parse: (text) => {
    const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
    return value > 0 && value <= 86_400 ? value : wrong('Give seconds, more than 0 and up to 86400.');
  },
};

const UNITS_NS: Readonly<Record<string, number>> = { s: 1e9, ms: 1e6, us: 1e3, µs: 1e3, ns: 1 };

/** A time, which is nanoseconds: seconds without a unit. */
export const moment: ValueKind = {
  parse: (text) => {
    const [, number = '', unit = 's'] = /^(\d+(?:\.\d+)?)(s|ms|us|µs|ns)?$/.exec(text) ?? [];
    return number === '' ? wrong('Give a time such as 1.5, 20ms or 300us.') : Number(number) * UNITS_NS[unit]!;
  },
};

/** Names with commas between them. */
export const names: ValueKind = { parse: (text) => text.split(',').map((name) => name.trim()) };

/** Bytes, as text that parseSize() takes. */
export const size: ValueKind = { parse: (text) => parseSize(text) };

/** `kind`, or `unlimited`, which is Infinity. */
export const orUnlimited = (kind: ValueKind): ValueKind => ({
  parse: (text) => {
    if (text === 'unlimited') return Number.POSITIVE_INFINITY;
    try {
      return kind.parse?.(text) ?? text;
    } catch (error) {
      if (error instanceof VfioError) wrong(`${(error.fix ?? error.message).replace(/\.$/, '')}, or unlimited.`);
      throw error;
    }
  },
  suggest: async () => [{ value: 'unlimited' }],
});

/** A function's address in canonical form, 0000:03:00.0. */
export const bdf: ValueKind = {
  parse: (text) => parseBdf(text),
  suggest: async (_word, typed) => (await sources()).functions(typed),
};

/** The number of a group of this computer. */
export const group: ValueKind = {
  ...integer(0, 0x7fff_ffff),
  suggest: async () => (await sources()).groupsOfComputer(),
};

/** The number of a group; an address, which then is the device of the command. */
export const groupOrBdf: ValueKind = {
  parse: (text) =>
    /^\d{1,9}$/.test(text) ? Number(text) : isBdf(text) ? parseBdf(text) : wrong('Give the number of a group, such as 12.'),
};

/** A file whose name ends in one of `endings`; any file without them. */
export const file = (...endings: readonly string[]): ValueKind => ({
  suggest: async (word) => (await sources()).paths(word, endings),
});

export const directory: ValueKind = { suggest: async (word) => (await sources()).paths(word, ['/']) };
export const machineFile = file('.yaml', '.yml');
export const codeFile = file('.ts', '.mts', '.js', '.mjs');

/** A machine file, or the directory where a machine is served. */
export const machine: ValueKind = { suggest: async (word) => (await sources()).paths(word, ['.yaml', '.yml']) };

/** A machine file, a served machine, or a recording of a computer. */
export const hostSource: ValueKind = {
  suggest: async (word) => (await sources()).paths(word, ['.yaml', '.yml', '.txt', '.lspci', '.tar', '.gz', '.xz', '.bz2', '.zst']),
};

/** The same, or a function of this computer. */
export const hostSourceOrBdf: ValueKind = {
  suggest: async (word, typed) => [...(await bdf.suggest!(word, typed)), ...(await hostSource.suggest!(word, typed))],
};

/** The directory where a machine is served, or the socket of one function. */
export const servedMachine: ValueKind = {
  suggest: async (word) => [...(await (await sources()).sockets(word)), ...(await sources()).paths(word, ['/'])],
};

/** `unix:PATH`. */
export const socket: ValueKind = { suggest: async (word) => (await sources()).sockets(word) };

/** A device of any kind. */
export const address: ValueKind = {
  parse: (text) => {
    parseAddress(text);
    return text;
  },
  suggest: async (word, typed) => (await sources()).addresses(word, typed),
};

/** An address, or a file with a dump. */
export const addressOrDump: ValueKind = {
  parse: (text) => (looksLikeFile(text) ? text : address.parse!(text)),
  suggest: async (word, typed) => [...(await address.suggest!(word, typed)), ...(await sources()).paths(word, ['.txt', '.hex', '.lspci'])],
};

/** A device to serve: a model of the package, a file with one, or a machine file. */
export const servable: ValueKind = {
  suggest: async (word) => [
    ...(await (await sources()).models()),
    ...(await sources()).paths(word, ['.ts', '.mts', '.js', '.mjs', '.yaml', '.yml']),
  ],
};

/** A device to plug in: a model of the package, or a file with one. */
export const pluggable: ValueKind = {
  suggest: async (word) => [...(await (await sources()).models()), ...(await codeFile.suggest!(word, nothingTyped))],
};

const nothingTyped: Typed = { options: new Map(), words: [] };

/** A driver of this computer or of a machine's host, or `none`. */
export const driver: ValueKind = {
  parse: (text) => (isDriverName(text) ? text : wrong('Give the name of a driver, such as vfio-pci, or none.')),
  suggest: async (_word, typed) => (await sources()).drivers(typed),
};
