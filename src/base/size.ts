/**
 * Sizes as people write them: `4096`, `4K`, `1.5G`, `10GiB`, `0x1000`. Command line, addresses,
 * machine files and device declarations share this grammar.
 */
import { VfioError } from './errno.ts';

const GRAMMAR = /^(?:0x[0-9a-f]{1,14}|(\d{1,16}(?:\.\d{1,6})?)([KMGT]?)(?:(?<=[KMGT])iB)?)$/i;

/** The grammar as a pattern of JSON schema, which knows no flag for lower case. */
export const SIZE_PATTERN = '^(0[xX][0-9a-fA-F]+|[0-9]+([.][0-9]+)?([kKmMgGtT]([iI][bB])?)?)$';

type Unit = 'K' | 'M' | 'G' | 'T';

/** Sizes as a type: '4096', '4K', '4k', '4KiB'. */
export type SizeText = `${number}${'' | Unit | Lowercase<Unit> | `${Unit}iB`}`;

/** The word "give" precedes this text in an error. */
export const SIZE_FORMS = 'a size such as 4096, 4K, 1.5G or 0x1000';

/**
 * The number of bytes that a text names, decimal or hexadecimal. Behind a decimal number, K, M, G
 * and T (or KiB … TiB, in either case) are powers of 1024.
 *
 * @returns NaN for text that is not a size, is not a whole number of bytes, or is 2^53 or more
 */
export function sizeOf(text: string): number {
  const match = GRAMMAR.exec(text);
  if (match === null) return Number.NaN;
  const [, number = text, unit = ''] = match;
  const bytes = Number(number) * 1024 ** ' KMGT'.indexOf(unit === '' ? ' ' : unit.toUpperCase());
  return Number.isSafeInteger(bytes) ? bytes : Number.NaN;
}

/**
 * Like `sizeOf`, for input that must be a size.
 *
 * @param name the option or argument, for the error
 * @throws VfioError EINVAL
 */
export function parseSize(text: string, name = 'the size'): number {
  const bytes = sizeOf(text);
  if (!Number.isNaN(bytes)) return bytes;
  throw new VfioError('EINVAL', `${name} is '${text.slice(0, 40)}', which is not a size in bytes`, { fix: `Give ${SIZE_FORMS}.` });
}
