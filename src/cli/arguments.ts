/** Arguments that several commands take, checked while the command line is read: what is none of these ends with the status of wrong usage. */
import { InvalidArgumentError, Option } from 'commander';
import { looksLikeFile, parseAddress } from '../api/address.ts';
import { VfioError } from '../base/errno.ts';
import { parseSize } from '../base/size.ts';
import { parseBdf } from '../pci/bdf.ts';

/** The machine a command works on: `--machine FILE`, or the environment. */
export const machineOption = () => new Option('-m, --machine <file>', 'the machine that the address is in').env('VFIO_MACHINE');

/** One function of a dump of several. */
export const selectOption = () => new Option('-s, --select <bdf>', 'one function of a dump that holds several').argParser(bdf);

/** Decimal, or hexadecimal with 0x. Stays text: how many digits it has may mean something. */
export function numeral(text: string): string {
  if (/^(0x[0-9a-f]+|\d+)$/i.test(text) && Number.isSafeInteger(Number(text))) return text;
  throw new InvalidArgumentError('Give a number such as 12 or 0x0c.');
}

/** A parser of whole numbers in [min, max]. */
export function integer(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = /^(0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : Number.NaN;
    if (value >= min && value <= max) return value;
    throw new InvalidArgumentError(`Give a number from ${min} to ${max}.`);
  };
}

/** Seconds, with a fraction if wanted. */
export function seconds(text: string): number {
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  if (value > 0 && value <= 86_400) return value;
  throw new InvalidArgumentError('Give seconds, more than 0 and up to 86400.');
}

/** Bytes, as text that parseSize() takes. */
export function bytes(text: string): number {
  return checked(() => parseSize(text));
}

/** The canonical form, 0000:03:00.0. */
export function bdf(text: string): string {
  return checked(() => parseBdf(text));
}

export function address(text: string): string {
  checked(() => parseAddress(text));
  return text;
}

/** One or more of them, as a variadic argument collects them. */
export function addresses(text: string, before: readonly string[] = []): string[] {
  return [...before, address(text)];
}

/** An address, or a file with a dump. */
export function addressOrDump(text: string): string {
  return looksLikeFile(text) ? text : address(text);
}

function checked<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (error instanceof VfioError) throw new InvalidArgumentError(error.fix ?? `${error.message}.`);
    throw error;
  }
}
